"""Compares what a page shows with what a command printed, wherever and whenever that ran."""

import re
from collections.abc import Sequence

LEFT_OUT = "…"
MOMENT = (
    (re.compile(r"\b\d+:\d\d(:\d\d)?\b|\b\d+(\.\d+)? s\b"), "TIME"),
    (re.compile(r"\d{8}-\d{6}-([\w.-]+)-[0-9a-f]{6}"), r"MOMENT-\1-ID"),
    (re.compile(r"/runs/[0-9a-f]{32}\b"), "/runs/ID"),
    (re.compile(r"· (cpu|gpu|mps)\b[^·]*, (\d+ threads?), \d+ cores?"), r"· DEVICE, \2"),
    (re.compile(r"(?<=difference from the model )\d[\d.e-]*"), "ROUNDING"),
    (re.compile(r"\(\d+\)|\bepoch \d+ of"), "EPOCH"),  # which epoch is best may be luck
)
"""What belongs to one moment or one machine, with the word that stands for it."""
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?\b")


def blocks(page: str, language: str) -> list[str]:
    """The contents of a page's fenced blocks of one language."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", page, flags=re.M | re.S)


def differences(shown: str, printed: str, *, tolerance: float) -> list[str]:
    """Say where the printed lines are not those shown; a line `…` stands for any lines.

    Args:
        shown: Lines of a page.
        printed: Lines of a command.
        tolerance: Largest difference of a decimal number; whole numbers are equal.
    """
    left = [line for line in printed.splitlines() if line.strip()]
    found: list[str] = []
    skipping = False
    for line in filter(str.strip, shown.splitlines()):
        if line.strip() == LEFT_OUT:
            skipping = True
            continue
        end = len(left) if skipping else 1
        place = next((n for n in range(end) if _alike(line, left[n : n + 1], tolerance)), None)
        if place is None:
            found.append(f"shown:   {line}\nprinted: {left[0] if left else '(nothing)'}")
        left = left[(place or 0) + 1 :]
        skipping = False
    if left and not skipping:
        found.append(f"not shown: {left[0]}")
    return found


def _alike(shown: str, printed: Sequence[str], tolerance: float) -> bool:
    if not printed:
        return False
    (ours, decimals), (theirs, others) = _read(shown), _read(printed[0])
    near = (abs(one - other) <= tolerance for one, other in zip(decimals, others, strict=False))
    return ours == theirs and all(near)


def _read(line: str) -> tuple[str, list[float]]:
    """Return a line with words in place of its decimal numbers, and these."""
    text = line.strip()
    for pattern, word in MOMENT:
        text = pattern.sub(word, text)
    decimals = [float(number) for number in DECIMAL.findall(text)]
    return " ".join(DECIMAL.sub("DECIMAL", text).split()), decimals
