"""Dates, each read as its parts: year, month, day, weekday and, with times of the day, hour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import CellKind, Fit, Grammar, Refused
from pipeline.data.parsing.cells.texts import Cells, Numbers, shown

Order = Literal["ymd", "dmy", "mdy"]
#: Orders of year, month and day in dates.
ORDERS: Sequence[Order] = ("ymd", "dmy", "mdy")
PARTS = ("year", "month", "day", "weekday", "hour")
#: Two digits of a year below this one follow 2000.
LATEST_YEAR = 70
EXAMPLE = "2024-05-31"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatePart(Grammar):
    """One part of dates.

    Args:
        order: Order of year, month and day.
        part: One of `PARTS`; weekdays count from 0, which is Monday.
    """

    order: Order
    part: str

    def read(self, cells: Cells) -> Numbers:
        """Return the part of each date, float64 (rows,), NaN = missing."""
        texts, places = cells.present().encoded()
        dates = [None if text is None else date_of(text, self.order) for text in texts]
        for index, text in enumerate(texts):
            if text and dates[index] is None:
                names = {"y": "year", "m": "month", "d": "day"}
                words = ", ".join(names[letter] for letter in self.order)
                problem = f"{shown(text)} is not a date; expected {words}, as in training"
                raise cells.fault(places == index, problem)
        values = [np.nan if date is None else self._of(date) for date in dates]
        return np.array(values, dtype=np.float64)[places]

    def _of(self, date: datetime) -> int:
        value: int = date.weekday() if self.part == "weekday" else getattr(date, self.part)
        return value

    def write(self, values: Sequence[float]) -> str | None:
        """Return the date with these parts; None if they are missing."""
        if any(map(np.isnan, values)):
            return None
        year, month, day, _, *hour = values
        digits = {"y": f"{year:04.0f}", "m": f"{month:02.0f}", "d": f"{day:02.0f}"}
        date = "-".join(digits[letter] for letter in self.order)
        return f"{date} {hour[0]:02.0f}:00" if hour else date


def date_of(text: str, order: Order) -> datetime | None:
    """Return the date that a text gives in an order of year, month and day, or None."""
    date, _, clock = text.replace("T", " ").partition(" ")
    numbers = re.findall(r"\d+", date)
    if len(numbers) not in ((2, 3) if order == "ymd" else (3,)):
        return None
    texts = dict(zip(order, numbers, strict=False))
    year = _year(texts["y"], order)
    hour, minute, *_ = [*map(int, re.findall(r"\d+", clock)), 0, 0]
    if half := re.search(r"(?i)([ap])\.?m\b", clock):
        hour = hour % 12
        if half[1] in "pP":
            hour += 12
    with suppress(ValueError):
        if year is not None:
            return datetime(year, int(texts["m"]), int(texts.get("d", 1)), hour, minute)
    return None


def _year(digits: str, order: Order) -> int | None:
    if len(digits) == 4:
        return int(digits)
    if len(digits) != 2 or order == "ymd":
        return None
    return int(digits) + (2000 if int(digits) < LATEST_YEAR else 1900)


def _fits(column: ColumnEvidence) -> Fit:
    if column.keys.dates != "parts" or not column.holds_dates:
        return None
    texts = column.texts
    fitting: dict[Order, list[str]] = {}
    for order in ORDERS:
        fitting[order] = [text for text in texts if date_of(text, order)]
    orders = [order for order in ORDERS if len(fitting[order]) == len(texts)]
    if not orders:
        usual = max(ORDERS, key=lambda order: sum(texts[text] for text in fitting[order]))
        # The example is a date in as few orders as possible, such as 31/01/2024.
        like = min(
            fitting[usual],
            key=lambda text: sum(text in dates for dates in fitting.values()),
            default=EXAMPLE,
        )

        def are_odd(cells: Sequence[str]) -> list[bool]:
            return [text in texts and not date_of(text, usual) for text in cells]

        count = texts.total() - sum(texts[text] for text in fitting[usual])
        return Refused(column.unlike(like, are_odd, count=count, noun="date"))
    if column.keys.dayfirst is not None and len(orders) > 1:
        orders = [order for order in orders if order != ("mdy" if column.keys.dayfirst else "dmy")]
    if len(orders) > 1 and not all("." in text for text in texts):
        return Refused(column.open_date())
    has_hours = any(":" in text for text in texts)
    parts = PARTS if has_hours else PARTS[:-1]
    return [DatePart(order=orders[0], part=part) for part in parts]


KIND = CellKind(name="date part", rank=20, fits=_fits, grammar=DatePart)
