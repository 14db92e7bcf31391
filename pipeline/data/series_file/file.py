"""Reads a series from a CSV or Parquet file, a batch of rows at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.series_file.columns import Cells, Layout, find_layout
from pipeline.data.series_file.recorded import ROW, Recorded, recorded
from pipeline.data.series_file.times import Place
from pipeline.data.source import Array
from pipeline.data.tables.cells import are_numbers, numbers, present
from pipeline.data.tables.delimited import batches, column_names
from pipeline.data.tables.records import shown
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED_AT = 1000
"""Rows from which is told what a column holds."""


def layout_of(path: Path, wanted: Layout, *, sep: str | None) -> Layout:
    """Find out which columns hold times and values.

    Raises:
        DataError: A column is not there, or holds no numbers.
    """
    first: dict[str, Cells] = {name: [] for name in column_names(path, sep=sep)}
    for _, batch in batches(path, sep=sep):
        first = {name: batch.column(name)[:LOOKED_AT].to_pylist() for name in first}
        break
    return find_layout(str(path), first, wanted)


def recorded_in(path: Path, layout: Layout, *, sep: str | None, sort: bool) -> Recorded:
    """Read the columns of a layout.

    Raises:
        DataError: Names the first row and column that can't be used.
    """
    labels: list[str | None] = []
    blocks: dict[str, list[Array]] = {name: [np.empty(0)] for name in layout.values}
    for row, batch in batches(path, sep=sep, columns=layout.columns):
        if layout.time is not None:
            labels += batch.column(layout.time).to_pylist()
        for name, read in blocks.items():
            place = Place(file=str(path), column=name, sep=sep)
            read.append(_numbers(batch.column(name), place, first_row=row))
    return recorded(
        Place(file=str(path), column=layout.time or ROW, sep=sep),
        labels if layout.time is not None else None,
        {name: np.concatenate(read) for name, read in blocks.items()},
        sort=sort,
    )


def _numbers(cells: "pa.Array", place: Place, *, first_row: int) -> Array:
    file, name = place.file, place.column
    try:
        return numbers(cells, column=name, file=file, first_row=first_row, sep=place.sep)
    except DataError as error:
        texts = present(cells)
        row = int(np.argmin(are_numbers(texts)))
        if are_numbers(texts[row : row + 1]).all():
            raise
        raise DataError(
            f"{place.of(first_row - 1 + row)}: {shown(texts[row].as_py())} is no number; expected "
            "one, such as 1.5, or an empty cell. If the column holds no values, name those that do "
            "with data.columns=[…]"
        ) from error
