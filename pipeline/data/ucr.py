"""Labelled series of the UCR archive: `.tsv` and `.txt` (label first), `.ts` (label last)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt

from pipeline.data.array_files import PARTS, PartName, files_in, readable
from pipeline.data.labels import Asked, Target, Word, classes_of, labelled_samples, target_of
from pipeline.data.source import Array, Samples, Source, Task
from pipeline.data.text_rows import MISSING, LabelledSeries, UcrFile, is_number, read_series, stack
from pipeline.errors import DataError

#: The one that says most comes first.
SUFFIXES = ("ts", "tsv", "txt")
_NAME = re.compile(r"(?P<name>.+)_(?P<part>train|test)\.(?P<suffix>ts|tsv|txt)", re.IGNORECASE)


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
        series = [one for file in files.values() for one in file.series]
        inputs = stack(series, length=self.length)
        target = self._target(series, files)
        lengths = np.array([len(values) for one in series for values in one.channels])
        resized = (
            f"data.length={self.length}: {(lengths > inputs.shape[1]).sum()} series are cut, "
            f"{(lengths < inputs.shape[1]).sum()} padded with their last value "
            f"(lengths from {lengths.min()} to {lengths.max()})"
        )
        return labelled_samples(
            inputs,
            target,
            {part: len(file.series) for part, file in files.items()},
            reading={"kind": "array", "format": "ucr", "length": self.length},
            found=[*notes, *(note for file in files.values() for note in file.notes)],
            notes=[resized] if (lengths != inputs.shape[1]).any() else [],
            units=self.units,
        )

    def _target(
        self, series: Sequence[LabelledSeries], files: Mapping[PartName, UcrFile]
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
        numbers = [is_number(label) for label in labels]
        if regression and not all(numbers):
            row = numbers.index(False)
            raise DataError(
                f"{series[row].where} has the label {labels[row]!r}; expected a number, since "
                "the header says @targetLabel true"
            )
        values: Array = np.array(labels, dtype=np.float64 if all(numbers) else None)
        asked = Asked(task="regression") if regression else asked
        return target_of(values, asked, lambda row: f"the label of {series[row].where}")


def _required_label(one: LabelledSeries) -> str:
    if one.label is None:
        raise DataError(f"{one.where} has no label (@classLabel false); expected one to learn from")
    if one.label.lower() in MISSING:
        raise DataError(f"{one.where} has the label {one.label!r}, which is missing; leave it out")
    return one.label


def _as_number(label: str) -> float | str:
    """Return what `1`, `1.0` and `1.0000000e+00` have in common; a word is itself."""
    return float(label) if is_number(label) else label


def _pair(place: Path) -> tuple[dict[PartName, Path], list[str]]:
    """Find both files from their folder or from one of them; return them and what was chosen."""
    match = None if place.is_dir() else _NAME.fullmatch(place.name)
    if match is None and not place.is_dir():
        return {"train": place}, []
    sets: dict[tuple[str, str], dict[PartName, Path]] = {}
    for file in files_in(place if match is None else place.parent):
        if named := _NAME.fullmatch(file.name):
            key = named["name"].lower(), named["suffix"].lower()
            sets.setdefault(key, {})[PARTS[named["part"].lower()]] = file
    if match is None:
        found, notes = _of_folder(place, sets)
    else:
        found, notes = sets[match["name"].lower(), match["suffix"].lower()], []
        if "train" not in found:
            beside = f"{match['name']}_TRAIN.{match['suffix']} beside it"
            raise DataError(f"{place} has the test alone; expected {beside}")
    if "test" not in found:
        notes.append(
            f"{found['train'].name} has no _TEST file beside it; a share of its rows tests"
        )
    return {part: found[part] for part in ("train", "test") if part in found}, notes


def _of_folder(
    folder: Path, sets: Mapping[tuple[str, str], dict[PartName, Path]]
) -> tuple[dict[PartName, Path], list[str]]:
    """Choose the set named as the folder, or the only one, in the form that says most."""
    sets = {key: parts for key, parts in sets.items() if "train" in parts}
    names = sorted({name for name, _ in sets})
    if not names:
        raise DataError(
            f"{folder} has no file of series; expected NAME_TRAIN.tsv and NAME_TEST.tsv in it "
            "(or .txt, .ts)"
        )
    own = folder.resolve().name.lower()
    if len(names) > 1 and own not in names:
        listed = ", ".join(parts["train"].name for parts in sets.values())
        raise DataError(
            f"{folder} has several data sets: {listed}; say which: "
            f"data.path={folder}/NAME_TRAIN.tsv"
        )
    name = own if own in names else names[0]
    first, *others = [suffix for suffix in SUFFIXES if (name, suffix) in sets]
    parts = sets[name, first]
    chosen = f"{parts['train'].name} is read; {', '.join(others)} files of it lie there too"
    return parts, [chosen] if others else []
