"""Series of the UCR archive, one per line of a text file, each with its label.

In `.tsv`, `.txt` and `.csv` files the label is first, in `.ts` files it is last.
"""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from pipeline.data import array_files as files
from pipeline.data.labels import Asked, Target, Word, classes_of, labelled_samples, target_of
from pipeline.data.source import Array, Samples, Source, Task
from pipeline.errors import DataError, did_you_mean

Floats = NDArray[np.float64]
MISSING = ("", "?", "nan", "na", "null", "none")
#: A number whose commas may separate thousands.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
CLASSES, VALUES = "classlabel", "targetlabel"
#: Suffixes of the archive's files, the most informative format first.
SUFFIXES = ("ts", "tsv", "txt", "csv")
_NAME = re.compile(
    rf"(?P<name>.+)_(?P<part>train|test)\.(?P<suffix>{'|'.join(SUFFIXES)})", re.IGNORECASE
)
#: Files of each part, by the name of the set and their suffix.
Sets = dict[tuple[str, str], dict[files.PartName, Path]]
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class LabelledSeries(NamedTuple):
    """A series in a line: its file and line, its label if any, and its channels (steps,)."""

    where: str
    label: str | None
    channels: Sequence[Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class UcrFile:
    """Series of a file of the archive, in the order of the lines.

    `classes` are those that the header names, if any. `regression` means that labels are values to
    predict. `notes` say where the header contradicts the lines.
    """

    series: Sequence[LabelledSeries]
    classes: Sequence[str] = ()
    regression: bool = False
    notes: Sequence[str] = ()


def read_series(file: Path, *, steps: int | None = None) -> UcrFile:
    """Read a file of the archive: a `.ts` file, or lines with a label and values.

    If all lines have `steps` values, as new rows may, they have no labels; None = all have one.

    Raises:
        DataError: A line is not a series.
    """
    if file.suffix.lower() == ".ts":
        return _read_ts(file)
    rows = []
    for where, text in lines_of(file):
        # An empty field between tabs or commas is a missing value; runs of spaces are one.
        separator = next((one for one in "\t," if one in text), None)
        rows.append((where, [field.strip() for field in text.split(separator)]))
    if not rows:
        raise DataError(f"{file} has 0 series; expected one per line, its label first")
    first = int(any(len(fields) != steps for _, fields in rows))  # 1 = after a label
    series = []
    for where, fields in rows:
        if len(fields) <= first:
            raise DataError(
                f"{where} has 1 field, {fields[0]!r}; expected a label, then the values, separated "
                "by tabs, commas or spaces"
            )
        values = channel_of(fields[first:], where, first_field=1 + first)
        series.append(LabelledSeries(where, fields[0] if first else None, [values]))
    return UcrFile(series=series)


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the stripped lines that are not blank, each after its file and line number."""
    files.require_content(file)
    with file.open("rb") as opened:
        # Only LF ends what a file yields; a CR may end a line as well.
        lines = (line for content in opened for line in content.splitlines())
        for number, content in enumerate(lines, start=1):
            where, first = f"{file.name} line {number}", number == 1
            if first and content.startswith(_UTF16):
                raise DataError(f"{where} begins as UTF-16; expected UTF-8. Save the file as UTF-8")
            if b"\0" in content:
                raise DataError(
                    f"{where} has a NUL byte at position {content.index(0)}; expected UTF-8. "
                    "Save the file as UTF-8"
                )
            try:
                text = content.decode("utf-8-sig" if first else "utf-8").strip(" ")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where} has byte 0x{content[error.start]:02X} at position {error.start}, "
                    "which is not UTF-8; save the file as UTF-8"
                ) from error
            if text.strip():
                yield where, text


def channel_of(fields: Sequence[str], where: str, *, first_field: int = 1) -> Floats:
    """Return the values of one channel; missing ones at its end are padding and left out."""
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        pairs = enumerate(fields, start=first_field)
        values = np.array([_number(field.strip(), number, where) for number, field in pairs])
    infinite = np.flatnonzero(np.abs(values) > files.LARGEST)
    if len(infinite):
        index = int(infinite[0])
        raise DataError(
            f"{where}: field {index + first_field} is {fields[index].strip()}; expected a finite "
            "number up to 3.4e38"
        )
    present = np.flatnonzero(~np.isnan(values))
    if not len(present):
        raise DataError(f"{where} has no value; expected numbers. Remove this line")
    whole = values[: present[-1] + 1]
    holes = np.flatnonzero(np.isnan(whole))
    if len(holes):
        raise DataError(
            f"{where}: value {holes[0] + 1} of {len(whole)} is missing, {len(holes)} in this "
            "line; expected a number. Fill it in first, for example by interpolation"
        )
    return whole


def _number(text: str, field: int, where: str) -> float:
    if text.lower() in MISSING:
        return float("nan")
    if is_number(text):
        return float(text)
    pointed = text.replace(",", ".")
    meanings = [pointed] if is_number(pointed) else []
    if THOUSANDS.fullmatch(text):
        meanings.append(text.replace(",", ""))
    hint = f"; write {' or '.join(meanings)}" if meanings else ""
    raise DataError(f"{where}: field {field} is {text!r}; expected a number{hint}")


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_ts(file: Path) -> UcrFile:
    """Read a `.ts` file: a header of `@` lines, channels separated by `:`, the label last."""
    lines = ((where, text) for where, text in lines_of(file) if not text.startswith(("#", "%")))
    header = _header(file, lines)
    labelled = _says(header, CLASSES) or _says(header, VALUES)
    series = [_of_ts_line(text, where, labelled=labelled) for where, text in lines]
    if not series:
        raise DataError(f"{file} has 0 series after @data; expected one per line")
    notes = []
    for name, keys, there in (
        ("@dimensions", ("dimensions", "dimension"), len(series[0].channels)),
        ("@seriesLength", ("serieslength",), len(series[0].channels[0])),
    ):
        words = [word for key in keys for word in header.get(key, ())[:1] if word.isdigit()]
        if words and int(words[0]) not in (0, there):
            notes.append(
                f"{file.name} says {name} {int(words[0])}, but its first series has {there}; "
                "the data lines are used"
            )
    return UcrFile(
        series=series,
        classes=header[CLASSES][1:] if _says(header, CLASSES) else (),
        regression=_says(header, VALUES),
        notes=notes,
    )


def _says(header: Mapping[str, Sequence[str]], key: str) -> bool:
    """Return whether the header has a key and its value is not false."""
    return key in header and [word.lower() for word in header[key][:1]] != ["false"]


def _header(file: Path, lines: Iterator[tuple[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return the words after each key of the header; `lines` goes on after @data."""
    header: dict[str, Sequence[str]] = {}
    for where, text in lines:
        if not text.startswith("@"):
            raise DataError(
                f"{where} is {text[:20]!r} before @data; expected header lines "
                "such as '@classLabel true A B' then @data"
            )
        key, *words = text[1:].split() or [""]
        if key.lower() == "data":
            break
        header[key.lower()] = words
    else:
        raise DataError(f"{file} has no @data line; expected one between header and series")
    if _says(header, "timestamps"):
        raise DataError(
            f"{file.name} says @timeStamps true; expected only values, evenly spaced. "
            "Remove the times and write @timeStamps false"
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
            f"{where} has values with timestamps, '(time,value)'; expected only values, evenly "
            "spaced. Remove the times"
        )
    parts, label = text.split(":"), None
    if labelled:
        if len(parts) < 2:
            raise DataError(f"{where} has no ':'; expected values, ':' and the label")
        label = parts.pop().strip()
    places = [f"{where}, channel {n}" for n in range(1, len(parts) + 1)] if parts[1:] else [where]
    channels = [channel_of(one.split(","), at) for one, at in zip(parts, places, strict=True)]
    return LabelledSeries(where, label, channels)


def stack(series: Sequence[LabelledSeries], *, length: int | None) -> Floats:
    """Return series (at least one) as an array (rows, steps, channels).

    Longer series are cut to `length`, shorter ones are padded with their last value; None = all
    must have one length.

    Raises:
        DataError: The series differ in channels or, without `length`, in length.
    """
    first = series[0]
    for one in series:
        if len(one.channels) != len(first.channels):
            raise DataError(
                f"{one.where} has {len(one.channels)} channels, {first.where} has "
                f"{len(first.channels)}; expected the same number in each line"
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
                    f"{max(lengths)} repeats the last value of shorter ones, data.length="
                    f"{min(lengths)} cuts longer ones"
                )


@dataclass(kw_only=True, eq=False)
class Ucr(Source):
    """Series of equal length with one class or value each; the split of the archive is kept.

    Args:
        path: The folder, or one of the files `NAME_TRAIN.*` and `NAME_TEST.*`.
        length: Steps per series: longer ones are cut, shorter ones are padded with their last
            value; None = all have one length.
        task: The task; None = inferred from the labels.
        positive: The positive one of two classes; None = the rarer one.
        units: Unit of a regression's targets; empty = none.
    """

    path: str
    length: Annotated[int, Gt(0)] | None
    task: Task | None
    positive: Word | None
    units: str

    def read(self) -> Samples:
        """Read the series, (rows, steps, channels), those of TRAIN first."""
        paths, notes = _pair(files.readable(self.path))
        found = {part: read_series(path) for part, path in paths.items()}
        series = [one for file in found.values() for one in file.series]
        inputs = stack(series, length=self.length)
        target = self._target(series, found)
        lengths = np.array([len(values) for one in series for values in one.channels])
        resized = (
            f"data.length={self.length}: {(lengths > inputs.shape[1]).sum()} series are cut, "
            f"{(lengths < inputs.shape[1]).sum()} padded with their last value "
            f"(lengths from {lengths.min()} to {lengths.max()})"
        )
        return labelled_samples(
            inputs,
            target,
            {part: len(file.series) for part, file in found.items()},
            reading={"kind": "array", "format": "ucr", "length": self.length},
            found=[*notes, *(note for file in found.values() for note in file.notes)],
            notes=[resized] if (lengths != inputs.shape[1]).any() else [],
            units=self.units,
        )

    def _target(
        self, series: Sequence[LabelledSeries], found: Mapping[files.PartName, UcrFile]
    ) -> Target:
        asked = Asked(task=self.task, positive=self.positive, always_classes=True)
        regression = found["train"].regression
        classes = [*dict.fromkeys(name for file in found.values() for name in file.classes)]
        labels = [_required_label(one) for one in series]
        if classes and not regression:
            index_of = {_as_number(name): index for index, name in enumerate(classes)}
            for one, label in zip(series, labels, strict=True):
                if _as_number(label) not in index_of:
                    raise DataError(
                        f"{one.where} has the label {label!r}, which is not in @classLabel; "
                        f"expected one of {', '.join(classes)}"
                    )
            indices = np.array([index_of[_as_number(label)] for label in labels])
            return classes_of(indices, classes, asked)
        numbers = [is_number(label) for label in labels]
        if regression and not all(numbers):
            row = numbers.index(False)
            raise DataError(
                f"{series[row].where} has the label {labels[row]!r}; expected a number, as in "
                "@targetLabel true"
            )
        values: Array = np.array(labels, dtype=np.float64 if all(numbers) else None)
        asked = Asked(task="regression") if regression else asked
        return target_of(values, asked, lambda row: f"the label of {series[row].where}")


def _required_label(one: LabelledSeries) -> str:
    if one.label is None:
        raise DataError(f"{one.where} has no label (@classLabel false); expected a label")
    if one.label.lower() in MISSING:
        raise DataError(f"{one.where} has the missing label {one.label!r}; remove the line")
    return one.label


def _as_number(label: str) -> float | str:
    """Return the number that a label stands for, so that `1` equals `1.0`; a word is unchanged."""
    return float(label) if is_number(label) else label


def _pair(place: Path) -> tuple[dict[files.PartName, Path], list[str]]:
    """Return the files of the parts, given their folder or one of them, and notes on the choice."""
    match = None if place.is_dir() else _NAME.fullmatch(place.name)
    if match is None and not place.is_dir():
        return {"train": place}, []
    sets: Sets = {}
    for file in files.files_in(place if match is None else place.parent):
        if named := _NAME.fullmatch(file.name):
            key = named["name"].lower(), named["suffix"].lower()
            sets.setdefault(key, {})[files.PARTS[named["part"].lower()]] = file
    if match is None:
        found, notes = _of_folder(place, sets)
    else:
        found, notes = _whole(sets, match["name"].lower(), match["suffix"].lower()), []
        if "train" not in found:
            beside = f"{match['name']}_TRAIN.{match['suffix']} beside it"
            raise DataError(f"{place} has only test series; expected {beside}")
    if "test" not in found:
        notes.append(
            f"{found['train'].name} has no _TEST file; some of its rows are held out for testing"
        )
    return {part: found[part] for part in ("train", "test") if part in found}, notes


def _whole(sets: Sets, name: str, suffix: str) -> dict[files.PartName, Path]:
    """Return the files of a set; a missing part is one of another suffix that is alone as well."""
    own, alone = sets[name, suffix], [sets.get((name, one), {}) for one in SUFFIXES[::-1]]
    return {part: file for found in alone if len(found) == 1 for part, file in found.items()} | own


def _of_folder(folder: Path, sets: Sets) -> tuple[dict[files.PartName, Path], list[str]]:
    """Return the files of the set named like the folder, or of the only set, and notes on them."""
    trained = {key: parts for key, parts in sets.items() if "train" in parts}
    names = sorted({name for name, _ in trained})
    if not names:
        raise DataError(
            f"{folder} has no series file; expected NAME_TRAIN.tsv and NAME_TEST.tsv in it "
            "(or .txt, .ts)"
        )
    own = folder.resolve().name.lower()
    if len(names) > 1 and own not in names:
        listed = ", ".join(parts["train"].name for parts in trained.values())
        raise DataError(
            f"{folder} has several data sets: {listed}; choose one: "
            f"data.path={folder}/NAME_TRAIN.tsv"
        )
    name = own if own in names else names[0]
    first, *others = [suffix for suffix in SUFFIXES if (name, suffix) in trained]
    parts = _whole(sets, name, first)
    chosen = f"using {parts['train'].name}; its {', '.join(others)} files are ignored"
    return parts, [chosen] if others else []
