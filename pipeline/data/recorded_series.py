"""A series as it is recorded in a file or a DataFrame: its columns, times, values and holes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.source import Array, Indices
from pipeline.data.tables.cells import MISSING, all_numbers, numbers
from pipeline.data.tables.file import Place, batches, column_names
from pipeline.data.times import (
    IRREGULAR,
    Step,
    Times,
    find_step,
    form_and_position,
    in_order,
    missing_steps,
    read_times,
)
from pipeline.errors import DataError, did_you_mean, some

if TYPE_CHECKING:
    import pandas as pd

Cells = Sequence[str | None]
Filling = Literal["refuse", "previous", "linear"]
Values = NDArray[np.float64]

TIME_NAMES = {"time", "date", "datetime", "timestamp", "year", "ds"}
OTHERWISE = "or name the columns of values alone: data.columns=[…]"
LOOKED_AT = 1000
"""Rows from which is told what a column holds."""
NAMED = 3
"""Gaps in a note before "…"."""
ROW = "row"
"""Stands for the column of times where there is none."""
FRAME = "the frame"
MIDNIGHT = " 00:00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Columns by what they are for.

    Args:
        time: Column of the times; None = each row is a step.
        values: Columns of the values, in the order of the channels.
        targets: Those to predict.
    """

    time: str | None
    values: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.values if self.time is None else (self.time, *self.values)


def layout_of(path: Path, wanted: Layout, *, sep: str | None) -> Layout:
    """Find out which columns of a file hold times and values.

    Args:
        path: CSV or Parquet.
        wanted: The user's words: no time = to be found, no values = all others, no targets = all.
        sep: Sign between the cells of a CSV; None = found.

    Raises:
        DataError: A column is not there, is named twice, or holds no numbers.
    """
    first: dict[str, Cells] = {name: [] for name in column_names(path, sep=sep)}
    for _, batch in batches(path, sep=sep):
        first = {name: batch.column(name)[:LOOKED_AT].to_pylist() for name in first}
        break
    if problems := list(_unknown(path, wanted, list(first))):
        raise DataError(*problems)
    time = wanted.time or _find_time(first, (*wanted.values, *wanted.targets))
    values = wanted.values or tuple(name for name in first if name != time)
    if not wanted.values:
        _require_numbers(path, {name: first[name] for name in values})
    if not values:
        raise DataError(f"{path} has one column, {time!r}, of times; expected one of values beside")
    if time in values:
        raise DataError(f"{time!r} is both data.time and one of data.columns; expected one of both")
    for name in wanted.targets:
        if name not in values:
            raise DataError(
                f"data.targets={name} is not among the values {', '.join(values)}; expected one of "
                "them, since what is predicted is also what the network sees"
            )
    return Layout(time=time, values=values, targets=wanted.targets or values)


def _unknown(path: Path, wanted: Layout, names: Sequence[str]) -> Iterator[str]:
    times = () if wanted.time is None else (wanted.time,)
    for key, given in (("time", times), ("columns", wanted.values), ("targets", wanted.targets)):
        for name in dict.fromkeys(given):
            if name not in names:
                yield (
                    f"data.{key}={name} is no column of {path}; its columns are "
                    f"{', '.join(names)}.{did_you_mean(name, names)}"
                )
            elif given.count(name) > 1:
                yield f"data.{key} names {name!r} twice; expected each column once"


def _require_numbers(path: Path, values: Mapping[str, Cells]) -> None:
    words = {name: [c for c in cells if c and c not in MISSING] for name, cells in values.items()}
    numeric = [name for name in values if any(all_numbers([cell]) for cell in words[name])]
    for name in values:
        if name not in numeric and words[name]:
            raise DataError(
                f"{path}: column {name!r} holds no numbers but {words[name][0]!r}, …; name the "
                f"columns of values, as data.columns=[{','.join(numeric) or '…'}], or that of the "
                "times, as data.time=NAME"
            )


def _find_time(first: Mapping[str, Cells], taken: Sequence[str]) -> str | None:
    """Return the column that looks like times: the first one that names each time once."""
    found = [
        name
        for position, (name, cells) in enumerate(first.items())
        if name not in taken
        and _looks_like_times(name, cells, is_first=not position and len(first) > 1)
    ]
    unique = [name for name in found if len(set(first[name])) == len(first[name])]
    return next(iter([*unique, *found]), None)


def _looks_like_times(name: str, cells: Cells, *, is_first: bool) -> bool:
    read = [form_and_position(cell or "") for cell in cells]
    if not read or read[0] is None:
        return False
    if read[0][0].rule:  # a date that can't be taken for a number
        return True
    known = [one[1] for one in read if one is not None]
    steps = np.diff(known)
    # At least three numbers that rise by the same step count the rows.
    counts_up = len(known) == len(read) and len(steps) > 1 and (steps == steps[0]).all()
    return name.lower() in TIME_NAMES or bool(is_first and counts_up and steps[0] > 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """Values in time, oldest first.

    Args:
        place: What holds them, for messages.
        layout: Its columns.
        times: (time,)
        values: (time, channels), NaN = missing.
        rows: (time,) positions of the rows in the file, counted from 0.
    """

    place: Place
    layout: Layout
    times: Times
    values: Values
    rows: Indices

    @property
    def step(self) -> Step | None:
        """How far apart the times are; None = irregular."""
        return find_step(self.times)


def recorded_in(path: Path, layout: Layout, *, sep: str | None, sort: bool) -> Recorded:
    """Read the columns of a layout from a CSV or Parquet file, a batch of rows at a time.

    Args:
        path: The file.
        layout: Its columns.
        sep: Sign between the cells of a CSV; None = found.
        sort: Whether rows may be put in order.

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
    values = [np.concatenate(read) for read in blocks.values()]
    return _recorded(Place(file=str(path), sep=sep), layout, labels, values, sort=sort)


def recorded_in_frame(frame: pd.DataFrame, layout: Layout, *, sort: bool) -> Recorded:
    """Read the columns of a layout from a DataFrame: see `recorded_in`."""
    labels: list[str | None] = []
    if layout.time is not None:
        labels = [_label(cell) for cell in frame[layout.time].tolist()]
        if all(label is None or label.endswith(MIDNIGHT) for label in labels):
            labels = [label and label.removesuffix(MIDNIGHT) for label in labels]
    place = Place(file=FRAME)
    values = [_numbers(frame[name].tolist(), name, place) for name in layout.values]
    return _recorded(place, layout, labels, values, sort=sort)


def with_times(frame: pd.DataFrame, time: str | None) -> pd.DataFrame:
    """Return the frame with its times as a column where they are its index."""
    if time is None or time in frame.columns:
        return frame
    if frame.index.name == time or frame.index.dtype.kind == "M":
        return frame.rename_axis(time).reset_index()
    return frame


def _label(cell: Any) -> str | None:
    if cell is None or cell != cell:  # noqa: PLR0124 - NaN and NaT alone are unequal to themselves
        return None
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return cell.isoformat() if isinstance(cell, date) else str(cell).strip()


def _numbers(cells: list[Any], column: str, place: Place) -> Values:
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if not _label(cell):
            continue
        try:
            values[row] = float(cell)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{place.cell(row, column)}: {cell!r} is no number; expected one, such as 1.5"
            ) from error
    return values


def _recorded(
    place: Place,
    layout: Layout,
    labels: Sequence[str | None],
    values: Sequence[Array],
    *,
    sort: bool,
) -> Recorded:
    """Put rows in order and check them; without a column of times they are numbered from 1."""
    table = np.column_stack(values)
    if not len(table):
        raise DataError(f"{place.file} has 0 rows; expected a row a time, the oldest first")
    column = layout.time or ROW
    if layout.time is None:
        labels = [str(row) for row in range(1, len(table) + 1)]
    times = read_times(labels, place, column)
    order = in_order(times, place, column, sort=sort)
    return Recorded(
        place=place,
        layout=layout,
        times=times.taken(order),
        values=table[order],
        rows=order,
    )


def described(series: Recorded) -> str:
    """Say how many times there are, from when to when, and how far apart."""
    labels, step = series.times.labels, series.step
    column = f" (column {series.layout.time!r})" if series.layout.time else ", a row each"
    step_text = IRREGULAR if step is None else f"step {step}"
    return f"{len(labels)} times from {labels[0]} to {labels[-1]}, {step_text}{column}"


def irregularities(series: Recorded) -> list[str]:
    """Say where steps are missing, or that the times have no step."""
    file = series.place.file
    if series.step is not None:
        return [f"{file}: {line}" for line in missing_told(series.times, series.step)]
    return [
        f"{file}: the times of column {series.layout.time!r} have no common step; a window counts "
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


def without_holes(series: Recorded, missing: Filling) -> tuple[Values, list[str]]:
    """Refuse or fill missing values as far as the past alone allows.

    Args:
        series: NaN = missing.
        missing: `linear` leaves them for `filled`, which knows where the parts end.

    Returns:
        Values (time, channels), and what was done.

    Raises:
        DataError: Names the first missing value, and how many there are.
    """
    holes = np.isnan(series.values)
    if not holes.any():
        return series.values, []
    if missing == "refuse":
        index, channel = np.argwhere(holes)[0]
        count = int(holes.sum())
        others = f", one of {count} such cells" if count > 1 else ""
        raise DataError(
            f"{_cell(series, index, channel)} is empty{others}; expected a number. Fill it in, or "
            "let data.missing=previous (the last value before) or data.missing=linear (a line to "
            "the next value) do so"
        )
    for channel in np.flatnonzero(holes[0]):
        known = np.flatnonzero(~holes[:, channel])
        instead = f"the {known[0]} rows before its first value" if len(known) else "this column"
        raise DataError(
            f"{_cell(series, 0, int(channel))} is empty and nothing comes before it to fill it; "
            f"leave out {instead}"
        )
    notes = _told(series, holes, missing)
    if missing == "linear":
        return series.values, notes
    return filled(series.values, missing, borders=()), notes


def filled(values: Array, missing: Filling, *, borders: Sequence[int]) -> Values:
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
            holes = start + np.flatnonzero(np.isnan(channel[start:end]))
            before = known[known < end]
            if missing == "linear":
                channel[holes] = np.interp(holes, before, channel[before])
            else:
                channel[holes] = channel[before[np.searchsorted(before, holes) - 1]]
            start = end
    return whole


def _cell(series: Recorded, index: int, channel: int) -> str:
    return series.place.cell(int(series.rows[index]), series.layout.values[channel])


def _told(series: Recorded, holes: NDArray[np.bool_], missing: Filling) -> list[str]:
    how = {
        "previous": "with the last value before (data.missing=previous)",
        "linear": "on a line to the next value of their part (data.missing=linear), which looks "
        "ahead within training, validation and test, never from one into another",
    }[missing]
    return [
        f"{series.place.file}: empty cells of column {series.layout.values[channel]!r} "
        f"({holes[:, channel].sum()}, the first at "
        f"{series.times.labels[holes[:, channel].argmax()]}) are filled {how}"
        for channel in np.flatnonzero(holes.any(0))
    ]
