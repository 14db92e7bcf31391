"""How the numbers of a column are written: what each shows, and the one form that fits them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.parsing.cells.texts import (
    NUMBER,
    Cells,
    Mark,
    are_numbers,
    is_number,
    shown,
    truths,
)

if TYPE_CHECKING:
    import pyarrow as pa

Thousands = Literal["comma", "point", "space", "apostrophe", "none"]
#: Signs and currency codes of an amount, before or behind its number.
SIGN = re.compile("[$€£¥%]|EUR|USD|GBP|JPY|CNY|CHF|AUD|CAD|NZD|SEK|NOK|DKK|PLN|INR")
SPACES = "[ \u00a0\u202f]?"
#: Patterns of the sign between groups of three digits.
GROUP_SIGNS = {"comma": ",", "point": r"\.", "space": "[ \u00a0\u202f]", "apostrophe": "['’]"}
#: A plain number that decimal commas may mean as groups of three digits.
GROUPED = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
#: A plain number that may be a share of 1 beside percentages.
SHARE = r"^[+-]?(0?\.0*[1-9]\d*|1(\.0*)?)$"
_OPEN = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
MARKS: Mapping[str, Mark] = {"point": ".", "comma": ","}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountForm:
    """How amounts of one currency, or of none, are written.

    Args:
        sign: Currency or percent sign; empty = none.
        decimal: Sign before the decimals.
        thousands: Sign between groups of three digits; None = a comma or an apostrophe beside
            decimal points, a point in amounts that no decimal number can be beside commas.
        has_three_decimals: Whether training cells have three decimals, so that new ones may.
    """

    sign: str = ""
    decimal: Mark
    thousands: Thousands | None = None
    has_three_decimals: bool = False

    @property
    def pattern(self) -> str:
        """Pattern of an amount."""
        sign = f"({re.escape(self.sign)})?" if self.sign else ""
        number = _number_pattern(self.decimal, self.thousands)
        return f"([+-]?{sign}{SPACES}|{sign}{SPACES}[+-])({number}){SPACES}{sign}"

    @property
    def beside_number(self) -> str:
        """Pattern of what an amount has beside its digits and decimal sign."""
        return rf"[^\d+{self.decimal}-]"

    def value(self, text: str) -> float:
        """Return the number of an amount, or of a plain number."""
        if is_number(text):
            return float(text)
        return float(re.sub(self.beside_number, "", text).replace(",", "."))

    def two_readings(self, text: str) -> str:
        """Return both ways to write an amount such as `€1.234`; empty = it has one meaning."""
        # A zero behind three decimals tells them from a group where they are not usual.
        return two_ways(text, self.decimal, "" if self.has_three_decimals else "0")

    def plain(self, cells: Cells) -> Cells:
        """Return the cells with plain numbers in place of amounts."""
        import pyarrow.compute as pc

        texts = cells.present().texts
        is_plain = pc.match_substring_regex(texts, NUMBER)
        is_amount = pc.match_substring_regex(texts, f"^({self.pattern})$")
        bare = pc.replace_substring_regex(texts, self.beside_number, "")
        bare = pc.replace_substring(bare, ",", ".")
        if self.thousands != "point" or cells.place.has_typed_cells:
            is_amount = pc.and_(is_amount, pc.invert(is_plain))
        return Cells(pc.if_else(is_amount, bare, texts), cells.column, cells.place)


@lru_cache
def _number_pattern(decimal: Mark, thousands: Thousands | None) -> str:
    if thousands is None and decimal == ".":
        return r"([1-9]\d{0,2}((,\d{3})+|(['’]\d{3})+)|\d+)(\.\d*)?|\.\d+"
    if thousands is None:
        return r"[1-9]\d{0,2}(\.\d{3})+,\d+|[1-9]\d{0,2}(\.\d{3}){2,}|\d+(,\d+)?"
    mark = re.escape(decimal)
    if thousands == "none":
        return rf"\d+({mark}\d*)?|{mark}\d+"
    group = GROUP_SIGNS[thousands]
    return rf"([1-9]\d{{0,2}}({group}\d{{3}})+|\d+)({mark}\d*)?|{mark}\d+"


def _matches(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Return whether the pattern matches in each text, bool (rows,)."""
    import pyarrow.compute as pc

    return truths(pc.match_substring_regex(texts, pattern))


def two_ways(text: str, mark: str = ".", zero: str = "") -> str:
    """Return both numbers that an amount such as `€1.234` may be; empty = it has one meaning.

    `mark` is the sign before the decimals of the first one, and `zero` is written behind them.
    """
    bare = re.sub(r"\s", "", SIGN.sub("", text))
    if not _OPEN.fullmatch(bare):
        return ""
    return f"{bare[:-4]}{mark}{bare[-3:]}{zero} or {bare[:-4]}{bare[-3:]}"


def explained(cells: Cells, form: AmountForm | None = None, *, counted: str = "") -> str:
    """Return a message on the first cell that is not a number, and how it may be written.

    `counted` says how many cells of the column are not; empty = it is not said.
    """
    plain = cells.present() if form is None else form.plain(cells)
    position = int(np.argmin(are_numbers(plain.texts)))
    text = cells.texts[position].as_py()
    remedy = _as_number(text, form)
    if not remedy:
        remedy = "a number or leave it empty"
        if cells.remedy:
            remedy += f", {cells.remedy}"
    return f"{cells.where(position)}: {shown(text)} is not a number{counted}; write {remedy}"


def _as_number(text: str, form: AmountForm | None) -> str:
    """Return how a cell may be written as a number among others; empty = it holds none."""
    bare = text.strip("$€£¥% \u00a0").replace("\u00a0", "").replace("'", "")
    if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?", bare):
        bare = bare.replace(",", "")
    elif re.fullmatch(r"[+-]?\d+,\d+", bare):
        bare = bare.replace(",", ".")
    if readings := (two_ways(text) if form is None else form.two_readings(text)):
        return readings
    if not is_number(bare):
        return ""
    if form is not None and form.sign == "%":
        return bare.replace(".", form.decimal) + "%"
    if "%" in text:  # beside percentages or shares of 1
        return f"{bare} or {float(bare) / 100:.15g}"
    return bare


class NumberShape(StrEnum):
    """What the digits and signs of a number show."""

    WHOLE = "whole"  # 12
    POINT = "decimal point"  # 1.5, 1,234.5 or 1,234,567
    COMMA = "decimal comma"  # 1,5, 1.234,5 or 1.234.567
    OPEN_POINT = "open point"  # 1.234
    OPEN_COMMA = "open comma"  # 1,234
    OTHER = "other"  # 1e5 or inf
    WORD = "word"


#: Shapes of numbers with each sign before the decimals.
READ_WITH: Mapping[Mark, frozenset[NumberShape]] = {
    ".": frozenset(
        {NumberShape.WHOLE, NumberShape.POINT, NumberShape.OPEN_POINT, NumberShape.OPEN_COMMA}
    ),
    ",": frozenset({NumberShape.WHOLE, NumberShape.COMMA, NumberShape.OPEN_COMMA}),
}
OPEN = frozenset({NumberShape.OPEN_POINT, NumberShape.OPEN_COMMA})
NO_AMOUNT = frozenset({NumberShape.OTHER, NumberShape.WORD})
SHAPES = tuple(NumberShape)


class MarkKeys(NamedTuple):
    """What the user says of the signs in the numbers of a column; None = to be found.

    Args:
        decimal: Sign before the decimals.
        thousands: Sign between groups of three digits.
    """

    decimal: Mark | None = None
    thousands: Thousands | None = None

    @property
    def marks(self) -> Sequence[Mark]:
        """Signs that may stand before the decimals."""
        if self.decimal is not None:
            return (self.decimal,)
        other = MARKS.get(self.thousands or "")
        return tuple(mark for mark in READ_WITH if mark != other)

    def form(self, sign: str, mark: Mark) -> AmountForm:
        """Return the amounts of a sign and a decimal sign."""
        thousands = self.thousands
        if thousands is None and self.decimal == ",":
            thousands = "point"
        return AmountForm(sign=sign, decimal=mark, thousands=thousands)

    def writings(self, texts: pa.Array) -> tuple[list[Writing], NDArray[np.int64]]:
        """Return the ways in which texts are written, and the index of that of each, (rows,)."""
        import pyarrow.compute as pc

        matched_sign = pc.extract_regex(texts, f"(?P<sign>{SIGN.pattern})").field("sign")
        signs = np.array([sign or "" for sign in matched_sign.to_pylist()], dtype=np.str_)
        names = sorted(set(signs))
        fits = {mark: np.zeros(len(texts), dtype=np.bool_) for mark in self.marks}
        for sign in names:
            for mark in self.marks:
                pattern = self.form(sign, mark).pattern
                fits[mark] |= (signs == sign) & _matches(texts, f"^({pattern})$")
        is_plain = _matches(texts, NUMBER)
        shapes = np.where(is_plain, SHAPES.index(NumberShape.OTHER), SHAPES.index(NumberShape.WORD))
        is_amount = np.any([*fits.values()], axis=0)
        for shape, has_shape in self._shapes(texts, fits):
            shapes[is_amount & has_shape] = SHAPES.index(shape)
        features = np.column_stack(
            [
                shapes,
                np.searchsorted(names, signs) * is_amount,
                is_plain,
                is_amount & _matches(texts, SHARE),
                is_amount & _matches(texts, r"\.\d{3}"),
                is_amount & _matches(texts, r",\d{3}"),
            ]
        ).astype(np.int64)
        distinct, indices = np.unique(features, axis=0, return_inverse=True)
        writings = []
        for number, sign, plain, share, point, comma in distinct.tolist():
            shape = SHAPES[number]
            writing = Writing(
                shape=shape,
                sign="" if shape in NO_AMOUNT else names[sign],
                is_plain=bool(plain),
                is_share=bool(share),
                before_three="".join(compress(".,", (point, comma))),
            )
            writings.append(writing)
        return writings, indices.reshape(-1).astype(np.int64)

    def _shapes(
        self, texts: pa.Array, fits: Mapping[Mark, NDArray[np.bool_]]
    ) -> Iterator[tuple[NumberShape, NDArray[np.bool_]]]:
        """Yield shapes of amounts and which texts have them, (rows,); a later one counts."""
        neither = np.zeros(len(texts), dtype=np.bool_)
        has_point = fits.get(".", neither)
        has_comma = fits.get(",", neither)
        yield NumberShape.POINT, has_point
        yield NumberShape.COMMA, has_comma & ~has_point
        yield NumberShape.WHOLE, has_point & has_comma
        yield NumberShape.WHOLE, _matches(texts, r"^[^\d.,]*\d+[^\d.,]*$")
        if self == MarkKeys():
            for shape, mark in ((NumberShape.OPEN_POINT, r"\."), (NumberShape.OPEN_COMMA, ",")):
                yield shape, _matches(texts, rf"^[^\d.,]*[1-9]\d{{0,2}}{mark}\d{{3}}[^\d.,]*$")


class Writing(NamedTuple):
    """How a text is written.

    Args:
        shape: What its digits and signs show.
        sign: Currency or percent sign; empty = none.
        is_plain: Whether it is a plain number.
        is_share: Whether it is a plain number that may be a share of 1.
        before_three: The signs, of point and comma, that three digits follow.
    """

    shape: NumberShape
    sign: str = ""
    is_plain: bool = False
    is_share: bool = False
    before_three: str = ""

    @property
    def is_amount(self) -> bool:
        """Whether it is an amount."""
        return self.shape not in NO_AMOUNT

    def fits(self, sign: str, mark: Mark) -> bool:
        """Return whether it is an amount of this sign and decimal sign."""
        if sign == "%" and self.is_share:
            return False
        return self.sign in ("", sign) and self.shape in READ_WITH[mark]


@dataclass(slots=True)
class AlikeCells:
    """Cells that are written alike.

    Args:
        example: The first of them.
        cells: Number of cells.
    """

    example: str
    cells: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountFit:
    """Whether the cells of a column are amounts of one form.

    Args:
        form: The form; None = the cells are no amounts, or of several forms.
        odd: How the cells are written that do not fit the others; empty = none are.
        like: An amount as most are written; empty = most are plain numbers.
        is_open: Whether the odd cells may mean two numbers.
    """

    form: AmountForm | None = None
    odd: frozenset[Writing] = frozenset()
    like: str = ""
    is_open: bool = False


def amount_fit(
    writings: Mapping[Writing, AlikeCells], keys: MarkKeys, *, commas: bool | None = False
) -> AmountFit:
    """Return the one form in which the cells of a column are amounts.

    Args:
        writings: How the cells are written.
        keys: What the user says.
        commas: Whether other columns have decimal commas; None = they may have.
    """
    odd = [written for written in writings if not written.is_plain]
    misfits: dict[tuple[str, Mark] | None, list[Writing]] = {None: odd}
    for sign, mark in _forms(odd, keys, commas=commas):
        misfit = [written for written in writings if not written.fits(sign, mark)]
        misfits[sign, mark] = misfit
        if misfit and mark == "," and all(written.shape in OPEN for written in misfit):
            if commas or any(w.shape is NumberShape.COMMA and w.sign == sign for w in odd):
                return AmountFit(odd=frozenset(misfit), is_open=True)
        elif misfit and not odd:
            return AmountFit(form=_form_of(writings, keys, "", "."))
        elif not misfit and (odd or keys.marks == (",",)):
            if are_open := _open(writings, sign, mark, commas=commas):
                return AmountFit(odd=are_open, is_open=True)
            return AmountFit(form=_form_of(writings, keys, sign, mark))
    if not odd or len(misfits) == 1:
        return AmountFit()
    usual = min(misfits, key=lambda form: sum(writings[written].cells for written in misfits[form]))
    like = ""
    if usual is not None:
        sign, mark = usual
        alike = [w for w in odd if w.sign == sign and w.shape in READ_WITH[mark]]
        like = writings[alike[0]].example
    return AmountFit(odd=frozenset(misfits[usual]), like=like)


def _form_of(writings: Iterable[Writing], keys: MarkKeys, sign: str, mark: Mark) -> AmountForm:
    """Return the form of amounts with these signs, and whether three decimals occur."""
    has_three = any(mark in written.before_three for written in writings)
    return replace(keys.form(sign, mark), has_three_decimals=has_three)


def _forms(
    odd: Sequence[Writing], keys: MarkKeys, *, commas: bool | None
) -> Sequence[tuple[str, Mark]]:
    """Return the sign and decimal sign of amounts that may fit, the likelier first."""
    forms = []
    for written in odd:
        for mark in keys.marks:
            if written.shape in READ_WITH[mark]:
                forms.append((written.sign, mark))
    if not odd and "," in keys.marks and (commas or len(keys.marks) == 1):
        forms.append(("", ","))
    distinct = list(dict.fromkeys(forms))
    if commas:
        distinct.sort(key=lambda form: form[1] == ".")
    return distinct


def _open(
    writings: Iterable[Writing], sign: str, mark: Mark, *, commas: bool | None
) -> frozenset[Writing]:
    """Return how cells are written that may be decimals or thousands, as no other cell tells."""
    shapes = {written.shape for written in writings}
    if not shapes <= OPEN | {NumberShape.WHOLE}:
        return frozenset()
    # Percentages are decimals, if none is without.
    if sign == "%" and NumberShape.WHOLE not in shapes and not commas:
        return frozenset()
    open_shapes = {NumberShape.OPEN_POINT}
    if commas is None and not sign and mark == ".":
        open_shapes.add(NumberShape.OPEN_COMMA)
    return frozenset(written for written in writings if written.shape in open_shapes)
