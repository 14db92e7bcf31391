"""A series as it is recorded: times that rise, values beside them, all of it checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.steps import IRREGULAR, Step, find_step, missing_steps
from pipeline.data.series_file.times import Place, Times, in_order, read_times
from pipeline.data.source import Array, Indices
from pipeline.errors import DataError

NAMED = 3
"""Gaps in a note before "…"."""
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Values in time, oldest first.

    Args:
        file: What holds them, for messages.
        time: Column of the times; None = each row is a step.
        times: (time,)
        values: (time, channels), NaN = missing.
        names: (channels,)
        rows: (time,) numbers of the rows in the file, counted from 1.
    """

    file: str
    time: str | None
    times: Times
    values: NDArray[np.float64]
    names: tuple[str, ...]
    rows: Indices

    def place(self, index: int, channel: int) -> str:
        """Name a cell."""
        return f"{self.file}: row {self.rows[index]}, column {self.names[channel]!r}"

    @property
    def step(self) -> Step | None:
        """How far apart the times are; None = irregular."""
        return find_step(self.times)


def recorded(
    file: str,
    labels: Sequence[str | None] | None,
    values: Array,
    names: tuple[str, ...],
    *,
    time: str | None,
    sort: bool,
) -> Recorded:
    """Put rows in order and check them.

    Args:
        file: What holds them, for messages.
        labels: (rows,) their times; None = they are numbered from 1.
        values: (rows, channels), NaN = missing.
        names: (channels,)
        time: Column of the times.
        sort: Whether rows may be put in order.

    Raises:
        DataError: Names the first row whose time or value can't be used.
    """
    if not len(values):
        raise DataError(f"{file} has 0 rows; expected a row a time, the oldest first")
    numbers = [str(row) for row in range(1, len(values) + 1)]
    place = Place(file=file, column=time or "row")
    times = read_times(numbers if labels is None else labels, place)
    order = in_order(times, place, sort=sort)
    found = Recorded(
        file=file,
        time=time,
        times=times.taken(order),
        values=np.asarray(values, dtype=np.float64)[order],
        names=names,
        rows=order + 1,
    )
    _require_usable_sizes(found)
    return found


def described(series: Recorded) -> str:
    """Say how many times there are, from when to when, and how far apart."""
    labels, step = series.times.labels, series.step
    column = f" (column {series.time!r})" if series.time else ", a row each"
    step_text = IRREGULAR if step is None else f"step {step}"
    return f"{len(labels)} times from {labels[0]} to {labels[-1]}, {step_text}{column}"


def irregularities(series: Recorded) -> list[str]:
    """Say where steps are missing, or that the times have no step."""
    if series.step is not None:
        return [f"{series.file}: {line}" for line in missing_told(series.times, series.step)]
    return [
        f"{series.file}: the times of column {series.time!r} have no common step; a window counts "
        "rows whatever lies between them, and the rows of a forecast are numbered +1, +2"
    ]


def missing_told(times: Times, step: Step) -> list[str]:
    """Say after which times steps are missing."""
    missing = missing_steps(times, step)
    gaps = np.flatnonzero(missing)
    if not len(gaps):
        return []
    named = ", ".join(f"{missing[gap]} after {times.labels[gap]}" for gap in gaps[:NAMED])
    more = ", …" if len(gaps) > NAMED else ""
    return [
        f"{missing.sum()} steps of {step} are missing: {named}{more}; a window takes the rows on "
        "both sides for neighbours"
    ]


def _require_usable_sizes(series: Recorded) -> None:
    too_large = np.abs(series.values) > LARGEST
    if too_large.any():
        index, channel = np.argwhere(too_large)[0]
        raise DataError(
            f"{series.place(index, channel)}: {series.values[index, channel]} is too large; "
            f"expected numbers up to {LARGEST:.1e}"
        )
