"""The step of a series: how far apart its times are, where some are missing, and what follows."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.forms import MICROSECONDS_A_DAY
from pipeline.data.series_file.times import Times

Unit = Literal["number", "month", "weekday", "clock"]
Numbers = NDArray[np.int64]

IRREGULAR = "irregular"
REGULAR_SHARE = 0.5
"""Share of the distances that must be the step itself; the others are holes of whole steps."""

_SIZES: tuple[tuple[str, Unit, int], ...] = (
    ("year", "month", 12),
    ("month", "month", 1),
    ("weekday", "weekday", 1),
    ("day", "clock", MICROSECONDS_A_DAY),
    ("hour", "clock", 3_600 * 10**6),
    ("minute", "clock", 60 * 10**6),
    ("second", "clock", 10**6),
    ("millisecond", "clock", 1000),
    ("microsecond", "clock", 1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The distance between a time and the next.

    Args:
        unit: What is counted; `weekday` leaves Saturdays and Sundays out.
        count: How many of it: numbers, months, weekdays or microseconds.
    """

    unit: Unit
    count: int

    def __str__(self) -> str:
        for word, unit, size in _SIZES:
            if unit == self.unit and self.count % size == 0:
                number = self.count // size
                return f"{number} {word}{'s' if number > 1 else ''}"
        return str(self.count)


def step_of(text: str) -> Step | None:
    """Return the step that was written as `1 month`; `None` for irregular times."""
    if text == IRREGULAR:
        return None
    number, _, word = text.partition(" ")
    for name, unit, size in _SIZES:
        if word.removesuffix("s") == name:
            return Step(unit=unit, count=int(number) * size)
    return Step(unit="number", count=int(number))


def find_step(times: Times) -> Step | None:
    """Find the step of times in rising order; `None` where there is none."""
    for unit in _units(times):
        numbers = numbered(times, unit)
        if numbers is None or len(numbers) < 2:
            continue
        distances, counts = np.unique(np.diff(numbers), return_counts=True)
        step = Step(unit=unit, count=int(distances[counts.argmax()]))
        explained = unit != "weekday" or _only_weekends_are_left_out(times, step)
        if explained and fits(times, step):
            return step
    return None


def fits(times: Times, step: Step) -> bool:
    """Tell whether times in rising order have this step, apart from holes of whole steps."""
    numbers = numbered(times, step.unit)
    if numbers is None or len(numbers) < 2:
        return numbers is not None
    distances = np.diff(numbers)
    is_step = distances == step.count
    return bool(is_step.mean() >= REGULAR_SHARE and not (distances % step.count).any())


def numbered(times: Times, unit: Unit) -> Numbers | None:
    """Number the times by a unit, in rising order; `None` where they don't lie on its grid."""
    if not times.form.is_clock or unit == "clock":
        return times.positions
    days, rest = np.divmod(times.positions, MICROSECONDS_A_DAY)
    if not len(days) or (rest != rest[0]).any():
        return None
    dates = days.astype("datetime64[D]")
    if unit == "month":
        months = dates.astype("datetime64[M]")
        on_grid = (_in_month(months, _day_of_month(dates)) == dates).all()
        numbers: Numbers = months.astype(np.int64)
        return numbers if on_grid and (np.diff(numbers) > 0).all() else None
    return _weekdays(dates)


def missing_steps(times: Times, step: Step) -> Numbers:
    """Return how many steps are missing before each time but the first, (time - 1,)."""
    numbers = numbered(times, step.unit)
    assert numbers is not None
    missing: Numbers = np.diff(numbers) // step.count - 1
    return missing


def labels_after(times: Times, step: Step | None, count: int) -> tuple[str, ...]:
    """Return the labels of the times that follow the last one, in the form of the others.

    Args:
        times: In rising order, at least one.
        step: Their step; None = the following times are numbered `+1`, `+2`, ….
        count: How many.
    """
    if step is None:
        return tuple(f"+{number}" for number in range(1, count + 1))
    steps = step.count * np.arange(1, count + 1)
    following = _positions_after(times, step, steps)
    return tuple(times.form.written(int(position)) for position in following)


def _positions_after(times: Times, step: Step, steps: Numbers) -> Numbers:
    last = times.positions[-1]
    if not times.form.is_clock or step.unit == "clock":
        after: Numbers = last + steps
        return after
    days, rest = np.divmod(times.positions, MICROSECONDS_A_DAY)
    dates = days.astype("datetime64[D]")
    if step.unit == "month":
        following = _in_month(dates[-1].astype("datetime64[M]") + steps, _day_of_month(dates))
    else:
        following = np.busday_offset(dates[-1], steps, roll="preceding")
    positions: Numbers = following.astype(np.int64) * MICROSECONDS_A_DAY + rest[-1]
    return positions


def _units(times: Times) -> tuple[Unit, ...]:
    if times.form.is_clock:
        return ("month", "weekday", "clock")
    return ("number",) if times.form.kind == "whole" else ("month",)


def _day_of_month(dates: NDArray[np.datetime64]) -> int:
    """Return the day that all dates have in their months, 31 where it is always the last one."""
    months = dates.astype("datetime64[M]")
    if (_in_month(months, 31) == dates).all():
        return 31
    return int((dates - months.astype("datetime64[D]")).astype(np.int64).max()) + 1


def _in_month(months: NDArray[np.datetime64], day: int) -> NDArray[np.datetime64]:
    """Return a day of each month, the last one where the month is shorter."""
    first = months.astype("datetime64[D]")
    last = (months + 1).astype("datetime64[D]") - 1
    dates: NDArray[np.datetime64] = np.minimum(first + (day - 1), last)
    return dates


def _weekdays(dates: NDArray[np.datetime64]) -> Numbers | None:
    numbers: Numbers = np.busday_count("1970-01-01", dates).astype(np.int64)
    return numbers if np.is_busday(dates).all() else None


def _only_weekends_are_left_out(times: Times, step: Step) -> bool:
    """Tell whether times on weekdays are daily ones that leave out a weekend at least once."""
    numbers = numbered(times, "weekday")
    days = np.diff(times.positions) // MICROSECONDS_A_DAY
    return step.count == 1 and numbers is not None and bool((days > np.diff(numbers)).any())
