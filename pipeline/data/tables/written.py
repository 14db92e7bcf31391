"""Written form of numbers and dates in cells: plain numbers, amounts with signs, parts of dates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np

#: Words that mark an empty cell of a feature; a class may also have such a name.
MISSING = frozenset({"", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?"})
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
DATE = re.compile(
    r"\d{4}-\d{1,2}(-\d{1,2}([T ]\d{1,2}:\d{2}.*)?)?"  # 2024-05-31, 2024-05-31 10:00
    # 2024/05/31, 31.5.2024, 5/31/24, but no version such as 1.11.6 or 1.0.16
    r"|(\d{4}([./]0?[1-9]\d?){2}|(0?[1-9]\d?[./]){2}\d{2}(\d{2})?)( \d{1,2}:\d{2}.*)?"
)
#: Signs and currency codes of an amount, before or behind its number.
SIGN = re.compile("[$€£¥%]|EUR|USD|GBP|JPY|CNY|CHF|AUD|CAD|NZD|SEK|NOK|DKK|PLN|INR")
#: Numbers of an amount, by the sign before their decimals.
AMOUNTS = {
    ".": r"([1-9]\d{0,2}((,\d{3})+|(['’]\d{3})+)|\d+)(\.\d*)?|\.\d+",
    ",": r"[1-9]\d{0,2}(\.\d{3})+,\d+|[1-9]\d{0,2}(\.\d{3}){2,}|\d+(,\d+)?",
}
#: Orders of year, month and day in dates, and what a date becomes.
ORDERS = ("ymd", "dmy", "mdy")
DATE_PARTS = ("year", "month", "day", "weekday", "hour")
#: Two digits of a year below this one follow 2000.
LATEST_YEAR = 70
SPACES = "[ \u00a0\u202f]?"
#: A plain number that decimal commas may mean as groups of three digits.
GROUPED = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
#: A plain number that may be a share of 1 beside percentages.
SHARE = r"^[+-]?(0?\.0*[1-9]\d*|1(\.0*)?)$"


def kind_of(cell: str) -> str:
    """Return whether a cell holds `numbers` or `dates`; empty = something else."""
    if DATE.fullmatch(cell):
        return "dates"
    with suppress(ValueError):
        if float(cell) == float(cell) and any(map(str.isdigit, cell)):
            return "numbers"
    return ""


def all_numbers(texts: Sequence[str]) -> bool:
    """Return whether every text is a number."""
    return all(re.match(NUMBER, text) for text in texts)


def date_of(text: str, order: str) -> datetime | None:
    """Return the date that a text gives in an order of year, month and day, or None."""
    date, _, clock = text.replace("T", " ").partition(" ")
    numbers = re.findall(r"\d+", date)
    values = dict(zip(order, map(int, numbers), strict=False))
    year = numbers[order.index("y")] if len(numbers) > order.index("y") else ""
    hour, minute, *_ = [*map(int, re.findall(r"\d+", clock)), 0, 0]
    if half := re.search(r"(?i)([ap])\.?m\b", clock):
        hour = hour % 12 + 12 * (half[1] in "pP")
    with suppress(KeyError, ValueError):
        if order == "ymd" and len(year) == 4 and len(numbers) in (2, 3):
            return datetime(int(year), values["m"], values.get("d", 1), hour, minute)
        if order != "ymd" and len(year) in (2, 4) and len(numbers) == 3:
            century = 0 if len(year) == 4 else 2000 if int(year) < LATEST_YEAR else 1900
            return datetime(century + int(year), values["m"], values["d"], hour, minute)
    return None


def amount_pattern(form: str) -> str:
    """Return the pattern of a form of amounts: a sign or none, and the sign before decimals."""
    sign = f"({re.escape(sign)})?" if (sign := form[:-1].strip(".,")) else ""
    return f"([+-]?{sign}{SPACES}|{sign}{SPACES}[+-])({AMOUNTS[form[-1]]}){SPACES}{sign}"


def amount_marks(form: str) -> str:
    """Return the pattern of what amounts of a form have beside their digits and decimal sign."""
    return rf"[^\d+{form[-1]}-]"


def amount(text: str, form: str) -> float:
    """Return the number of an amount."""
    return float(re.sub(amount_marks(form), "", text).replace(",", "."))


def cell_of(value: float, form: str) -> str | float | None:
    """Return a number as a cell: an amount, a plain number if `form` is empty, None if missing."""
    if np.isnan(value):
        return None
    if not form:
        return float(value)
    sign = form[:-1].strip(".,")
    space = " " * sign[:1].isalpha()
    return sign + space + np.format_float_positional(value, trim="-").replace(".", form[-1])


def amount_forms(text: str) -> list[str]:
    """Return the forms in which a text is an amount: none, one, or two, as of `1,234`."""
    found = SIGN.search(text)
    sign = found[0] if found else ""
    return [form for form in (f"{sign}.", f"{sign},") if re.fullmatch(amount_pattern(form), text)]


def two_ways(text: str, mark: str = ".", zero: str = "") -> str:
    """Return both numbers that an amount such as `€1.234` may be; empty = it has one meaning.

    `mark` is the sign before the decimals of the first one, and `zero` is written behind them.
    """
    bare = re.sub(r"\s", "", SIGN.sub("", text))
    if not re.fullmatch(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", bare):
        return ""
    return f"{bare[:-4]}{mark}{bare[-3:]}{zero} or {bare[:-4]}{bare[-3:]}"


def amount_form(
    counts: Mapping[str, int], *, commas: bool | None = False
) -> tuple[str, tuple[str, ...]]:
    """Return the one form in which texts that are not plain numbers are amounts.

    A form is a sign, if the amounts have one, and the sign before decimals, such as `€.` or `,`.
    Without such a form it is empty; if there are amounts, one of the most frequent form is returned
    beside it, followed by the texts of other forms. It is empty if most cells are plain numbers.
    If nothing shows whether a sign is before decimals or groups, such texts follow `.` or `,`, the
    sign before the decimals of a clear number. Plain numbers have the form `.` if they have decimal
    points beside the decimal commas of other columns.

    Args:
        counts: Cells of each text.
        commas: Whether other columns have decimal commas; None = they may have.
    """
    known = [text for text in counts if text not in MISSING]
    odd = [text for text in known if not all_numbers([text])]
    others = {"": odd}
    forms = [form for text in odd for form in amount_forms(text)]
    forms += [","] * (bool(commas) and not odd)
    for form in sorted(dict.fromkeys(forms), key=lambda form: bool(commas) and form[-1] == "."):
        pattern, are_shares = re.compile(amount_pattern(form)), form[0] == "%"
        rest = [t for t in known if not pattern.fullmatch(t) or (are_shares and re.match(SHARE, t))]
        others[form] = rest
        if form[-1] == "," and rest and all(map(two_ways, rest)):
            if commas or any(amount_forms(text) == [form] for text in odd):
                return "", (",", *rest)
        elif not odd and rest:
            return ".", ()
        elif odd and not rest:
            unclear = [text for text in known if two_ways(text)]
            whole = [text for text in known if re.fullmatch(r"[^\d.,]*\d+[^\d.,]*", text)]
            told = [text for text in unclear if "." in text or (commas is None and form == ".")]
            # Percentages such as '12.345%' are decimals if none is without a dot.
            may_be_groups = whole or commas or not are_shares
            if told and may_be_groups and len(unclear) + len(whole) == len(known):
                return "", ("," if commas else ".", *told)
            return form, ()
    if not odd or len(others) == 1:
        return "", ()
    usual = min(others, key=lambda form: sum(counts[text] for text in others[form]))
    like = next((text for text in odd if usual in amount_forms(text)), "")
    return "", (like, *others[usual])


def date_text(parts: Mapping[str, float], order: str) -> str | None:
    """Return the date with these parts as `date_of` reads it, or None if they are missing."""
    if any(value != value for value in parts.values()):  # noqa: PLR0124 - NaN
        return None
    named = {"y": f"{parts['year']:04.0f}", "m": f"{parts['month']:02.0f}"}
    named["d"] = f"{parts['day']:02.0f}"
    clock = f" {parts['hour']:02.0f}:00" if "hour" in parts else ""
    return "-".join(named[sign] for sign in order) + clock
