"""A series as it is recorded: times that rise, values beside them, all of it checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.steps import IRREGULAR, Step, find_step, missing_steps
from pipeline.data.series_file.times import TimeColumn, Times, in_order, read_times
from pipeline.data.source import Array, Indices
from pipeline.errors import DataError, some

ROW = "row"
"""Stands for the column of times where there is none."""
NAMED = 3
"""Gaps in a note before "…"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Values in time, oldest first.

    Args:
        file: What holds them, for messages.
        time: Column of the times; None = each row is a step.
        times: (time,)
        values: (time, channels), NaN = missing.
        names: (channels,)
        rows: (time,) positions of the rows in the file, counted from 0.
        sep: Sign between the cells of the file; None = found.
    """

    file: str
    time: str | None
    times: Times
    values: NDArray[np.float64]
    names: tuple[str, ...]
    rows: Indices
    sep: str | None = None

    def place(self, index: int, channel: int) -> str:
        """Name a cell."""
        place = TimeColumn(file=self.file, column=self.names[channel], sep=self.sep)
        return place.of(int(self.rows[index]))

    @property
    def step(self) -> Step | None:
        """How far apart the times are; None = irregular."""
        return find_step(self.times)


def recorded(
    place: TimeColumn,
    labels: Sequence[str | None] | None,
    values: Mapping[str, Array],
    *,
    sort: bool,
) -> Recorded:
    """Put rows in order and check them.

    Args:
        place: Where the times stand.
        labels: (rows,) their times; None = they are numbered from 1.
        values: The channels (rows,) by name, NaN = missing.
        sort: Whether rows may be put in order.

    Raises:
        DataError: Names the first row whose time or value can't be used.
    """
    table = np.column_stack([np.asarray(one, dtype=np.float64) for one in values.values()])
    if not len(table):
        raise DataError(f"{place.file} has 0 rows; expected a row a time, the oldest first")
    numbered = [str(row) for row in range(1, len(table) + 1)]
    times = read_times(numbered if labels is None else labels, place)
    order = in_order(times, place, sort=sort)
    return Recorded(
        file=place.file,
        time=None if labels is None else place.column,
        times=times.taken(order),
        values=table[order],
        names=tuple(values),
        rows=order,
        sep=place.sep,
    )


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
    named = [f"{missing[gap]} after {times.labels[gap]}" for gap in gaps[: NAMED + 1]]
    return [
        f"{missing.sum()} steps of {step} are missing: {some(named, most=NAMED)}; a window "
        "takes the rows on both sides for neighbours"
    ]
