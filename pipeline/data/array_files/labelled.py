"""One series of a UCR file: its values channel by channel, its label, and where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.array_files.values import LARGEST
from pipeline.errors import DataError

Vector = NDArray[np.float64]
MISSING = ("", "?", "nan", "na", "null", "none")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """A series as it stands in a line.

    Args:
        where: Its file and line, for messages.
        label: Its text; None = it has none.
        channels: (steps,) each.
    """

    where: str
    label: str | None
    channels: tuple[Vector, ...]


def channel(fields: Sequence[str], where: str, *, first_field: int = 1) -> Vector:
    """Read the values of one channel; missing ones at its end are padding and left away.

    Args:
        fields: Texts of the values.
        where: File and line, for messages.
        first_field: Number of the first field in its line.

    Raises:
        DataError: A field is no finite number, or missing within the series.
    """
    values = _numbers(fields, where, first_field)
    present = np.flatnonzero(~np.isnan(values))
    if not len(present):
        raise DataError(f"{where} has no value; expected numbers. Leave this line out")
    whole = values[: present[-1] + 1]
    holes = np.flatnonzero(np.isnan(whole))
    if len(holes):
        raise DataError(
            f"{where}: value {holes[0] + 1} of {len(whole)} is missing, {len(holes)} in this "
            "line; expected a number. Fill holes in first, for example by interpolation"
        )
    return whole


def _numbers(fields: Sequence[str], where: str, first_field: int) -> Vector:
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        pairs = enumerate(fields, start=first_field)
        values = np.array([_number(field, number, where) for number, field in pairs])
    infinite = np.flatnonzero(np.abs(values) > LARGEST)
    if len(infinite):
        index = int(infinite[0])
        raise DataError(
            f"{where}: field {index + first_field} is {fields[index].strip()}; expected a finite "
            "number up to 3.4e38"
        )
    return values


def _number(field: str, number: int, where: str) -> float:
    text = field.strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        hint = f"; write {text.replace(',', '.')}" if text.count(",") == 1 else ""
        raise DataError(f"{where}: field {number} is {text!r}; expected a number{hint}") from error
