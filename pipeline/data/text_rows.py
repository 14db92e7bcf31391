"""Rows in lines of text: series of the UCR archive, and flattened samples of a CSV."""

import codecs
import csv
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.data.array_files import IN_MEMORY_BYTES, LARGEST, require_content
from pipeline.errors import DataError, did_you_mean

Floats = NDArray[np.float64]
MISSING = ("", "?", "nan", "na", "null", "none")
SEPARATORS = ",;\t"
CLASSES, VALUES = "classlabel", "targetlabel"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class LabelledSeries(NamedTuple):
    """The channels (steps,) of a series in a line, its label, if any, and its file and line."""

    where: str
    label: str | None
    channels: Sequence[Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class UcrFile:
    """The series of a file of the archive, in the order of the lines.

    Its header names the classes, or none, and says whether labels are values to predict; the notes
    say where it contradicts the lines.
    """

    series: Sequence[LabelledSeries]
    classes: Sequence[str] = ()
    regression: bool = False
    notes: Sequence[str] = ()


def read_series(file: Path, *, steps: int | None = None) -> UcrFile:
    """Read a file of the archive: a `.ts`, or lines with a label and values.

    Lines that all have `steps` values, as a model reads, are without labels; None = each has one.

    Raises:
        DataError: It names the line, where the file has no series, or a line is none.
    """
    if file.suffix.lower() == ".ts":
        return _read_ts(file)
    rows = [(where, _fields(text)) for where, text in _lines(file)]
    if not rows:
        raise DataError(f"{file} has 0 series; expected one a line, its label first")
    first = int(any(len(fields) != steps for _, fields in rows))  # 1 = behind a label
    series = []
    for where, fields in rows:
        if len(fields) <= first:
            raise DataError(
                f"{where} has 1 field, {fields[0]!r}; expected a label and then the values, parted "
                "by tabs, commas or spaces"
            )
        values = _channel(fields[first:], where, first_field=1 + first)
        series.append(LabelledSeries(where, fields[0] if first else None, [values]))
    return UcrFile(series=series)


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, stripped, each with its file and number."""
    require_content(file)
    with file.open("rb") as opened:
        for number, content in enumerate(opened, start=1):
            where, first = f"{file.name} line {number}", number == 1
            if first and content.startswith(_UTF16):
                raise DataError(f"{where} begins as UTF-16; expected UTF-8. Save the file as UTF-8")
            if b"\0" in content:
                raise DataError(
                    f"{where} has a NUL byte at position {content.index(0)}; expected a text in "
                    "UTF-8. Save the file as UTF-8"
                )
            try:
                text = content.decode("utf-8-sig" if first else "utf-8").strip(" \r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where} has byte 0x{content[error.start]:02X} at position {error.start}, "
                    "which is not UTF-8; save the file as UTF-8"
                ) from error
            if text.strip():
                yield where, text


def _fields(text: str) -> Sequence[str]:
    """Split at tabs or commas, where an empty field is a missing value, else at runs of spaces."""
    separator = next((one for one in "\t," if one in text), None)
    return [field.strip() for field in text.split(separator)]


def _channel(fields: Sequence[str], where: str, *, first_field: int = 1) -> Floats:
    """Read the values of one channel; missing ones at its end are padding and left away."""
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        pairs = enumerate(fields, start=first_field)
        values = np.array([_number(field.strip(), number, where) for number, field in pairs])
    infinite = np.flatnonzero(np.abs(values) > LARGEST)
    if len(infinite):
        index = int(infinite[0])
        raise DataError(
            f"{where}: field {index + first_field} is {fields[index].strip()}; expected a finite "
            "number up to 3.4e38"
        )
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


def _number(text: str, field: int, where: str) -> float:
    if text.lower() in MISSING:
        return float("nan")
    if is_number(text):
        return float(text)
    hint = f"; write {text.replace(',', '.')}" if text.count(",") == 1 else ""
    raise DataError(f"{where}: field {field} is {text!r}; expected a number{hint}")


def is_number(text: str) -> bool:
    """Return whether a text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_ts(file: Path) -> UcrFile:
    """Read `.ts`: a header of `@` lines, channels parted by `:`, the label last."""
    lines = ((where, text) for where, text in _lines(file) if not text.startswith(("#", "%")))
    header = _header(file, lines)
    labelled = _says(header, CLASSES) or _says(header, VALUES)
    series = [_of_ts_line(text, where, labelled=labelled) for where, text in lines]
    if not series:
        raise DataError(f"{file} has 0 series behind @data; expected one a line")
    notes = []
    for name, keys, there in (
        ("@dimensions", ("dimensions", "dimension"), len(series[0].channels)),
        ("@seriesLength", ("serieslength",), len(series[0].channels[0])),
    ):
        words = [word for key in keys for word in header.get(key, ())[:1] if word.isdigit()]
        if words and int(words[0]) not in (0, there):
            notes.append(
                f"{file.name} says {name} {int(words[0])}, but its first series has {there}; "
                "the lines decide"
            )
    return UcrFile(
        series=series,
        classes=header[CLASSES][1:] if _says(header, CLASSES) else (),
        regression=_says(header, VALUES),
        notes=notes,
    )


def _says(header: Mapping[str, Sequence[str]], key: str) -> bool:
    """Return whether a key is there and not false."""
    return key in header and [word.lower() for word in header[key][:1]] != ["false"]


def _header(file: Path, lines: Iterator[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return the words behind each key of the header, and leave the lines behind @data."""
    header: dict[str, Sequence[str]] = {}
    for where, text in lines:
        if not text.startswith("@"):
            raise DataError(
                f"{where} is {text[:20]!r} before @data; expected header lines "
                "such as '@classLabel true A B' and then @data"
            )
        key, *words = text[1:].split() or [""]
        if key.lower() == "data":
            break
        header[key.lower()] = words
    else:
        raise DataError(f"{file} has no @data line; expected one between the header and the series")
    if _says(header, "timestamps"):
        raise DataError(
            f"{file.name} says @timeStamps true; expected values alone, evenly spaced. "
            "Leave the times out and write @timeStamps false"
        )
    if CLASSES not in header and VALUES not in header:
        near = [f" '@{key}' is neither." for key in header if did_you_mean(key, (CLASSES, VALUES))]
        raise DataError(
            f"{where}: the header has neither @classLabel nor @targetLabel;{''.join(near[:1])} "
            "expected '@classLabel true A B', '@classLabel false' or '@targetLabel true'"
        )
    return header


def _of_ts_line(text: str, where: str, *, labelled: bool) -> LabelledSeries:
    if "(" in text:
        raise DataError(
            f"{where} has values with timestamps, '(time,value)'; expected values alone, evenly "
            "spaced. Leave the times out"
        )
    parts, label = text.split(":"), None
    if labelled:
        if len(parts) < 2:
            raise DataError(f"{where} has no ':'; expected values, ':' and the label")
        label = parts.pop().strip()
    places = [f"{where}, channel {n}" for n in range(1, len(parts) + 1)] if parts[1:] else [where]
    channels = [_channel(one.split(","), at) for one, at in zip(parts, places, strict=True)]
    return LabelledSeries(where, label, channels)


def stack(series: Sequence[LabelledSeries], *, length: int | None) -> Floats:
    """Return at least one series as (rows, steps, channels).

    A longer one is cut to `length`, a shorter one goes on with its last value; None = all have to
    be of one length.

    Raises:
        DataError: It names the lines whose channels or lengths differ.
    """
    first = series[0]
    for one in series:
        if len(one.channels) != len(first.channels):
            raise DataError(
                f"{one.where} has {len(one.channels)} channels, {first.where} has "
                f"{len(first.channels)}; expected as many in each line"
            )
    if length is None:
        length = len(first.channels[0])
        _refuse_other_lengths(series, length)
    made = np.empty((len(series), length, len(first.channels)))
    for row, one in enumerate(series):
        for index, values in enumerate(one.channels):
            made[row, :, index] = values[np.minimum(np.arange(length), len(values) - 1)]
    return made


def _refuse_other_lengths(series: Sequence[LabelledSeries], expected: int) -> None:
    lengths = {len(values) for one in series for values in one.channels}
    for one in series:
        for number, values in enumerate(one.channels, start=1):
            if len(values) != expected:
                where = one.where + (f", channel {number}" if one.channels[1:] else "")
                raise DataError(
                    f"{where} has {len(values)} values, {series[0].where} has {expected} (from "
                    f"{min(lengths)} to {max(lengths)} in all); expected one length. data.length="
                    f"{max(lengths)} goes on with the last value of shorter ones, data.length="
                    f"{min(lengths)} cuts longer ones"
                )


def flat_rows(file: Path, shape: tuple[int, ...]) -> Floats:
    """Read a CSV as (rows, *shape), a sample a line in C order; many rows lie in a file.

    Raises:
        DataError: A line has another number of fields, or one is no finite number.
    """
    width = math.prod(shape)
    rows = sum(1 for _ in _flat_lines(file))
    if rows * width * 8 <= IN_MEMORY_BYTES:
        made = np.empty((rows, width))
    else:
        unnamed = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping keeps it, and ends it
        made = np.memmap(unnamed, dtype=np.float64, mode="w+", shape=(rows, width))
    for index, (where, fields) in enumerate(_flat_lines(file)):
        if len(fields) != width:
            raise DataError(
                f"{where} has {len(fields)} fields; expected {width} values, a sample of shape "
                f"{shape} in one row"
            )
        values = _channel(fields, where)
        if len(values) != width:
            raise DataError(f"{where}: field {len(values) + 1} is missing; expected a number")
        made[index] = values
    return made.reshape(rows, *shape)


def _flat_lines(file: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the lines' places and fields, without a header: no number, or counted as pandas do."""
    separator = ""
    for where, text in _lines(file):
        is_first = not separator
        separator = separator or next((one for one in SEPARATORS if one in text), ",")
        fields = next(csv.reader([text], delimiter=separator))
        counted = len(fields) > 2 and fields == [str(index) for index in range(len(fields))]
        if not (is_first and (counted or not any(map(is_number, fields)))):
            yield where, fields
