"""Series in the archive's `.tsv` and `.txt`: a line each, the label first."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.data.array_files.labelled import Labelled, channel
from pipeline.data.array_files.texts import lines
from pipeline.errors import DataError


def read_rows(file: Path) -> list[Labelled]:
    """Read series with a label in front.

    Raises:
        DataError: The file has no series, or a line is none; names the line.
    """
    return [_labelled(fields, where) for where, fields in _split(file)]


def read_rows_for(file: Path, *, steps: int) -> list[Labelled]:
    """Read new series, where a file whose lines all have `steps` values has no labels.

    Args:
        file: The file.
        steps: Values of a series that the model reads.

    Raises:
        DataError: As `read_rows`.
    """
    rows = _split(file)
    if all(len(fields) == steps for _, fields in rows):
        return [
            Labelled(where=where, label=None, channels=(channel(fields, where),))
            for where, fields in rows
        ]
    return [_labelled(fields, where) for where, fields in rows]


def _split(file: Path) -> list[tuple[str, Sequence[str]]]:
    rows = [(f"{file.name} line {number}", _fields(text)) for number, text in lines(file)]
    if not rows:
        raise DataError(f"{file} has 0 series; expected one a line, its label first")
    return rows


def _fields(text: str) -> Sequence[str]:
    """Split at tabs or commas, where an empty field is a missing value, else at runs of spaces."""
    for separator in "\t,":
        if separator in text:
            return [field.strip() for field in text.split(separator)]
    return text.split()


def _labelled(fields: Sequence[str], where: str) -> Labelled:
    if len(fields) < 2:
        raise DataError(
            f"{where} has 1 field, {fields[0]!r}; expected a label and then the values, parted by "
            "tabs, commas or spaces"
        )
    values = channel(fields[1:], where, first_field=2)
    return Labelled(where=where, label=fields[0], channels=(values,))
