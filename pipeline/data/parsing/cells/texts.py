"""Cells of a column in a batch of rows, as texts, with messages that name a cell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


#: Words that mark an empty cell of a feature; a class may also have such a name.
MISSING = frozenset({"", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "?"})
#: Remedies that the message on a cell that is not a number may suggest.
TRAINED_ON_NUMBERS = "as the model was trained on numbers there"
AS_CLASSES = "or take its words as classes: data.task=multiclass"
LARGEST = float(np.finfo(np.float32).max)
LONGEST_SHOWN = 40
NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
_NUMBER = re.compile(NUMBER)
DATE = re.compile(
    r"\d{4}-\d{1,2}(-\d{1,2}([T ]\d{1,2}:\d{2}.*)?)?"  # 2024-05-31, 2024-05-31 10:00
    # 2024/05/31, 31.5.2024, 5/31/24, but no version such as 1.11.6 or 1.0.16
    r"|(\d{4}([./]0?[1-9]\d?){2}|(0?[1-9]\d?[./]){2}\d{2}(\d{2})?)( \d{1,2}:\d{2}.*)?"
)

Numbers = NDArray[np.float64]
Mark = Literal[".", ","]


def shown(text: str) -> str:
    """Return a cell for a message, quoted and shortened if it is long."""
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


class CellPlace(Protocol):
    """Where cells come from, for messages."""

    @property
    def file(self) -> str:
        """Name of the file."""

    @property
    def has_typed_cells(self) -> bool:
        """Whether numbers were stored as such, and not as texts."""

    def cell(self, position: int, column: str) -> str:
        """Return the name of a cell; `position` counts from 0."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Texts (rows,) of one column of a batch, null = empty, and the place of the batch.

    `remedy` is what the message on a cell that is not a number suggests; empty = nothing.
    """

    texts: pa.Array
    column: str
    place: CellPlace
    remedy: str = TRAINED_ON_NUMBERS

    def where(self, position: int) -> str:
        """Return the name of a cell for messages; `position` counts from 0."""
        return self.place.cell(position, self.column)

    def fault(self, is_bad: NDArray[np.bool_], words: str) -> DataError:
        """Return a DataError with `words` about the first cell where `is_bad` (rows,) is true."""
        return DataError(f"{self.where(int(is_bad.argmax()))}: {words}")

    def present(self) -> Cells:
        """Return the cells with null for every word that marks a missing value."""
        import pyarrow as pa
        import pyarrow.compute as pc

        nothing = pa.nulls(len(self.texts), pa.string())  # a scalar would load pandas
        return replace(self, texts=pc.if_else(are_missing(self.texts), nothing, self.texts))

    def encoded(self) -> tuple[list[str | None], NDArray[np.int64]]:
        """Return the distinct texts, `None` last, and the index of each cell's text, (rows,)."""
        dictionary = self.texts.dictionary_encode()
        texts = dictionary.dictionary.to_pylist()
        return [*texts, None], filled(dictionary.indices, len(texts)).astype(np.int64)

    def infinite_problem(self, values: Numbers) -> str | None:
        """Return a message on the first number that is infinite in single precision, or None."""
        too_large = exceeds_float32(values)
        if not too_large.any():
            return None
        position = int(too_large.argmax())
        return (
            f"{self.where(position)}: {shown(self.texts[position].as_py())} is infinite in "
            f"float32; expected a number between ±{LARGEST:.2g}. Leave the cell empty if it is "
            "unknown"
        )


def truths(values: pa.Array, *, missing: bool = False) -> NDArray[np.bool_]:
    """Return an Arrow array of truths as bool (rows,), with `missing` in place of null."""
    import pyarrow as pa

    return filled(values.cast(pa.uint8()), missing).view(np.bool_)


def are_missing(texts: pa.Array) -> pa.Array:
    """Return whether each text marks a missing value, as an Arrow array of truths."""
    import pyarrow.compute as pc

    # A set of values would have to be made by `pa.array`, which loads pandas.
    words = "|".join(re.escape(word) for word in sorted(MISSING))
    return pc.match_substring_regex(texts, f"^({words})$")


def exceeds_float32(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each value is infinite in single precision; NaN is not."""
    return np.asarray(np.abs(values) > LARGEST)


def filled(values: pa.Array, missing: float) -> NDArray[Any]:
    """Return numbers (rows,) with `missing` in place of null.

    Arrow's own conversion loads pandas, which takes a tenth of the time of a short command.
    """
    import pyarrow as pa

    present = pa.Array.from_buffers(
        values.type, len(values), [None, values.buffers()[1]], offset=values.offset
    )
    numbers: NDArray[Any] = np.from_dlpack(present).copy()
    if values.null_count:
        numbers[np.from_dlpack(values.is_null().cast(pa.uint8())).view(np.bool_)] = missing
    return numbers


def is_number(text: str) -> bool:
    """Return whether a text is a plain number."""
    return _NUMBER.match(text) is not None


def all_numbers(texts: Iterable[str]) -> bool:
    """Return whether every text is a plain number."""
    return all(map(is_number, texts))


def numbers_or_none(cells: Cells) -> Numbers | None:
    """Return plain numbers, float64 (rows,), NaN = missing, or None if a cell is another word."""
    import pyarrow as pa

    for leave_out in (False, True):
        present = cells.present() if leave_out else cells
        try:
            return filled(present.texts.cast(pa.float64()), np.nan)
        except pa.ArrowInvalid:
            continue
    return None


def are_numbers(texts: pa.Array) -> NDArray[np.bool_]:
    """Return whether each text of an Arrow array is a plain number or null, bool (rows,)."""
    import pyarrow.compute as pc

    return truths(pc.match_substring_regex(texts, NUMBER), missing=True)
