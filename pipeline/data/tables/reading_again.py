"""The rows of a new table for a trained model: its columns by name, its categories, its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.encode import UNKNOWN, Code
from pipeline.data.schema import Schema
from pipeline.data.source import Array
from pipeline.data.tables.cells import codes, numbers
from pipeline.data.tables.delimited import require_columns
from pipeline.data.tables.labels import NO_CLASS, Labels
from pipeline.data.tables.location import Place
from pipeline.data.tables.records import shown
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

Unknown = Literal["other", "refuse"]
Missing = Literal["refuse", "impute"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """What a batch of a new table says to a trained model.

    Args:
        raw: float64 (rows, columns), in the order of the training table.
        ids: Name of each row, from the column that named them in training; None = there is none.
        unknown: Cells with a category that training never saw, by column.
        missing: Empty cells that will be filled in, by column.
        targets: int64 (rows,) classes or float64 (rows, 1) values; None = the batch has none.
        ignored: Columns that the model does not know.
    """

    raw: Array
    ids: list[str] | None
    unknown: dict[str, int]
    missing: dict[str, int]
    targets: Array | None
    ignored: tuple[str, ...]


def rows_of(
    batch: pa.RecordBatch,
    schema: Schema,
    *,
    file: str,
    first_row: int,
    unknown: Unknown = "other",
    missing: Missing = "refuse",
) -> Rows:
    """Read a batch of texts as the table that a schema was made from.

    Args:
        batch: Its columns may come in any order, and further ones may stand between them.
        schema: Of the trained model.
        file: Name of the file, or of whatever else the rows came in.
        first_row: Number of the first row, counted from 1.
        unknown: Whether a category that training never saw counts as `other`.
        missing: Whether an empty cell is filled in where no training row had one; a column that
            had some is filled in as in training, whatever this says.

    Raises:
        DataError: A column is missing (names all), or a cell can't be used (row and column).
    """
    place = Place(file=file, first_row=first_row, sep=schema.reading.get("sep"))
    known = _codes(schema)
    wanted = [code.name for code in known]
    require_columns(file, batch.schema.names, wanted, needed="the model was trained on")
    columns = [_column(batch.column(code.name), code, place) for code in known]
    for code, column in zip(known, columns, strict=True):
        if unknown == "refuse":
            _refuse_unknown(column, batch.column(code.name), code, place)
        if not _may_be_missing(code, schema, missing):
            _refuse_missing(column, code, place)
    target, named = schema.reading.get("target"), schema.reading.get("id")
    used = {*(code.name for code in known), target, named}
    return Rows(
        raw=np.stack(columns, axis=1),
        ids=_ids(batch, named),
        unknown=_counted(known, [column == UNKNOWN for column in columns], levelled=True),
        missing=_counted(known, [np.isnan(column) for column in columns], levelled=False),
        targets=_targets(batch, target, schema, place),
        ignored=tuple(name for name in batch.schema.names if name not in used),
    )


def class_indices(
    cells: pa.Array, schema: Schema, *, file: str = "the table", first_row: int = 1
) -> NDArray[np.int64]:
    """Return the classes of a new file's target in the order of a trained model's, int64 (rows,).

    Raises:
        DataError: A cell is empty or names no class: says where and which.
    """
    place = Place(file=file, first_row=first_row, sep=schema.reading.get("sep"))
    column = schema.label or "target"
    found = Labels(schema.classes).indices(cells, column=column, place=place)
    if (found == NO_CLASS).any():
        _refuse_hole(int((found == NO_CLASS).argmax()), column, place)
    return found


def _codes(schema: Schema) -> tuple[Code, ...]:
    """Return the columns of a table; features without an encoder are columns of numbers."""
    if schema.encoder is not None:
        return schema.encoder.codes
    return tuple(
        Code(name=name, levels=(), kept=(), other=False, fill=0.0, has_holes=False)
        for name in schema.features
    )


def _column(cells: pa.Array, code: Code, place: Place) -> Array:
    if code.is_category:
        return codes(cells, code)
    return numbers(
        cells, column=code.name, file=place.file, first_row=place.first_row, sep=place.sep
    )


def _may_be_missing(code: Code, schema: Schema, missing: Missing) -> bool:
    return schema.encoder is not None and (code.has_holes or missing == "impute")


def _refuse_missing(column: Array, code: Code, place: Place) -> None:
    holes = np.isnan(column)
    if holes.any():
        raise DataError(
            f"{place.cell(int(holes.argmax()), code.name)}: the cell is empty, and no training "
            "row had an empty one there; fill it in, or have it filled in as in training: "
            "missing=impute"
        )


def _refuse_unknown(column: Array, cells: pa.Array, code: Code, place: Place) -> None:
    strangers = column == UNKNOWN
    if code.is_category and strangers.any():
        position = int(strangers.argmax())
        text = cells[position].as_py()
        raise DataError(
            f"{place.cell(position, code.name)}: {shown(text)} is no category of the training "
            f"table; unknown=other counts it as other.{did_you_mean(text, code.levels)}"
        )


def _refuse_hole(position: int, column: str, place: Place) -> None:
    raise DataError(f"{place.cell(position, column)}: the cell is empty; expected what is true")


def _counted(
    known: Sequence[Code], marked: Sequence[NDArray[np.bool_]], *, levelled: bool
) -> dict[str, int]:
    """Count the marked cells of each column that has some."""
    counts = {
        code.name: int(marks.sum())
        for code, marks in zip(known, marked, strict=True)
        if code.is_category or not levelled
    }
    return {name: count for name, count in counts.items() if count}


def _ids(batch: pa.RecordBatch, named: str | None) -> list[str] | None:
    if named not in batch.schema.names:
        return None
    return [text or "" for text in batch.column(named).to_pylist()]


def _targets(
    batch: pa.RecordBatch, target: str | None, schema: Schema, place: Place
) -> Array | None:
    if target not in batch.schema.names:
        return None
    cells = batch.column(target)
    if schema.classes:
        return class_indices(cells, schema, file=place.file, first_row=place.first_row)
    values = numbers(
        cells, column=str(target), file=place.file, first_row=place.first_row, sep=place.sep
    )
    if np.isnan(values).any():
        _refuse_hole(int(np.isnan(values).argmax()), str(target), place)
    return values.reshape(-1, 1)
