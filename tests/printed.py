"""Compares what a page shows with what a command printed, wherever and whenever that ran."""

import re
from collections.abc import Sequence
from typing import NamedTuple

LEFT_OUT = "…"
MOMENT = (
    (re.compile(r"\b\d+:\d\d(:\d\d)?\b|\b\d+(\.\d+)? s\b"), "TIME"),
    (re.compile(r"\d{8}-\d{6}-([\w.-]+)-[0-9a-f]{6}"), r"MOMENT-\1-ID"),
    (re.compile(r"/runs/[0-9a-f]{32}\b"), "/runs/ID"),
    (re.compile(r"· (cpu|gpu|mps)\b[^·]*, (\d+ threads?), \d+ cores?"), r"· DEVICE, \2"),
    (re.compile(r"\(\d+\)|\bepoch \d+ of"), "EPOCH"),  # which epoch is best may be luck
    (re.compile(r"[━─╇┳┻┡┏┓┩└┴┘┛┗]+"), "RULE"),
)
"""What belongs to one moment or one machine, with the word that stands for it."""
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?\b")
COUNT = re.compile(r"(?<=│)\s*\d+\s*(?=│)")
COUNT_TOLERANCE = 25


class _Line(NamedTuple):
    """A line with words in place of its numbers, and the numbers."""

    text: str
    decimals: list[float]
    counts: list[float]


def blocks(page: str, language: str) -> list[str]:
    """The contents of a page's fenced blocks of one language."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", page, flags=re.M | re.S)


def differences(shown: str, printed: str, *, tolerance: float) -> list[str]:
    """Say where the printed lines are not those shown; a line `…` stands for any lines.

    Args:
        shown: Lines of a page.
        printed: Lines of a command.
        tolerance: Largest difference of a decimal number; counts in a table may differ by
            `COUNT_TOLERANCE`, all other numbers by nothing.
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
    ours, theirs = _read(shown), _read(printed[0])
    return (
        ours.text == theirs.text
        and _near(ours.decimals, theirs.decimals, tolerance)
        and _near(ours.counts, theirs.counts, COUNT_TOLERANCE)
    )


def _near(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(ours, theirs, strict=True))


def _read(line: str) -> _Line:
    text = line.strip()
    for pattern, word in MOMENT:
        text = pattern.sub(word, text)
    head, separator, cells = _after_label(text)
    decimals = [float(number) for number in DECIMAL.findall(cells)]
    cells = DECIMAL.sub("DECIMAL", cells)
    counts = [float(number) for number in COUNT.findall(cells)]
    cells = COUNT.sub(" COUNT ", cells)
    return _Line(" ".join(f"{head}{separator}{cells}".split()), decimals, counts)


def _after_label(text: str) -> tuple[str, str, str]:
    """Keep the first cell of a table's row apart: it says which row this is."""
    if not text.startswith("│"):
        return "", "", text
    head, separator, cells = text[1:].partition("│")
    return head, separator, f"│{cells}" if separator else ""
