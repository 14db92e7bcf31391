"""Trials as text: what was varied, how they ended, and all of them as a CSV file."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.markup import MISSING
from pipeline.serving.sheets import cell, write_csv
from pipeline.study.ledger.rows import ENDS, Row, count_ends
from pipeline.study.trial_end import COUNTED_FAILURES, RETRIED
from pipeline.terminal import number

OFF = "off"
COUNTED = ("complete", "pruned", *COUNTED_FAILURES, "running")
UNCOUNTED = (*RETRIED, "waiting")
CSV_COLUMNS = ("trial", "state", "reason", "started", "ended")
_NUMBER = re.compile(r"-?\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)


def counts_line(rows: Sequence[Row]) -> str:
    """Count the trials: `100 trials: 92 complete, 5 pruned, 2 diverged, 1 failed`.

    Interrupted, lost and waiting trials are not part of the total and follow it.
    """
    counts = count_ends(rows)
    ends = [end for end in COUNTED if counts[end]]
    total = sum(counts[end] for end in ends)
    line = f"{total} trial{'' if total == 1 else 's'}"
    if ends:
        line += f": {', '.join(f'{counts[end]} {ENDS.get(end, end)}' for end in ends)}"
    beside = [f"{counts[end]} {end}" for end in UNCOUNTED if counts[end]]
    return f"{line}; beside these {' and '.join(beside)}" if beside else line


def end_word(row: Row) -> str:
    """Return how a trial ended, or how far it is, in a word or two."""
    (end,) = count_ends([row])
    return ENDS.get(end, end)


def swept_keys(rows: Iterable[Row]) -> list[str]:
    """Return the keys that any trial varies, in the order of their first use."""
    return list(dict.fromkeys(key for row in rows for key in row.overrides))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole key where two end alike."""
    keys = list(keys)
    last = {key: re.split(r"[./]", key)[-1] for key in keys}
    counts = Counter(last.values())
    return {key: last[key] if counts[last[key]] == 1 else key for key in keys}


def shown_text(text: str | None) -> str:
    """Return a swept value for a table: null is `off`, a number has four significant digits."""
    if text is None:
        return MISSING
    if text == "null":
        return OFF
    if _NUMBER.fullmatch(text) and not text.lstrip("-").isdigit():
        return f"{float(text):.4g}"
    return text


def point_words(overrides: Mapping[str, str], names: Mapping[str, str] | None = None) -> str:
    """Return a point of the space on one line: `lr=0.0032 max_epochs=20 gradient_clip_val=off`.

    Args:
        overrides: Texts by key.
        names: Short name of each key; `None` = those that `short_names` gives.
    """
    names = short_names(overrides) if names is None else names
    return " ".join(f"{names[key]}={shown_text(text)}" for key, text in overrides.items())


def value_words(values: Sequence[float], objectives: Sequence[str]) -> str:
    """Return the values of a trial: `val/f1 0.8312, model/parameters 5,210`."""
    pairs = zip(objectives, values, strict=True)
    return ", ".join(f"{name} {number(value)}" for name, value in pairs)


def write_trials(path: Path, rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Write all trials as CSV: end, values, what was varied, then all other attributes.

    An apostrophe keeps a spreadsheet from running a text as a formula.
    """
    swept = swept_keys(rows)
    taken = {*CSV_COLUMNS, *objectives, *swept}
    others = sorted({key for row in rows for key in row.attributes} - taken)
    header = [cell(name) for name in (*CSV_COLUMNS, *objectives, *swept, *others)]
    lines = [
        [
            row.number,
            row.state,
            row.reason or "",
            _instant(row.started),
            _instant(row.ended),
            *row.values,
            *([""] * (len(objectives) - len(row.values))),
            *(cell(row.overrides.get(key, "")) for key in swept),
            *(_plain(row.attributes.get(key, "")) for key in others),
        ]
        for row in rows
    ]
    write_csv(path, header, lines)


def _instant(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    return cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
