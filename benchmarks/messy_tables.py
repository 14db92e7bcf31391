"""Tables of the habits in which people, spreadsheets and databases write them, each a small CSV.

`benchmarks.same_results` trains on each, so that a change of how tables are read shows what became
of every one of them: the same numbers, the same refusal, or another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

ROWS = 90
HABITS: dict[str, "MessyTable"] = {}
Columns = dict[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessyTable:
    """A file and how a user would train on it.

    Args:
        content: The bytes of the CSV.
        words: Words of the command line besides those of the data set and its path.
    """

    content: bytes
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Draw:
    """Random numbers from which cells are written, the same for every table."""

    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(11))

    def amounts(self, scale: float = 900.0) -> list[float]:
        """Return positive amounts with two decimals, some above a thousand."""
        return [round(float(x), 2) for x in self.generator.lognormal(0, 1, ROWS) * scale]

    def pick(self, *texts: str) -> list[str]:
        """Return one of the texts for each row."""
        return [str(text) for text in self.generator.choice(texts, ROWS)]

    def days(self) -> list[np.datetime64]:
        """Return days of three years."""
        return [
            np.datetime64("2019-01-01") + int(day) for day in self.generator.integers(0, 1100, ROWS)
        ]


def _csv(
    columns: Mapping[str, Sequence[str]],
    *,
    sep: str = ",",
    end: str = "\n",
    encoding: str = "utf-8",
    header: bool = True,
    before: str = "",
    after: str = "",
) -> bytes:
    lines = [sep.join(columns)] if header else []
    lines += [sep.join(row) for row in zip(*columns.values(), strict=True)]
    return (before + end.join(lines) + end + after).encode(encoding)


def _with_target(draw: _Draw, columns: Mapping[str, Sequence[str]]) -> Columns:
    """Add a column of measured lengths and the classes that depend on it."""
    lengths = draw.generator.normal(5, 1, ROWS)
    noise = draw.generator.normal(0, 0.3, ROWS)
    classes = [
        "open" if length + error > 5 else "closed"
        for length, error in zip(lengths, noise, strict=True)
    ]
    return {**columns, "length": [f"{length:.3f}" for length in lengths], "state": classes}


def habit(*words: str) -> Callable[[Callable[[_Draw], bytes]], Callable[[_Draw], bytes]]:
    """Register a function that writes a table under its name."""

    def registered(write: Callable[[_Draw], bytes]) -> Callable[[_Draw], bytes]:
        HABITS[write.__name__] = MessyTable(content=write(_Draw()), words=words or TARGET)
        return write

    return registered


TARGET = ("data.target=state",)


def _register_cells(name: str, cells: Callable[[_Draw], Sequence[str]], *, sep: str = ",") -> None:
    """Register a table with one column of these cells beside the measured one and the classes."""
    draw = _Draw()
    columns = _with_target(draw, {"value": cells(draw)})
    HABITS[name] = MessyTable(content=_csv(columns, sep=sep), words=TARGET)


def _comma(value: float, thousands: str = "") -> str:
    return f"{value:,.2f}".replace(",", "\0").replace(".", ",").replace("\0", thousands)


# ── one column of cells ─────────────────────────────────────────────────────────────────────────

_AMOUNTS: dict[str, Callable[[float], str]] = {
    "german_amounts": lambda value: _comma(value, "."),
    "german_euros_before": lambda value: f"€{_comma(value)}",
    "german_euros_behind": lambda value: f"{_comma(value, '.')} €",
    "french_amounts": lambda value: _comma(value, "\u00a0"),
    "narrow_spaces": lambda value: _comma(value, "\u202f"),
    "plain_spaces": lambda value: _comma(value, " "),
    "swiss_amounts": lambda value: f"{value:,.2f}".replace(",", "'"),
    "percent_with_comma": lambda value: f"{_comma(value / 100)} %",
    "percent_with_point": lambda value: f"{value / 100:.1f}%",
    "trailing_minus": lambda value: f"{value:.2f}-" if value < 500 else f"{value:.2f}",
    "unicode_minus": lambda value: f"\u2212{value:.2f}" if value < 500 else f"{value:.2f}",
    "plus_signs": lambda value: f"+{value:.2f}",
    "powers_of_ten": lambda value: f"{value:.3e}",
    "three_decimals": lambda value: f"{value / 1000:.3f}",
    "three_decimals_with_comma": lambda value: f"{value / 1000:.3f}".replace(".", ","),
    "units": lambda value: f"{value:.1f} kg",
    "units_without_space": lambda value: f"{value:.1f}kg",
    "infinite": lambda value: "inf" if value > 2000 else f"{value:.2f}",
    "beyond_float32": lambda value: f"{value:.2f}e40",
}


def _amounts_written(written: Callable[[float], str]) -> Callable[[_Draw], Sequence[str]]:
    """Return a function that draws amounts and writes each with `written`."""
    return lambda draw: [written(value) for value in draw.amounts()]


for _name, _written in _AMOUNTS.items():
    _register_cells(_name, _amounts_written(_written), sep=";")

_COMMA_AMOUNTS: dict[str, Callable[[float], str]] = {
    "us_dollars": lambda value: f'"${value:,.2f}"',
    "pounds": lambda value: f'"£{value:,.0f}"',
    "accounting": lambda value: f'"({value:,.2f})"' if value < 500 else f'"{value:,.2f}"',
    "quoted_commas": lambda value: f'"{_comma(value)}"',
    "indian_amounts": lambda value: f'"{value * 1000:,.0f}"',
}
for _name, _written in _COMMA_AMOUNTS.items():
    _register_cells(_name, _amounts_written(_written))

_DATES: dict[str, str] = {
    "iso_dates": "%Y-%m-%d",
    "german_dates": "%d.%m.%Y",
    "us_dates": "%m/%d/%Y",
    "short_years": "%d.%m.%y",
    "named_months": "%d %b %Y",
    "months_alone": "%m/%Y",
    "iso_moments": "%Y-%m-%dT%H:%M:%S",
    "moments_in_utc": "%Y-%m-%dT%H:%M:%SZ",
    "compact_dates": "%Y%m%d",
    "years": "%Y",
}


def _days_written(form: str) -> Callable[[_Draw], Sequence[str]]:
    """Return a function that draws days and writes each in a form of `strftime`."""
    return lambda draw: [_day(day).strftime(form) for day in draw.days()]


def _day(moment: np.datetime64) -> date:
    """Return a day of NumPy as one of Python."""
    day = moment.astype("datetime64[D]").item()
    assert isinstance(day, date)
    return day


for _name, _form in _DATES.items():
    _register_cells(_name, _days_written(_form))

_CODES: dict[str, Callable[[int], str]] = {
    "leading_zeros": lambda number: f"{number % 40:05d}",
    "postcodes": lambda number: f"{10115 + number % 30}",
    "telephones": lambda number: f"+49 30 {100000 + number * 37}",
    "clock": lambda number: f"{number % 24:02d}:{number % 60:02d}",
    "identifiers": lambda number: f"C-{number:06d}",
    "counted_rows": lambda number: f"{number}",
    "constant": lambda _: "7",
    "nothing_at_all": lambda _: "",
    "free_text": lambda number: f"customer {number} called about bill {number * 7} again",
    "yes_and_no": lambda number: ("yes", "no")[number % 2],
    "ja_und_nein": lambda number: ("ja", "nein")[number % 2],
    "truth": lambda number: ("TRUE", "false", "True")[number % 3],
}


def _codes_written(code: Callable[[int], str]) -> Callable[[_Draw], Sequence[str]]:
    """Return a function that writes the number of each row with `code`."""
    return lambda _: [code(number) for number in range(ROWS)]


for _name, _code in _CODES.items():
    _register_cells(_name, _codes_written(_code))


def _gaps_written(gap: str) -> Callable[[_Draw], Sequence[str]]:
    """Return a function that draws amounts and writes `gap` for those above 1,800."""
    return lambda draw: [gap if value > 1800 else f"{value:.2f}" for value in draw.amounts()]


for _name, _gap in {
    "empty_cells": "",
    "not_available": "NA",
    "not_available_in_lower_case": "n/a",
    "dashes": "-",
    "question_marks": "?",
    "a_german_word": "unbekannt",
    "nulls": "NULL",
    "not_a_number": "nan",
    "spaces_alone": "   ",
    "no_number_at_all": "#DIV/0!",
}.items():
    _register_cells(_name, _gaps_written(_gap))


# ── forms of the file ───────────────────────────────────────────────────────────────────────────


def _plain(draw: _Draw) -> Columns:
    return _with_target(
        draw,
        {"value": [f"{value:.2f}" for value in draw.amounts()], "region": draw.pick("Süd", "Nord")},
    )


_FILES: dict[str, dict[str, Any]] = {
    "byte_order_mark": {"encoding": "utf-8-sig"},
    "windows_line_ends": {"end": "\r\n"},
    "old_line_ends": {"end": "\r"},
    "code_page": {"encoding": "cp1252"},
    "utf16": {"encoding": "utf-16"},
    "tabs": {"sep": "\t"},
    "bars": {"sep": "|"},
    "title_line": {"before": "Export of 2021-03-04\n"},
    "comment_line": {"before": "# made by hand\n"},
    "total_line": {"after": "total,,,\n"},
    "a_longer_row": {"after": "1,2,3,4,5,6\n"},
    "a_shorter_row": {"after": "1.5,Nord\n"},
    "empty_lines": {"after": "\n\n\n"},
    "a_zero_byte": {"after": "1.5,No\0rd,4.2,open\n"},
    "an_open_quote": {"after": '1.5,"Nord,4.2,open\n'},
}
for _name, _file in _FILES.items():
    HABITS[_name] = MessyTable(content=_csv(_plain(_Draw()), **_file), words=TARGET)


@habit("data.target=3")
def no_header(draw: _Draw) -> bytes:
    """Rows from the first line on."""
    return _csv(_plain(draw), header=False)


@habit()
def twice_the_same_name(draw: _Draw) -> bytes:
    """Two columns of one name."""
    return _csv(_plain(draw)).replace(b"value,region", b"region,region", 1)


@habit()
def a_column_without_name(draw: _Draw) -> bytes:
    """The index that a data frame writes."""
    return _csv({"": [str(number) for number in range(ROWS)], **_plain(draw)})


@habit("data.target=the state")
def names_of_several_words(draw: _Draw) -> bytes:
    """Names with spaces and quotes."""
    return (
        _csv(_plain(draw)).replace(b"state", b" the state ", 1).replace(b"value", b'"a ""b"""', 1)
    )


@habit()
def line_breaks_in_cells(draw: _Draw) -> bytes:
    """Quoted cells of several lines."""
    return _csv({"note": draw.pick('"two\nlines"', '"a, b"', "plain"), **_plain(draw)})


@habit()
def classes_in_mixed_case(draw: _Draw) -> bytes:
    """The same class in other letters, and with spaces around it."""
    columns = _plain(draw)
    states = [
        (state, state.upper(), f" {state}")[number % 3]
        for number, state in enumerate(columns["state"])
    ]
    return _csv({**columns, "state": states})


@habit()
def a_rare_class(draw: _Draw) -> bytes:
    """One row of a third class."""
    columns = _plain(draw)
    return _csv({**columns, "state": ["lost", *columns["state"][1:]]})


@habit()
def classes_with_gaps(draw: _Draw) -> bytes:
    """Rows whose class is not known."""
    columns = _plain(draw)
    return _csv({**columns, "state": ["", "", *columns["state"][2:]]})


@habit("data.target=value")
def amounts_as_target(draw: _Draw) -> bytes:
    """A regression on amounts with a decimal comma."""
    columns = _plain(draw)
    return _csv({**columns, "value": [_comma(value, ".") for value in draw.amounts()]}, sep=";")


@habit("data.target=value", "data.task=classification")
def whole_numbers_as_classes(draw: _Draw) -> bytes:
    """Classes that are numbers."""
    return _csv({**_plain(draw), "value": draw.pick("1", "2", "3")})


@habit()
def commas_beside_points(draw: _Draw) -> bytes:
    """A German export: amounts with a comma beside latitudes with a point."""
    amounts = [_comma(value / 100)[:-1] for value in draw.amounts()]
    latitudes = [f"{47 + value / 10000:.3f}" for value in draw.amounts()]
    columns = _with_target(draw, {"betrag": amounts, "lat": latitudes})
    return _csv(columns, sep=";")


@habit()
def open_thousands(draw: _Draw) -> bytes:
    """Numbers that have three digits behind each comma."""
    values = [f"{int(value) + 1},{int(value * 7) % 900 + 100}" for value in draw.amounts(20)]
    return _csv(_with_target(draw, {"value": values}), sep=";")


@habit()
def open_days(draw: _Draw) -> bytes:
    """Dates of which day and month can't be told apart."""
    days = [f"{n % 12 + 1:02d}/{n % 11 + 1:02d}/2020" for n in range(ROWS)]
    return _csv(_with_target(draw, {"day": days}))


@habit()
def two_forms_of_dates(draw: _Draw) -> bytes:
    """Half of the days as in Germany, half in ISO."""
    days = [
        _day(day).strftime("%d.%m.%Y" if number % 2 else "%Y-%m-%d")
        for number, day in enumerate(draw.days())
    ]
    return _csv(_with_target(draw, {"day": days}))


@habit("data.target=state", "data.dates=parts")
def parts_of_dates(draw: _Draw) -> bytes:
    """Dates that become columns of years, months and days."""
    return _csv(_with_target(draw, {"day": [str(day) for day in draw.days()]}))


@habit("data.target=state", "data.numeric=[value]")
def a_word_among_numbers(draw: _Draw) -> bytes:
    """A column that must be numeric has a word in its 40th row."""
    values = [f"{value:.2f}" for value in draw.amounts()]
    values[40] = "soon"
    return _csv(_with_target(draw, {"value": values}))


@habit()
def one_row(draw: _Draw) -> bytes:
    """A header and one row."""
    return b"\n".join(_csv(_plain(draw)).splitlines()[:2]) + b"\n"


@habit()
def header_alone(draw: _Draw) -> bytes:
    """No row."""
    return _csv(_plain(draw)).splitlines()[0] + b"\n"


@habit()
def empty_file(_: _Draw) -> bytes:
    """No byte."""
    return b""


@habit()
def many_columns(draw: _Draw) -> bytes:
    """5,000 columns of numbers."""
    values = draw.generator.integers(0, 9, (ROWS, 5_000)).astype(str)
    numbers = {f"c{number}": list(values[:, number]) for number in range(5_000)}
    return _csv(_with_target(draw, numbers))
