"""Labelled series of the UCR archive: `.tsv` and `.txt` (label first), `.ts` (label last)."""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from pipeline.data.array_files import LARGEST, PARTS, PartName, files_in, readable, require_content
from pipeline.data.labels import (
    Asked,
    Target,
    Word,
    classes_of,
    labelled_samples,
    target_of,
    whole_text,
)
from pipeline.data.source import Array, Samples, Source, Task
from pipeline.errors import DataError, did_you_mean

Vector = NDArray[np.float64]
Header = Mapping[str, Sequence[str]]
MISSING = ("", "?", "nan", "na", "null", "none")
SUFFIXES = ("ts", "tsv", "txt")
"""The one that says most comes first."""
CLASSES, VALUES = "classlabel", "targetlabel"
_NAME = re.compile(r"(?P<name>.+)_(?P<part>train|test)\.(?P<suffix>ts|tsv|txt)", re.IGNORECASE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(kw_only=True, eq=False)
class Ucr(Source):
    """Series of equal length with a class or a value each; the archive's own split is kept.

    Args:
        path: The folder, or one of the files `NAME_TRAIN.*` and `NAME_TEST.*`.
        length: Steps that each series gets: longer ones are cut, shorter ones go on with their
            last value; None = all are of one length.
        task: The task; None = told by the labels.
        positive: The positive one of two classes; None = the rarer.
        units: Unit of a regression's targets; empty = none.
    """

    path: str
    length: Annotated[int, Gt(0)] | None
    task: Task | None
    positive: Word | None
    units: str

    def read(self) -> Samples:
        """Read the series, (rows, steps, channels), those of TRAIN first."""
        paths, notes = _pair(readable(self.path))
        files = {part: read_series(path) for part, path in paths.items()}
        sizes = {part: len(file.series) for part, file in files.items()}
        series = [one for file in files.values() for one in file.series]
        return labelled_samples(
            stacked(series, length=self.length),
            self._target(series, files),
            sizes,
            reading={"kind": "array", "format": "ucr", "length": self.length},
            found=[*notes, *(note for file in files.values() for note in file.notes)],
            notes=_length_note(series, self.length),
            units=self.units,
        )

    def _target(
        self, series: Sequence["LabelledSeries"], files: Mapping[PartName, "UcrFile"]
    ) -> Target:
        asked = Asked(task=self.task, positive=self.positive, always_classes=True)
        regression = files["train"].regression
        classes = [*dict.fromkeys(name for file in files.values() for name in file.classes)]
        labels = [_required_label(one) for one in series]
        if classes and not regression:
            index_of = {_as_number(name): index for index, name in enumerate(classes)}
            for one, label in zip(series, labels, strict=True):
                if _as_number(label) not in index_of:
                    raise DataError(
                        f"{one.where} has the label {label!r}, which @classLabel does not name; "
                        f"expected one of {', '.join(classes)}"
                    )
            indices = np.array([index_of[_as_number(label)] for label in labels])
            return classes_of(indices, classes, asked)
        try:
            values: Array = np.array(labels, dtype=np.float64)
        except ValueError as error:
            if regression:
                row = next((n for n, label in enumerate(labels) if not is_number(label)), 0)
                raise DataError(
                    f"{series[row].where} has the label {labels[row]!r}; expected a number, since "
                    "the header says @targetLabel true"
                ) from error
            values = np.array(labels)
        asked = Asked(task="regression") if regression else asked
        return target_of(values, asked, lambda row: f"the label of {series[row].where}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledSeries:
    """A series as it stands in a line.

    Args:
        where: Its file and line, for messages.
        label: Its text; None = it has none.
        channels: (steps,) each.
    """

    where: str
    label: str | None
    channels: tuple[Vector, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UcrFile:
    """What a file of the archive holds.

    Args:
        series: In the order of the lines.
        classes: Names in the header's order; empty = the file names none.
        regression: Whether the labels are values to predict.
        notes: Where the header contradicts the lines.
    """

    series: Sequence[LabelledSeries]
    classes: tuple[str, ...] = ()
    regression: bool = False
    notes: tuple[str, ...] = ()


def read_series(file: Path, *, steps: int | None = None) -> UcrFile:
    """Read a file of the archive.

    Args:
        file: A `.ts`, or lines with a label and values.
        steps: Values of a series that a model reads: lines that all have as many are without
            labels; None = each line has a label.

    Raises:
        DataError: The file has no series, or a line is none; names the line.
    """
    if file.suffix.lower() == ".ts":
        return _read_ts(file)
    rows = [(f"{file.name} line {number}", _fields(text)) for number, text in lines(file)]
    if not rows:
        raise DataError(f"{file} has 0 series; expected one a line, its label first")
    labelled = any(len(fields) != steps for _, fields in rows)
    first = 1 if labelled else 0
    series = []
    for where, fields in rows:
        if len(fields) <= first:
            raise DataError(
                f"{where} has 1 field, {fields[0]!r}; expected a label and then the values, parted "
                "by tabs, commas or spaces"
            )
        values = channel(fields[first:], where, first_field=1 + first)
        label = fields[0] if labelled else None
        series.append(LabelledSeries(where=where, label=label, channels=(values,)))
    return UcrFile(series=series)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, stripped of spaces, each with its number from 1.

    Raises:
        DataError: The file is not UTF-8, or holds a NUL byte; names line and byte.
    """
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
                yield number, text


def channel(fields: Sequence[str], where: str, *, first_field: int = 1) -> Vector:
    """Read the values of one channel; missing ones at its end are padding and left away.

    Args:
        fields: Texts of the values.
        where: File and line, for messages.
        first_field: Number of the first field in its line.

    Raises:
        DataError: A field is no finite number, or missing within the series.
    """
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


def is_number(text: str) -> bool:
    """Return whether a text is one number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(field: str, number: int, where: str) -> float:
    text = field.strip()
    if text.lower() in MISSING:
        return float("nan")
    if is_number(text):
        return float(text)
    hint = f"; write {text.replace(',', '.')}" if text.count(",") == 1 else ""
    raise DataError(f"{where}: field {number} is {text!r}; expected a number{hint}")


def stacked(series: Sequence[LabelledSeries], *, length: int | None) -> NDArray[np.float64]:
    """Return the series as (rows, steps, channels).

    Args:
        series: At least one.
        length: Steps that each gets: a longer one is cut, a shorter one goes on with its last
            value; None = all have to be of one length.

    Raises:
        DataError: Numbers of channels or lengths differ; names the lines and both numbers.
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
            made[row, : len(values), index] = values[:length]
            made[row, len(values) :, index] = values[-1]
    return made


def _refuse_other_lengths(series: Sequence[LabelledSeries], expected: int) -> None:
    lengths = [len(values) for one in series for values in one.channels]
    if set(lengths) == {expected}:
        return
    where, number = next(
        (one.where if len(one.channels) == 1 else f"{one.where}, channel {index}", len(values))
        for one in series
        for index, values in enumerate(one.channels, start=1)
        if len(values) != expected
    )
    raise DataError(
        f"{where} has {number} values, {series[0].where} has {expected} (from "
        f"{min(lengths)} to {max(lengths)} in all); expected one length. data.length="
        f"{max(lengths)} goes on with the last value of shorter ones, data.length="
        f"{min(lengths)} cuts longer ones"
    )


def _length_note(series: Sequence[LabelledSeries], length: int | None) -> list[str]:
    """Say how many series are cut or padded."""
    lengths = np.array([len(values) for one in series for values in one.channels])
    if length is None or (lengths == length).all():
        return []
    return [
        f"data.length={length}: {(lengths > length).sum()} series are cut, "
        f"{(lengths < length).sum()} padded with their last value "
        f"(lengths from {lengths.min()} to {lengths.max()})"
    ]


def _fields(text: str) -> Sequence[str]:
    """Split at tabs or commas, where an empty field is a missing value, else at runs of spaces."""
    for separator in "\t,":
        if separator in text:
            return [field.strip() for field in text.split(separator)]
    return text.split()


def _read_ts(file: Path) -> UcrFile:
    """Read `.ts`: a header of `@` lines, channels parted by `:`, the label last."""
    numbered = lines(file)
    header = _header(file, numbered)
    labelled = _says(header, CLASSES) or _says(header, VALUES)
    series = [
        _of_ts_line(text, f"{file.name} line {number}", labelled=labelled)
        for number, text in numbered
        if not text.startswith(("#", "%"))
    ]
    if not series:
        raise DataError(f"{file} has 0 series behind @data; expected one a line")
    return UcrFile(
        series=series,
        classes=tuple(header[CLASSES][1:]) if _says(header, CLASSES) else (),
        regression=_says(header, VALUES),
        notes=tuple(_contradictions(file, header, series[0])),
    )


def _header(file: Path, numbered: Iterator[tuple[int, str]]) -> Header:
    """Return the words behind each key of the header, and leave the lines behind @data."""
    header: dict[str, Sequence[str]] = {}
    for number, text in numbered:
        if text.startswith(("#", "%")):
            continue
        if not text.startswith("@"):
            raise DataError(
                f"{file.name} line {number} is {text[:20]!r} before @data; expected header lines "
                "such as '@classLabel true A B' and then @data"
            )
        key, *words = text[1:].split() or [""]
        if key.lower() == "data":
            _check_header(file, header, number)
            return header
        header[key.lower()] = words
    raise DataError(f"{file} has no @data line; expected one between the header and the series")


def _says(header: Header, key: str) -> bool:
    """Return whether a key is there and not false."""
    return key in header and [word.lower() for word in header[key][:1]] != ["false"]


def _check_header(file: Path, header: Header, number: int) -> None:
    if _says(header, "timestamps"):
        raise DataError(
            f"{file.name} says @timeStamps true; expected values alone, evenly spaced. "
            "Leave the times out and write @timeStamps false"
        )
    if CLASSES not in header and VALUES not in header:
        known = [key for key in header if did_you_mean(key, (CLASSES, VALUES))]
        seen = f" '@{known[0]}' is neither." if known else ""
        raise DataError(
            f"{file.name} line {number}: the header has neither @classLabel nor @targetLabel;"
            f"{seen} expected '@classLabel true A B', '@classLabel false' or '@targetLabel true'"
        )


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
    channels = tuple(
        channel(part.split(","), where if len(parts) == 1 else f"{where}, channel {number}")
        for number, part in enumerate(parts, start=1)
    )
    return LabelledSeries(where=where, label=label, channels=channels)


def _contradictions(file: Path, header: Header, first: LabelledSeries) -> Iterator[str]:
    for name, keys, there in (
        ("@dimensions", ("dimensions", "dimension"), len(first.channels)),
        ("@seriesLength", ("serieslength",), len(first.channels[0])),
    ):
        words = [word for key in keys for word in header.get(key, ())[:1] if word.isdigit()]
        if words and int(words[0]) not in (0, there):
            yield (
                f"{file.name} says {name} {int(words[0])}, but its first series has {there}; "
                "the lines decide"
            )


def _required_label(one: LabelledSeries) -> str:
    if one.label is None:
        raise DataError(f"{one.where} has no label (@classLabel false); expected one to learn from")
    if one.label.lower() in MISSING:
        raise DataError(f"{one.where} has the label {one.label!r}, which is missing; leave it out")
    return one.label


def _as_number(label: str) -> str:
    return whole_text(float(label)) if is_number(label) else label


def _pair(place: Path) -> tuple[dict[PartName, Path], list[str]]:
    """Find both files from their folder or from one of them; return them and what was chosen.

    Raises:
        DataError: There is no training file, or several data sets lie there.
    """
    notes: list[str] = []
    if place.is_dir():
        found, notes = _of_folder(place)
    elif match := _NAME.fullmatch(place.name):
        found = _sets(place.parent)[match["name"].lower(), match["suffix"].lower()]
        if "train" not in found:
            raise DataError(
                f"{place} has the test alone; expected {match['name']}_TRAIN.{match['suffix']} "
                "beside it"
            )
    else:
        require_content(place)
        return {"train": place}, notes
    for file in found.values():
        require_content(file)
    if "test" not in found:
        notes.append(
            f"{found['train'].name} has no _TEST file beside it; a share of its rows tests"
        )
    return {part: found[part] for part in ("train", "test") if part in found}, notes


def _of_folder(folder: Path) -> tuple[dict[PartName, Path], list[str]]:
    sets = {key: parts for key, parts in _sets(folder).items() if "train" in parts}
    names = sorted({name for name, _ in sets})
    if not names:
        raise DataError(
            f"{folder} has no file of series; expected NAME_TRAIN.tsv and NAME_TEST.tsv in it "
            "(or .txt, .ts)"
        )
    own = folder.resolve().name.lower()
    if len(names) > 1 and own not in names:
        listed = ", ".join(str(parts["train"].name) for parts in sets.values())
        raise DataError(
            f"{folder} has several data sets: {listed}; say which: "
            f"data.path={folder}/NAME_TRAIN.tsv"
        )
    name = own if own in names else names[0]
    first, *others = [suffix for suffix in SUFFIXES if (name, suffix) in sets]
    parts = sets[name, first]
    chosen = f"{parts['train'].name} is read; {', '.join(others)} files of it lie there too"
    return parts, [chosen] if others else []


def _sets(folder: Path) -> dict[tuple[str, str], dict[PartName, Path]]:
    """Return the files by name and suffix of their set, and by part."""
    sets: dict[tuple[str, str], dict[PartName, Path]] = {}
    for file in files_in(folder):
        match = _NAME.fullmatch(file.name)
        if match is not None:
            key = match["name"].lower(), match["suffix"].lower()
            sets.setdefault(key, {})[PARTS[match["part"].lower()]] = file
    return sets
