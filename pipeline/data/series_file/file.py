"""Reads a series from a CSV or Parquet file, a batch of rows at a time."""

from pathlib import Path

import numpy as np

from pipeline.data.series_file.columns import Cells, Layout, find_layout
from pipeline.data.series_file.recorded import ROW, Recorded, recorded
from pipeline.data.series_file.times import TimeColumn
from pipeline.data.source import Array
from pipeline.data.tables.cells import numbers
from pipeline.data.tables.file import Place, batches, column_names

OTHERWISE = "or name the columns of values alone: data.columns=[…]"
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
        place = Place(file=str(path), first_row=row, sep=sep)
        if layout.time is not None:
            labels += batch.column(layout.time).to_pylist()
        for name, read in blocks.items():
            cells = batch.column(name)
            read.append(numbers(cells, column=name, place=place, otherwise=OTHERWISE))
    return recorded(
        TimeColumn(file=str(path), column=layout.time or ROW, sep=sep),
        labels if layout.time is not None else None,
        {name: np.concatenate(read) for name, read in blocks.items()},
        sort=sort,
    )
