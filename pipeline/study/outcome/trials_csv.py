"""All trials of a study as one CSV file."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.serving.spreadsheets import cell, write_csv
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.wording import swept_keys

ALWAYS = ("trial", "state", "reason", "started", "ended")


def write_trials(path: Path, rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Write a line a trial: its end, its values, what was varied, what else is on record.

    A text that a spreadsheet would run as a formula is kept from it by an apostrophe.
    """
    swept = swept_keys(rows)
    taken = {*ALWAYS, *objectives, *swept}
    others = sorted({key for row in rows for key in row.attributes} - taken)
    header = [cell(name) for name in (*ALWAYS, *objectives, *swept, *others)]
    lines = [
        [
            row.number,
            row.state,
            row.reason or "",
            _moment(row.started),
            _moment(row.ended),
            *_values(row, len(objectives)),
            *(cell(row.overrides.get(key, "")) for key in swept),
            *(_plain(row.attributes.get(key)) for key in others),
        ]
        for row in rows
    ]
    write_csv(path, header, lines)


def _values(row: Row, count: int) -> list[float | str]:
    return [*row.values, *([""] * (count - len(row.values)))]


def _moment(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, int | float):
        return value
    return cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
