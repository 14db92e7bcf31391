"""All trials of a study as a file of CSV."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.serving.files import cell, write_csv
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.summary import swept_keys

COLUMNS = ("trial", "state", "reason", "started", "ended")


def write_trials(path: Path, rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Write all trials as CSV: how each ended, its values, its overrides, then other attributes.

    An apostrophe keeps a spreadsheet from evaluating a text as a formula.
    """
    swept = swept_keys(rows)
    columns = [*COLUMNS, *objectives, *swept]
    attributes = set[str]().union(*(row.attributes for row in rows))
    attribute_keys = sorted(attributes.difference(columns))
    columns += attribute_keys
    lines: list[Sequence[object]] = []
    for row in rows:
        reason = None if row.end is None else row.end.reason
        line: list[object] = [
            row.number,
            row.stage,
            reason,
            _instant(row.started),
            _instant(row.ended),
        ]
        line += [*row.values, *[None] * (len(objectives) - len(row.values))]
        line += [cell(row.overrides.get(key, "")) for key in swept]
        for key in attribute_keys:
            value = row.attributes.get(key)
            line.append(cell(value) if isinstance(value, str) else value)
        lines.append(line)
    write_csv(path, list(map(cell, columns)), lines)


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
