"""Series of the UCR archive, one per line of a text file, each after its label."""

import codecs
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from pipeline.base.errors import DataError
from pipeline.data.parsing import array_files as files
from pipeline.data.parsing.cells.texts import exceeds_float32
from pipeline.data.parsing.labels import Target, TargetKeys, Word, labelled_samples, target_of
from pipeline.data.source import Array, Samples, Source, Task

Floats = NDArray[np.float64]
MISSING = ("", "?", "nan", "na", "null", "none")
#: A number whose commas may separate thousands.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
#: Suffixes of the archive's files; the first one that exists is read.
SUFFIXES = ("tsv", "txt", "csv", "ts")
#: Command that converts a `.ts` file, the form of the archive for several channels.
CONVERSION = (
    "python -c 'import sys, numpy as np; path = sys.argv[1]; "
    'lines = [line.strip() for line in open(path, encoding="utf-8-sig")]; '
    'rows = [line.split(":") for line in lines if line and line[0] not in "@#%"]; '
    'x = np.array([[c.split(",") for c in row[:-1]] for row in rows], float); '
    "np.savez(path[:-3], x=x.transpose(0, 2, 1), y=[row[-1].strip() for row in rows])' "
)
_NAME = re.compile(
    rf"(?P<name>.+)_(?P<part>train|test)\.(?P<suffix>{'|'.join(SUFFIXES)})", re.IGNORECASE
)
#: Files of each part, by the name of the set and their suffix.
Sets = dict[tuple[str, str], dict[files.PartName, Path]]
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class LabelledSeries(NamedTuple):
    """A series in a line: its file and line, its label if any, and its values (steps,)."""

    where: str
    label: str | None
    values: Floats


def read_series(file: Path, *, steps: int | None = None) -> Sequence[LabelledSeries]:
    """Read a file of the archive: lines with a label and values.

    If all lines have `steps` values, as new rows may, they have no labels; None = all have one.

    Raises:
        DataError: A line is not a series.
    """
    if file.suffix.lower() == ".ts":
        raise DataError(
            f"{file} is a .ts file; expected .tsv, .txt or .csv, with the label first. Convert it "
            f"and train with data=arrays: {CONVERSION}{shlex.quote(str(file))}"
        )
    rows = []
    for where, text in lines_of(file):
        # An empty field between tabs or commas is a missing value; runs of spaces are one.
        separator = None
        if "\t" in text:
            separator = "\t"
        elif "," in text:
            separator = ","
        rows.append((where, [field.strip() for field in text.split(separator)]))
    if not rows:
        raise DataError(f"{file} has 0 series; expected one per line, its label first")
    has_labels = any(len(fields) != steps for _, fields in rows)
    first = 1 if has_labels else 0
    series = []
    for where, fields in rows:
        if len(fields) <= first:
            raise DataError(
                f"{where} has 1 field, {fields[0]!r}; expected a label, then the values, separated "
                "by tabs, commas or spaces"
            )
        values = values_of(fields[first:], where, first_field=1 + first)
        series.append(LabelledSeries(where, fields[0] if has_labels else None, values))
    return series


def lines_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the stripped lines that are not blank, each after its file and line number."""
    files.require_content(file)
    with file.open("rb") as opened:
        # Only LF ends what a file yields; a CR may end a line as well.
        lines = (line for content in opened for line in content.splitlines())
        for number, content in enumerate(lines, start=1):
            where = f"{file.name} line {number}"
            if number == 1 and content.startswith(_UTF16):
                raise DataError(f"{where} begins as UTF-16; expected UTF-8. Save the file as UTF-8")
            if b"\0" in content:
                raise DataError(
                    f"{where} has a NUL byte at position {content.index(0)}; expected UTF-8. "
                    "Save the file as UTF-8"
                )
            try:
                text = content.decode("utf-8-sig" if number == 1 else "utf-8").strip(" ")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where} has byte 0x{content[error.start]:02X} at position {error.start}, "
                    "which is not UTF-8; save the file as UTF-8"
                ) from error
            if text.strip():
                yield where, text


def values_of(fields: Sequence[str], where: str, *, first_field: int = 1) -> Floats:
    """Return the values of one series; missing ones at its end are padding and left out."""
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        pairs = enumerate(fields, start=first_field)
        values = np.array([_number(field.strip(), number, where) for number, field in pairs])
    infinite = np.flatnonzero(exceeds_float32(values))
    if len(infinite):
        index = int(infinite[0])
        raise DataError(
            f"{where}: field {index + first_field} is {fields[index].strip()}; expected a finite "
            "number up to 3.4e38"
        )
    present = np.flatnonzero(~np.isnan(values))
    if not len(present):
        raise DataError(f"{where} has no value; expected numbers. Remove this line")
    unpadded = values[: present[-1] + 1]
    holes = np.flatnonzero(np.isnan(unpadded))
    if len(holes):
        raise DataError(
            f"{where}: value {holes[0] + 1} of {len(unpadded)} is missing, {len(holes)} in this "
            "line; expected a number. Fill it in first, for example by interpolation"
        )
    return unpadded


def _number(text: str, field: int, where: str) -> float:
    if text.lower() in MISSING:
        return float("nan")
    if is_number(text):
        return float(text)
    meanings = []
    with_point = text.replace(",", ".")
    if is_number(with_point):
        meanings.append(with_point)
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


def stack(series: Sequence[LabelledSeries], *, length: int | None) -> Floats:
    """Return series (at least one) as an array (rows, steps, 1).

    Longer series are cut to `length`, shorter ones are padded with their last value; None = all
    must have one length.

    Raises:
        DataError: The series differ in length, without `length`.
    """
    first = series[0]
    if length is None:
        length = len(first.values)
        lengths = {len(line.values) for line in series}
        for line in series:
            if len(line.values) != length:
                raise DataError(
                    f"{line.where} has {len(line.values)} values, {first.where} has {length} (from "
                    f"{min(lengths)} to {max(lengths)} in all); expected one length. data.length="
                    f"{max(lengths)} repeats the last value of shorter ones, data.length="
                    f"{min(lengths)} cuts longer ones"
                )
    steps = np.arange(length)
    rows = [line.values[np.minimum(steps, len(line.values) - 1)] for line in series]
    return np.stack(rows)[:, :, None]


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
        """Read the series, (rows, steps, 1), those of TRAIN first."""
        paths, leading_notes = _pair(files.readable(self.path))
        series: list[LabelledSeries] = []
        sizes = {}
        for part, path in paths.items():
            lines = read_series(path)
            series += lines
            sizes[part] = len(lines)
        inputs = stack(series, length=self.length)
        keys = TargetKeys(task=self.task, positive=self.positive, always_classes=True)
        lengths = np.array([len(line.values) for line in series])
        notes = []
        if (lengths != inputs.shape[1]).any():
            notes.append(
                f"data.length={self.length}: {(lengths > inputs.shape[1]).sum()} series are cut, "
                f"{(lengths < inputs.shape[1]).sum()} padded with their last value "
                f"(lengths from {lengths.min()} to {lengths.max()})"
            )
        return labelled_samples(
            inputs,
            _target(series, keys),
            sizes,
            reading={"kind": "array", "format": "ucr", "length": self.length},
            leading_notes=leading_notes,
            notes=notes,
            units=self.units,
        )


def _target(series: Sequence[LabelledSeries], keys: TargetKeys) -> Target:
    labels = [line.label or "" for line in series]
    for line, label in zip(series, labels, strict=True):
        if label.lower() in MISSING:
            raise DataError(f"{line.where} has the missing label {label!r}; remove the line")
    are_numbers = all(map(is_number, labels))
    values: Array = np.array(labels, dtype=np.float64 if are_numbers else None)
    return target_of(values, keys, lambda row: f"the label of {series[row].where}")


def _pair(place: Path) -> tuple[dict[files.PartName, Path], list[str]]:
    """Return the files of the parts, given their folder or one of them, and notes on the choice."""
    match = None if place.is_dir() else _NAME.fullmatch(place.name)
    if match is None and not place.is_dir():
        return {"train": place}, []
    sets = _sets_in(place if match is None else place.parent)
    notes: list[str] = []
    if match is None:
        parts, notes = _parts_of_folder(place, sets)
    else:
        parts = _parts_of_set(sets, match["name"].lower(), match["suffix"].lower())
        if "train" not in parts:
            expected = f"{match['name']}_TRAIN.{match['suffix']} beside it"
            raise DataError(f"{place} has only test series; expected {expected}")
    if "test" not in parts:
        train = parts["train"]
        notes.append(f"{train.name} has no _TEST file; some of its rows are held out for testing")
        return {"train": train}, notes
    return {"train": parts["train"], "test": parts["test"]}, notes


def _sets_in(folder: Path) -> Sets:
    sets: Sets = {}
    for file in files.files_in(folder):
        match = _NAME.fullmatch(file.name)
        if match is not None:
            key = (match["name"].lower(), match["suffix"].lower())
            sets.setdefault(key, {})[files.PARTS[match["part"].lower()]] = file
    return sets


def _parts_of_set(sets: Sets, name: str, suffix: str) -> dict[files.PartName, Path]:
    """Return the files of a set; a missing part is one of another suffix that is alone as well."""
    parts: dict[files.PartName, Path] = {}
    for set_suffix in reversed(SUFFIXES):
        set_parts = sets.get((name, set_suffix), {})
        if len(set_parts) == 1:
            parts.update(set_parts)
    parts.update(sets[name, suffix])
    return parts


def _parts_of_folder(folder: Path, sets: Sets) -> tuple[dict[files.PartName, Path], list[str]]:
    """Return the files of the set named like the folder, or of the only set, and notes on them."""
    train_files = {key: parts["train"] for key, parts in sets.items() if "train" in parts}
    names = sorted({name for name, _ in train_files})
    if not names:
        raise DataError(
            f"{folder} has no series file; expected NAME_TRAIN.tsv and NAME_TEST.tsv in it "
            "(or .txt, .csv)"
        )
    folder_name = folder.resolve().name.lower()
    if len(names) > 1 and folder_name not in names:
        listed = ", ".join(file.name for file in train_files.values())
        raise DataError(
            f"{folder} has several data sets: {listed}; choose one: "
            f"data.path={folder}/NAME_TRAIN.tsv"
        )
    name = folder_name if folder_name in names else names[0]
    suffix, *ignored = [suffix for suffix in SUFFIXES if (name, suffix) in train_files]
    parts = _parts_of_set(sets, name, suffix)
    notes = []
    if ignored:
        notes.append(f"using {parts['train'].name}; its {', '.join(ignored)} files are ignored")
    return parts, notes
