"""Rows that a model has never seen, read from a file as the training read its own."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.data.schema import Schema
from pipeline.serving.blocks import Block, sliced

FILE = "file"
"""Heading of the pictures' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How new rows are taken.

    Args:
        id: Column of a table that names its rows; None = that of the training, where it is there.
        unknown: What becomes of a category that training never saw.
        missing: What becomes of an empty cell in a column that had none in training.
    """

    id: str | None = None
    unknown: Literal["other", "refuse"] = "other"
    missing: Literal["refuse", "impute"] = "refuse"


@dataclass(slots=True, kw_only=True)
class Found:
    """What was met on the way, complete once all blocks have been read.

    Args:
        unknown: Cells by column whose category was counted as another.
        missing: Cells by column that were filled in.
        ignored: Columns that the model does not know.
        gaps: Where steps of a series are missing, in words.
    """

    unknown: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    ignored: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewRows:
    """A file that has been opened.

    Args:
        heading: Of the column of names; None = the rows have none.
        blocks: The rows in their order, each block but the last of the size that was asked for.
        found: Grows while the blocks are read.
        total: Rows in all; None = nobody knows before the end.
    """

    heading: str | None
    blocks: Iterator[Block]
    found: Found = field(default_factory=Found)
    total: int | None = None


def new_rows(path: Path, schema: Schema, rules: Rules, *, size: int) -> NewRows:
    """Open a file of new rows: a table, arrays, a picture or a folder of pictures.

    Args:
        path: Of the kind that the schema's `reading` says; a series is read elsewhere, at once.
        schema: Of the trained model.
        rules: How to take them.
        size: Rows a block.

    Raises:
        DataError: The file can't be used, or, when its block is read, a row.
    """
    if schema.reading["kind"] == "table":
        from pipeline.serving.table_rows import opened_table

        return opened_table(path, schema, rules, size=size)
    from pipeline.data.reading_arrays import names_of_new, read_new

    raw, names = read_new(path, schema), names_of_new(path, schema)
    return NewRows(
        heading=None if names is None else FILE,
        blocks=sliced(raw, names, size=size),
        total=len(raw),
    )
