"""Times of a series: their written form, their positions, their step and the times that follow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError, some
from pipeline.data.parsing.tables.file import CellLocation
from pipeline.data.source import Indices

Kind = Literal["whole", "year", "month", "day", "moment"]
Unit = Literal["number", "month", "weekday", "clock"]
Numbers = NDArray[np.int64]

EXPECTED = (
    "YYYY, YYYY-MM, YYYY-MM-DD, DD.MM.YYYY, DD/MM/YYYY, MM/DD/YYYY, YYYY-MM-DD HH:MM[:SS][zone] or "
    "a whole number"
)
MICROSECONDS_A_DAY = 86_400 * 10**6
IRREGULAR = "irregular"
#: Least share of distances that equal the step; the others must be multiples of it.
REGULAR_SHARE = 0.5
#: Names of columns that hold times, though their cells may be numbers.
COLUMN_NAMES = {"time", "date", "datetime", "timestamp", "year", "ds"}
#: Most gaps in a note before "…".
NAMED = 3

_EPOCH = datetime(1970, 1, 1)  # local time, whatever its zone
_SIGNS = ("rule", "between", "zone", "tail", "digits")
_NUMBER = r"\d\d|(?<=\D)\d"  # one digit only behind a separator
_DAY = rf"(?P<year>\d{{4}})(?P<rule>[-/.]?)(?P<month>{_NUMBER})(?P=rule)(?P<day>{_NUMBER})"
_DAY_FIRST = r"(?P<day>\d\d?)(?P<rule>[./])(?P<month>\d\d?)(?P=rule)(?P<year>\d{4})"
_MONTH_FIRST = r"(?P<month>\d\d?)(?P<rule>/)(?P<day>\d\d?)/(?P<year>\d{4})"
_DATES = (_DAY, _DAY_FIRST, _MONTH_FIRST)
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
_MOMENT = rf"(?P<between>[T ]){_CLOCK} ?(?P<zone>Z|[+-]\d\d:?\d\d|)"
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    *(("moment", re.compile(f"{day}{_MOMENT}")) for day in _DATES),
    *(("day", re.compile(day)) for day in _DATES),
    ("month", re.compile(r"(?P<year>\d{4})(?P<rule>[-/])(?P<month>\d\d)")),
    ("year", re.compile(r"(?P<year>[12]\d{3})(?P<tail>\.0+)?")),
    ("whole", re.compile(r"(?P<number>-?\d{1,15})(?P<tail>\.0+)?")),
)
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
class TimeForm:
    """Form in which times are written.

    Args:
        kind: Kind of the times.
        order: Order of year, month and day, one of `ORDERS`.
        rule: Separator of year, month and day.
        between: Separator of day and clock.
        decimals: Digits after the second; -1 = the clock has no seconds.
        zone: Offset from UTC as it is written; empty = none.
        tail: Text after a whole number or a year, such as `.0`.
        digits: Least digits of month and day, 1 or 2; empty = both are above 9.
    """

    kind: Kind
    order: str = "ymd"
    rule: str = ""
    between: str = ""
    decimals: int = -1
    zone: str = ""
    tail: str = ""
    digits: str = ""

    @property
    def is_clock(self) -> bool:
        """Whether positions count microseconds, not months or numbers."""
        return self.kind in ("day", "moment")

    @property
    def is_slashed(self) -> bool:
        """Whether only other dates of the form say which number is the day."""
        return self.rule == "/" and self.order != "ymd"

    def written(self, position: int) -> str:
        """Return a position as it is written in this form."""
        if self.kind == "whole":
            return f"{position}{self.tail}"
        year, month = divmod(position, 12)
        if self.kind == "year":
            return f"{year:04d}{self.tail}"
        if self.kind == "month":
            return f"{year:04d}{self.rule}{month + 1:02d}"
        moment = _EPOCH + timedelta(microseconds=position)
        parts = {"y": moment.year, "m": moment.month, "d": moment.day}
        digits = {"y": 4, "m": int(self.digits or 2), "d": int(self.digits or 2)}
        text = self.rule.join(f"{parts[sign]:0{digits[sign]}d}" for sign in self.order)
        if self.kind == "day":
            return text
        text += f"{self.between}{moment:%H:%M}"
        if self.decimals >= 0:
            text += f":{moment:%S}"
        if self.decimals > 0:
            text += f".{moment:%f}000"[: self.decimals + 1]
        return text + self.zone


def form_and_position(
    label: str, *, only: Kind | None = None, order: str = ""
) -> tuple[TimeForm, int] | None:
    """Return the form and position of a label, or `None` if it is not a time (of the kind `only`).

    The position of a day or moment is in microseconds since 1970, in local time; that of a year or
    month is in months since the year 0; that of a number is the number itself. `order` is that of
    dates such as 01/02/2020; empty = dmy if that is a date, else mdy.
    """
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(label) if only in (None, kind) else None
        if match is None:
            continue
        parts = match.groupdict(default="")
        first_group = next(iter(parts))
        pattern_order = {"day": "dmy", "month": "mdy"}.get(first_group, "ymd")
        if parts.get("rule") == "/" and pattern_order not in ("ymd", order or pattern_order):
            continue
        numbers = (parts.get("month", "10"), parts.get("day", "10"))
        parts["digits"] = "".join({str(len(number)) for number in numbers if int(number) < 10})
        if len(parts["digits"]) > 1:  # such as 1/05/2020
            continue
        position = _position(kind, parts)
        if position is not None:
            decimals = len(parts.get("fraction", "")) if parts.get("second") else -1
            signs = (parts.get(key, "") for key in _SIGNS)
            return _form(kind, pattern_order, decimals, *signs), position
    return None


@lru_cache  # a file has few forms
def _form(kind: Kind, order: str, decimals: int, *signs: str) -> TimeForm:
    fields = dict(zip(_SIGNS, signs, strict=True))
    return TimeForm(kind=kind, order=order, decimals=decimals, **fields)


def _position(kind: Kind, parts: dict[str, str]) -> int | None:
    if kind == "whole":
        return int(parts["number"])
    year = int(parts["year"])
    month = int(parts.get("month", 1))
    if kind in ("year", "month"):
        return year * 12 + month - 1 if 1 <= month <= 12 else None
    hour, minute, second = (int(parts.get(key) or 0) for key in ("hour", "minute", "second"))
    micro = int(parts.get("fraction", "").ljust(6, "0")[:6])
    try:
        moment = datetime(year, month, int(parts["day"]), hour, minute, second, micro)
    except ValueError:  # such as 30 February
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """Times of a series: labels (time,), their common form and their positions (time,).

    Positions are microseconds since 1970, months since the year 0, or numbers, by the form.
    """

    labels: tuple[str, ...]
    positions: Numbers
    form: TimeForm


def find_column(columns: Mapping[str, Sequence[str | None]], used: Sequence[str]) -> str | None:
    """Return the first column that looks like times, of those without repetition if possible.

    `columns` are the first cells of each column, and `used` the columns that hold values.
    """
    first = next(iter(columns), None) if len(columns) > 1 else None
    candidates = []
    for name, cells in columns.items():
        if name not in used and _looks_like_times(name, cells, is_first=name == first):
            candidates.append(name)
    for name in candidates:
        if len(set(columns[name])) == len(columns[name]):
            return name
    return next(iter(candidates), None)


def _looks_like_times(name: str, cells: Sequence[str | None], *, is_first: bool) -> bool:
    parsed = [form_and_position(cell or "") for cell in cells]
    if not parsed or parsed[0] is None:
        return False
    form, _ = parsed[0]
    if form.rule:  # a date with separators, which is not a number
        return True
    if name.lower() in COLUMN_NAMES:
        return True
    if not is_first or None in parsed:
        return False
    # Three or more numbers that rise by the same step count the rows.
    steps = np.diff([position for _, position in filter(None, parsed)])
    return len(steps) > 1 and bool((steps == steps[0]).all() and steps[0] > 0)


def read_times(
    labels: Sequence[str | None], place: CellLocation, column: str, *, order: str = ""
) -> Times:
    """Read labels of one form; `order` is that of dates such as 01/02/2020, empty = not known.

    Raises:
        DataError: A label is empty, not a time, of another form, or ambiguous.
    """
    parsed = [form_and_position(label or "", order=order) for label in labels]
    if not order:
        slashed = []
        for index, time in enumerate(parsed):
            if time is not None and time[0].is_slashed:
                slashed.append(index)
        order_of_slashed = _order_of(labels, slashed, place, column) if slashed else ""
        if order_of_slashed:
            return read_times(labels, place, column, order=order_of_slashed)
    kinds = {(form.kind, form.rule) for form, _ in filter(None, parsed)}
    if len(kinds) > 1 and kinds <= {("whole", ""), ("year", ""), ("day", "")}:
        # These are numbers, some of which look like years or days.
        parsed = [form_and_position(label or "", only="whole") for label in labels]
    if None in parsed:
        index = parsed.index(None)
        cell = place.cell(index, column)
        if not labels[index]:
            raise DataError(f"{cell} is empty; expected a time. Fill it in or drop the row")
        example = f", such as {labels[0]!r} in the first row" if index else ""
        raise DataError(f"{cell}: {labels[index]!r} is not a time; expected {EXPECTED}{example}")
    forms, positions = zip(*filter(None, parsed), strict=True)
    return Times(
        labels=tuple(map(str, labels)),
        positions=np.array(positions, dtype=np.int64),
        form=_common_form(forms, labels, place, column),
    )


def _common_form(
    forms: Sequence[TimeForm], labels: Sequence[str | None], place: CellLocation, column: str
) -> TimeForm:
    """Return the form of all labels, (time,). Raises DataError if two of them differ."""
    first = forms[0]
    distinct = dict.fromkeys(forms)
    digits = next((form.digits for form in distinct if form.digits), "")
    common = replace(first, decimals=0, tail="", digits=digits)
    for form in distinct:
        index = forms.index(form)
        cell = f"{place.cell(index, column)}: {labels[index]!r}" if index else ""
        if form.zone != first.zone:
            raise DataError(
                f"{cell} has zone {form.zone or 'none'!r} and {labels[0]!r} has "
                f"{first.zone or 'none'!r}; expected one zone. Write all times in UTC, as "
                "2020-01-31 12:00Z"
            )
        if replace(form, decimals=0, tail="", digits=form.digits or digits) != common:
            raise DataError(
                f"{cell} differs in format from {labels[0]!r} in the first row; expected one "
                "format for all times"
            )
    return replace(common, decimals=max(form.decimals for form in distinct), tail=first.tail)


def _order_of(
    labels: Sequence[str | None], slashed: Sequence[int], place: CellLocation, column: str
) -> str:
    """Return the order of dates such as 01/02/2020, by days above 12 or else by even steps.

    It is empty if no order makes all of them dates.
    """
    dates = [labels[index] or "" for index in slashed]
    orders = []
    for order in ("dmy", "mdy"):
        if all(form_and_position(date, order=order) for date in dates):
            orders.append(order)
    if len(orders) == 2:  # such as the first days of months
        even_orders = []
        for order in orders:
            if _has_even_steps(read_times(labels, place, column, order=order)):
                even_orders.append(order)
        orders = even_orders
        if len(orders) != 1:
            raise DataError(
                f"{place.cell(slashed[0], column)}: {labels[slashed[0]]!r} is ambiguous "
                "(day/month?), since no day of the column is above 12 and the steps are even in "
                "both orders or in neither; set data.dayfirst=true or data.dayfirst=false"
            )
    return next(iter(orders), "")


def _has_even_steps(times: Times) -> bool:
    if not (np.diff(times.positions) > 0).all():
        return False
    step = find_step(times)
    return step is not None and not missing_told(times, step)


def in_order(times: Times, place: CellLocation, column: str, *, sort: bool) -> Indices:
    """Return the order in which the times ascend, (time,).

    Raises:
        DataError: A time occurs twice, or times are not in order and `sort` is false.
    """
    order: Indices = np.argsort(times.positions, kind="stable")
    sorted_positions = times.positions[order]
    repeated = np.flatnonzero(np.diff(sorted_positions) == 0)
    if len(repeated):
        first, second = order[repeated[0] : repeated[0] + 2].tolist()
        distance = "1 row" if second - first == 1 else f"{second - first} rows"
        raise DataError(
            f"{place.cell(second, column)}: {times.labels[second]!r} repeats the time "
            f"{distance} above; expected unique times. Keep "
            "one of the two, or put each series into its own columns or file"
        )
    if sort:
        return order
    steps_back = np.flatnonzero(np.diff(times.positions) < 0)
    if len(steps_back):
        index = int(steps_back[0]) + 1
        raise DataError(
            f"{place.cell(index, column)}: {times.labels[index]!r} comes after "
            f"{times.labels[index - 1]!r}; expected the oldest first. Sort them with "
            "data.sort=true"
        )
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Distance from a time to the next, in numbers, months, weekdays or microseconds.

    Weekdays leave out Saturdays and Sundays.
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
    """Return the step of a text such as `1 month`; `None` for irregular times."""
    if text == IRREGULAR:
        return None
    number, _, word = text.partition(" ")
    for name, unit, size in _SIZES:
        if word.removesuffix("s") == name:
            return Step(unit=unit, count=int(number) * size)
    return Step(unit="number", count=int(number))


def season_of(reading: Mapping[str, Any]) -> int | None:
    """Return the number of steps in a season of a series; `None` if its step has none.

    A season is a year of months, quarters or weeks, a week of days, a day of hours or minutes.
    """
    step = step_of(str(reading.get("step", IRREGULAR)))
    if step is None or step.unit == "number":
        return None
    if step.unit == "weekday":
        return 5
    if step.unit == "clock" and step.count in (MICROSECONDS_A_DAY, 7 * MICROSECONDS_A_DAY):
        return 7 if step.count == MICROSECONDS_A_DAY else 52
    cycle = 12 if step.unit == "month" else MICROSECONDS_A_DAY
    return cycle // step.count if step.count < cycle and cycle % step.count == 0 else None


def find_step(times: Times) -> Step | None:
    """Return the common step of ascending times, or `None` if they have none."""
    units: tuple[Unit, ...] = ("number",) if times.form.kind == "whole" else ("month",)
    for unit in ("month", "weekday", "clock") if times.form.is_clock else units:
        numbers = _numbered(times, unit)
        if numbers is None or len(numbers) < 2:
            continue
        distances, counts = np.unique(np.diff(numbers), return_counts=True)
        step = Step(unit=unit, count=int(distances[counts.argmax()]))
        if unit == "weekday":  # only for daily times that skip a weekend
            days = np.diff(times.positions) // MICROSECONDS_A_DAY
            if step.count != 1 or not (days > np.diff(numbers)).any():
                continue
        if fits(times, step):
            return step
    return None


def fits(times: Times, step: Step) -> bool:
    """Return whether ascending times have this step, apart from gaps of whole steps."""
    numbers = _numbered(times, step.unit)
    if numbers is None or len(numbers) < 2:
        return numbers is not None
    distances = np.diff(numbers)
    is_step = distances == step.count
    return bool(is_step.mean() >= REGULAR_SHARE and not (distances % step.count).any())


def missing_told(times: Times, step: Step | None) -> list[str]:
    """Return a message, in a list, on missing steps; empty if there are none, or no step."""
    if step is None:
        return []
    numbers = _numbered(times, step.unit)
    assert numbers is not None, "the times have this step"
    missing = np.diff(numbers) // step.count - 1
    indices = np.flatnonzero(missing)
    if not len(indices):
        return []
    steps = f"steps of {step} are" if missing.sum() > 1 else f"step of {step} is"
    gaps = [f"{missing[index]} after {times.labels[index]}" for index in indices[: NAMED + 1]]
    return [
        f"{missing.sum()} {steps} missing: {some(gaps, most=NAMED)}; a window treats "
        "the rows on both sides as neighbours"
    ]


def labels_after(times: Times, step: Step | None, count: int) -> tuple[str, ...]:
    """Return the labels of the next `count` times; without a step, they are `+1`, `+2`, …."""
    if step is None:
        return tuple(f"+{number}" for number in range(1, count + 1))
    steps = step.count * np.arange(1, count + 1)
    positions = times.positions[-1] + steps
    if times.form.is_clock and step.unit != "clock":
        dates, clocks = _dates(times)
        if step.unit == "month":
            months = dates[-1].astype("datetime64[M]") + steps
            following = _in_month(months, _day_of_month(dates))
        else:
            following = np.busday_offset(dates[-1], steps, roll="preceding")
        positions = following.astype(np.int64) * MICROSECONDS_A_DAY + clocks[-1]
    return tuple(times.form.written(int(position)) for position in positions)


def _numbered(times: Times, unit: Unit) -> Numbers | None:
    """Return ascending times as numbers of a unit; `None` if they don't lie on its grid."""
    if not times.form.is_clock or unit == "clock":
        return times.positions
    dates, clocks = _dates(times)
    if not len(dates) or (clocks != clocks[0]).any():
        return None
    if unit == "weekday":
        weekdays: Numbers = np.busday_count("1970-01-01", dates).astype(np.int64)
        return weekdays if np.is_busday(dates).all() else None
    months = dates.astype("datetime64[M]")
    on_grid = (_in_month(months, _day_of_month(dates)) == dates).all()
    numbers: Numbers = months.astype(np.int64)
    return numbers if on_grid and (np.diff(numbers) > 0).all() else None


def _dates(times: Times) -> tuple[NDArray[np.datetime64], Numbers]:
    """Return the dates of times, and the remaining microseconds of each."""
    days, clocks = np.divmod(times.positions, MICROSECONDS_A_DAY)
    return days.astype("datetime64[D]"), clocks


def _day_of_month(dates: NDArray[np.datetime64]) -> int:
    """Return the day of the month that all dates share; 31 if it is always the last day."""
    months = dates.astype("datetime64[M]")
    if (_in_month(months, 31) == dates).all():
        return 31
    return int((dates - months.astype("datetime64[D]")).astype(np.int64).max()) + 1


def _in_month(months: NDArray[np.datetime64], day: int) -> NDArray[np.datetime64]:
    """Return the dates of a day in each month; in shorter months, of the last day."""
    first = months.astype("datetime64[D]")
    last = (months + 1).astype("datetime64[D]") - 1
    dates: NDArray[np.datetime64] = np.minimum(first + (day - 1), last)
    return dates
