"""Reads a series from a DataFrame."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.columns import Layout
from pipeline.data.series_file.recorded import ROW, Recorded, recorded
from pipeline.data.series_file.times import TimeColumn
from pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

WHAT = "the frame"
_MIDNIGHT = " 00:00:00"


def with_times(frame: "pd.DataFrame", time: str | None) -> "pd.DataFrame":
    """Return the frame with its times as a column where they are its index."""
    if time is None or time in frame.columns:
        return frame
    if frame.index.name == time or frame.index.dtype.kind == "M":
        return frame.rename_axis(time).reset_index()
    return frame


def recorded_in_frame(frame: "pd.DataFrame", layout: Layout, *, sort: bool) -> Recorded:
    """Read the columns of a layout.

    Raises:
        DataError: Names the first row and column that can't be used.
    """
    labels = None if layout.time is None else _labels(frame[layout.time].tolist())
    values = {name: _numbers(frame[name], name) for name in layout.values}
    return recorded(TimeColumn(file=WHAT, column=layout.time or ROW), labels, values, sort=sort)


def _labels(cells: list[Any]) -> list[str | None]:
    labels = [_label(cell) for cell in cells]
    if all(label is None or label.endswith(_MIDNIGHT) for label in labels):
        return [label and label.removesuffix(_MIDNIGHT) for label in labels]
    return labels


def _label(cell: Any) -> str | None:
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN and NaT alone are unequal to themselves
        return None
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return cell.isoformat() if isinstance(cell, date) else str(cell).strip()


def _numbers(column: "pd.Series[Any]", name: str) -> NDArray[np.float64]:
    values = np.full(len(column), np.nan)
    for row, cell in enumerate(column.tolist()):
        if _label(cell):
            values[row] = _number(cell, row, name)
    return values


def _number(cell: Any, row: int, name: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError) as error:
        place = TimeColumn(file=WHAT, column=name).of(row)
        raise DataError(f"{place}: {cell!r} is no number; expected one, such as 1.5") from error
