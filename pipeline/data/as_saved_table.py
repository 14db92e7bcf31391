"""A file's table in the terms of the model that was trained on another one like it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.as_saved import content_of_test
from pipeline.data.checks import check_reach, largest_by_column
from pipeline.data.content import Content
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.data.tables.delimited import batches, column_names, require_columns
from pipeline.data.tables.reading_again import rows_of
from pipeline.errors import DataError, some

NAMED = 5


def table_as_saved(path: Path, schema: Schema, *, sep: str | None, group: str | None) -> Content:
    """Read all rows of a table, with what is to be predicted, as content that is all test part.

    Categories that training never saw count as others, and empty cells are filled in as training
    has learned.

    Args:
        path: CSV or Parquet; its columns may come in any order.
        schema: Of the trained model.
        sep: Sign between the cells of a CSV; `None` = found.
        group: Column whose rows belong together; `None` = rows are independent. Where the table
            lacks it, a note says so.

    Raises:
        DataError: There is no row, a column is missing, or a cell can't be used.
    """
    there = column_names(path, sep=sep)
    require_columns(path, there, [str(schema.reading["target"])], needed="says what is true")
    unknown = Counter[str]()
    ignored: tuple[str, ...] = ()
    raw, targets, groups = [], [], []
    for first_row, batch in batches(path, sep=sep):
        rows = rows_of(batch, schema, file=str(path), first_row=first_row, missing="impute")
        assert rows.targets is not None  # its column is there
        raw.append(rows.raw)
        targets.append(rows.targets)
        unknown.update(rows.unknown)
        ignored = tuple(name for name in rows.ignored if name != group)
        if group in there:
            groups += batch.column(group).to_pylist()
    if not raw:
        raise DataError(f"{path} has a header and no rows; expected at least one")
    notes = [*_counted(unknown, "count as other, which training never saw")]
    if ignored:
        told = some(ignored, most=NAMED)
        notes.append(f"columns that the model does not know are ignored: {told}")
    if group is not None and group not in there:
        notes.append(
            f"there is no column {group!r}, so each row counts as independent of the others"
        )
    inputs, true = np.concatenate(raw), np.concatenate(targets)
    check_reach(schema, largest_by_column(inputs), true, what=str(path))
    return content_of_test(
        inputs,
        true,
        schema,
        notes=tuple(notes),
        groups=_numbers(groups) if groups else None,
    )


def _numbers(groups: Sequence[str | None]) -> Indices:
    """Return the number of each row's group; rows without a name are a group together."""
    place: dict[str | None, int] = {}
    return np.array([place.setdefault(name, len(place)) for name in groups], dtype=np.int64)


def _counted(cells: Mapping[str, int], what: str) -> list[str]:
    if not cells:
        return []
    words = [f"{count} in {name!r}" for name, count in cells.items()]
    return [f"{sum(cells.values())} cells {what}: {some(words, most=NAMED)}"]
