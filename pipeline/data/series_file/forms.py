"""How a time is written: a year, a month, a day, a moment of a day, or a whole number."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

Kind = Literal["whole", "year", "month", "day", "moment"]

EXPECTED = "YYYY, YYYY-MM, YYYY-MM-DD, YYYY-MM-DD HH:MM[:SS][zone] or a whole number"
MICROSECONDS_A_DAY = 86_400 * 10**6

_EPOCH = date(1970, 1, 1).toordinal()

_SIGNS = ("rule", "between", "zone", "tail")
_DAY = r"(?P<year>\d{4})(?P<rule>[-/.]?)(?P<month>\d\d)(?P=rule)(?P<day>\d\d)"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("moment", re.compile(rf"{_DAY}(?P<between>[T ]){_CLOCK} ?(?P<zone>Z|[+-]\d\d:?\d\d|)")),
    ("day", re.compile(_DAY)),
    ("month", re.compile(r"(?P<year>\d{4})(?P<rule>[-/])(?P<month>\d\d)")),
    ("year", re.compile(r"(?P<year>[12]\d{3})(?P<tail>\.0+)?")),
    ("whole", re.compile(r"(?P<number>-?\d{1,15})(?P<tail>\.0+)?")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to write times.

    Args:
        kind: What is written.
        rule: Sign between year and month.
        between: Sign between day and clock.
        decimals: Digits after the second; -1 = the clock has no seconds.
        zone: Offset from UTC as it is written; empty = none.
        tail: What follows a whole number, such as `.0`.
    """

    kind: Kind
    rule: str = ""
    between: str = ""
    decimals: int = -1
    zone: str = ""
    tail: str = ""

    @property
    def is_clock(self) -> bool:
        """Whether positions count microseconds; months where they count months, else numbers."""
        return self.kind in ("day", "moment")

    def written(self, position: int) -> str:
        """Write a position as the file does."""
        if self.kind == "whole":
            return f"{position}{self.tail}"
        if self.kind == "year":
            return f"{position // 12:04d}{self.tail}"
        if self.kind == "month":
            return f"{position // 12:04d}{self.rule}{position % 12 + 1:02d}"
        return self._moment(*divmod(position, MICROSECONDS_A_DAY))

    def _moment(self, days: int, rest: int) -> str:
        day = date.fromordinal(_EPOCH + days)
        text = f"{day.year:04d}{self.rule}{day.month:02d}{self.rule}{day.day:02d}"
        if self.kind == "day":
            return text
        seconds, micro = divmod(rest, 10**6)
        text += f"{self.between}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
        if self.decimals >= 0:
            text += f":{seconds % 60:02d}"
        if self.decimals > 0:
            text += "." + f"{micro:06d}000"[: self.decimals]
        return text + self.zone


def form_and_position(label: str, *, only: Kind | None = None) -> tuple[Form, int] | None:
    """Read one label; `None` where it is no time.

    Args:
        label: Without spaces around it.
        only: The kind that it must be; None = whatever fits.

    Returns:
        How it is written, and where it lies: microseconds since 1970 for days and moments, as the
        clock shows them; months since the year 0 for years and months; else the number itself.
    """
    for kind, pattern in _PATTERNS:
        found = pattern.fullmatch(label)
        if found is None or only not in (None, kind):
            continue
        parts = found.groupdict()
        position = _position(kind, parts)
        if position is not None:
            fraction = len(parts.get("fraction") or "")
            decimals = fraction if parts.get("second") else -1
            return _form(kind, decimals, *(parts.get(key) or "" for key in _SIGNS)), position
    return None


@lru_cache  # a file has one form, or few
def _form(kind: Kind, decimals: int, *signs: str) -> Form:
    return Form(kind=kind, decimals=decimals, **dict(zip(_SIGNS, signs, strict=True)))


def _position(kind: Kind, parts: dict[str, str | None]) -> int | None:
    if kind == "whole":
        return int(parts["number"] or 0)
    year, month = int(parts["year"] or 0), int(parts.get("month") or 1)
    if kind in ("year", "month"):
        return year * 12 + month - 1 if 1 <= month <= 12 else None
    hour, minute, second = (int(parts.get(key) or 0) for key in ("hour", "minute", "second"))
    micro = int((parts.get("fraction") or "").ljust(6, "0")[:6])
    try:
        moment = datetime(year, month, int(parts["day"] or 0), hour, minute, second, micro)
    except ValueError:  # such as 30 February
        return None
    days = moment.toordinal() - _EPOCH
    return days * MICROSECONDS_A_DAY + (hour * 3600 + minute * 60 + second) * 10**6 + micro
