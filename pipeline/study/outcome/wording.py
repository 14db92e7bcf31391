"""How trials and what was varied in them are called."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pipeline.markup import MISSING
from pipeline.study.ledger.rows import ENDS, Row
from pipeline.study.trial_end import COUNTED_FAILURES, RETRIED
from pipeline.terminal import number

OFF = "off"
COUNTED = ("complete", "pruned", *COUNTED_FAILURES, "running")
UNCOUNTED = (*RETRIED, "waiting")

_NUMBER = re.compile(r"-?\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)


def counts_line(rows: Sequence[Row]) -> str:
    """Count the trials: `100 trials: 92 complete, 5 pruned, 2 diverged, 1 failed`.

    Trials that were interrupted or lost do not count as such, and are told behind them.
    """
    counts = Counter(map(_end, rows))
    told = [end for end in COUNTED if counts[end]]
    total = sum(counts[end] for end in told)
    line = f"{total} trial{'' if total == 1 else 's'}"
    if told:
        line += f": {', '.join(f'{counts[end]} {ENDS.get(end, end)}' for end in told)}"
    beside = [f"{counts[end]} {end}" for end in UNCOUNTED if counts[end]]
    return f"{line}; beside these {' and '.join(beside)}" if beside else line


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Call each key by its last part, where no other key ends alike."""
    keys = list(keys)
    last = {key: re.split(r"[./]", key)[-1] for key in keys}
    often = Counter(last.values())
    return {key: last[key] if often[last[key]] == 1 else key for key in keys}


def shown_text(text: str | None) -> str:
    """Write a swept value: null is off, a number has four significant digits."""
    if text is None:
        return MISSING
    if text == "null":
        return OFF
    if _NUMBER.fullmatch(text) and not text.lstrip("-").isdigit():
        return f"{float(text):.4g}"
    return text


def swept_keys(rows: Iterable[Row]) -> list[str]:
    """Return what was varied in any of the trials, in the order of its first use."""
    return list(dict.fromkeys(key for row in rows for key in row.overrides))


def point_words(overrides: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Write a point of the space in one line: `lr=0.0032 max_epochs=20 gradient_clip_val=off`."""
    return " ".join(f"{names[key]}={shown_text(text)}" for key, text in overrides.items())


def value_words(values: Sequence[float], objectives: Sequence[str]) -> str:
    """Write what a trial came to: `val/f1 0.8312, model/parameters 5,210`."""
    pairs = zip(objectives, values, strict=True)
    return ", ".join(f"{name} {number(value)}" for name, value in pairs)


def end_word(row: Row) -> str:
    """Say in a word or two how a trial ended, or how far it is."""
    return ENDS.get(_end(row), _end(row))


def _end(row: Row) -> str:
    return (row.reason or "error") if row.state == "failed" else row.state
