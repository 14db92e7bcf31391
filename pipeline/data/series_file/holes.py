"""Missing values of a series: refused by row and column, or filled in."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.recorded import Recorded
from pipeline.data.source import Array, Indices
from pipeline.errors import DataError

Missing = Literal["refuse", "previous", "linear"]
Values = NDArray[np.float64]


def without_holes(series: Recorded, missing: Missing) -> tuple[Recorded, list[str]]:
    """Refuse or fill missing values as far as the past alone allows.

    Args:
        series: NaN = missing.
        missing: `linear` leaves them for `filled`, which knows where the parts end.

    Returns:
        The series, and what was done.

    Raises:
        DataError: Names the first missing value, and how many there are.
    """
    holes = np.isnan(series.values)
    if not holes.any():
        return series, []
    if missing == "refuse":
        _refuse(series, holes)
    _require_a_beginning(series, holes)
    notes = _told(series, holes, missing)
    if missing == "linear":
        return series, notes
    return replace(series, values=filled(series.values, missing, borders=())), notes


def filled(values: Array, missing: Missing, *, borders: Sequence[int]) -> Values:
    """Fill the holes of values (time, channels), none of them at the beginning.

    Args:
        values: NaN = missing.
        missing: `refuse` leaves them; `previous` takes the last value before; `linear` goes
            straight from there to the next value, or stays where the part has none.
        borders: Times at which a part begins or ends; no line looks across them.
    """
    whole = np.array(values, dtype=np.float64)
    if missing == "refuse" or not np.isnan(whole).any():
        return whole
    ends = [*sorted({border for border in borders if 0 < border < len(whole)}), len(whole)]
    for channel in whole.T:
        known = np.flatnonzero(~np.isnan(channel))
        start = 0
        for end in [len(whole)] if missing == "previous" else ends:
            _fill(channel, known[known < end], start, end, missing)
            start = end
    return whole


def _fill(channel: Values, known: Indices, start: int, end: int, missing: Missing) -> None:
    """Fill channel[start:end] in place from the known times, all of them before `end`."""
    holes = start + np.flatnonzero(np.isnan(channel[start:end]))
    if missing == "linear":
        channel[holes] = np.interp(holes, known, channel[known])
    else:
        channel[holes] = channel[known[np.searchsorted(known, holes) - 1]]


def _refuse(series: Recorded, holes: NDArray[np.bool_]) -> None:
    index, channel = np.argwhere(holes)[0]
    count = int(holes.sum())
    others = f", one of {count} such cells" if count > 1 else ""
    raise DataError(
        f"{series.place(index, channel)} is empty{others}; expected a number. Fill it in, or let "
        "data.missing=previous (the last value before) or data.missing=linear (a line to the next "
        "value) do so"
    )


def _require_a_beginning(series: Recorded, holes: NDArray[np.bool_]) -> None:
    for channel in np.flatnonzero(holes[0]):
        known = np.flatnonzero(~holes[:, channel])
        instead = f"the {known[0]} rows before its first value" if len(known) else "this column"
        raise DataError(
            f"{series.place(0, int(channel))} is empty and nothing comes before it to fill it; "
            f"leave out {instead}"
        )


def _told(series: Recorded, holes: NDArray[np.bool_], missing: Missing) -> list[str]:
    how = {
        "previous": "with the last value before (data.missing=previous)",
        "linear": "on a line to the next value of their part (data.missing=linear), which looks "
        "ahead within training, validation and test, never from one into another",
    }[missing]
    return [
        f"{series.file}: empty cells of column {series.names[channel]!r} "
        f"({holes[:, channel].sum()}, the first at "
        f"{series.times.labels[holes[:, channel].argmax()]}) are filled {how}"
        for channel in np.flatnonzero(holes.any(0))
    ]
