"""Labelled series as the UCR archive keeps them: `.tsv`, `.txt`, `.ts`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt

from pipeline.data.array_files.classes import whole_text
from pipeline.data.array_files.labelled import MISSING, Labelled
from pipeline.data.array_files.labels import Asked, Target, Where, Word, classes_of, target_of
from pipeline.data.array_files.lengths import length_note, stacked
from pipeline.data.array_files.names import PartName
from pipeline.data.array_files.parts import labelled_samples, part_notes
from pipeline.data.array_files.places import readable
from pipeline.data.array_files.rows_of_series import read_rows
from pipeline.data.array_files.ts import TsFile, read_ts
from pipeline.data.array_files.ucr_pair import find_pair
from pipeline.data.source import Array, Samples, Source, Task
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    sizes: dict[PartName, int]
    series: list[Labelled]
    classes: tuple[str, ...]
    regression: bool
    notes: tuple[str, ...]


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

    def __init__(
        self,
        *,
        path: str,
        length: Annotated[int, Gt(0)] | None,
        task: Task | None,
        positive: Word | None,
        units: str,
    ) -> None:
        self.path = path
        self.length = length
        self.asked = Asked(task=task, positive=positive, always_classes=True)
        self.units = units

    def read(self) -> Samples:
        """Read the series, (rows, steps, channels), those of TRAIN first."""
        read = self._files()
        return labelled_samples(
            stacked(read.series, length=self.length),
            self._target(read),
            read.sizes,
            reading={"kind": "array", "format": "ucr", "length": self.length},
            notes=(
                *read.notes,
                *part_notes(read.sizes),
                *length_note(read.series, self.length),
            ),
            units=self.units,
        )

    def _files(self) -> _Read:
        pair = find_pair(readable(self.path))
        train = _read(pair.train)
        test = None if pair.test is None else _read(pair.test)
        sizes: dict[PartName, int] = {"train": len(train.series)}
        if test is None:
            return _Read(
                sizes=sizes,
                series=train.series,
                classes=train.classes,
                regression=train.regression,
                notes=(*pair.notes, *train.notes),
            )
        return _Read(
            sizes={**sizes, "test": len(test.series)},
            series=[*train.series, *test.series],
            classes=tuple(dict.fromkeys((*train.classes, *test.classes))),
            regression=train.regression,
            notes=(*pair.notes, *train.notes, *test.notes),
        )

    def _target(self, read: _Read) -> Target:
        labels = [_label(one) for one in read.series]
        if read.regression:
            asked = Asked(task="regression")
            return target_of(_floats(read.series, labels), asked, _places(read.series))
        if read.classes:
            return classes_of(_indices(read.series, labels, read.classes), read.classes, self.asked)
        return target_of(_numbers_or_words(labels), self.asked, _places(read.series))


def _read(file: Path) -> TsFile:
    if file.suffix.lower() == ".ts":
        return read_ts(file)
    return TsFile(series=read_rows(file), classes=(), regression=False, notes=())


def _label(one: Labelled) -> str:
    if one.label is None:
        raise DataError(f"{one.where} has no label (@classLabel false); expected one to learn from")
    if one.label.lower() in MISSING:
        raise DataError(f"{one.where} has the label {one.label!r}, which is missing; leave it out")
    return one.label


def _numbers_or_words(labels: list[str]) -> Array:
    try:
        return np.array(labels, dtype=np.float64)
    except ValueError:
        return np.array(labels)


def _floats(series: list[Labelled], labels: list[str]) -> Array:
    for one, label in zip(series, labels, strict=True):
        try:
            float(label)
        except ValueError as error:
            raise DataError(
                f"{one.where} has the label {label!r}; expected a number, since the header says "
                "@targetLabel true"
            ) from error
    return np.array(labels, dtype=np.float64)


def _indices(series: list[Labelled], labels: list[str], classes: tuple[str, ...]) -> Array:
    index_of = {_normal(name): index for index, name in enumerate(classes)}
    for one, label in zip(series, labels, strict=True):
        if _normal(label) not in index_of:
            raise DataError(
                f"{one.where} has the label {label!r}, which @classLabel does not name; expected "
                f"one of {', '.join(classes)}"
            )
    return np.array([index_of[_normal(label)] for label in labels])


def _normal(label: str) -> str:
    try:
        return whole_text(float(label))
    except ValueError:
        return label


def _places(series: list[Labelled]) -> Where:
    return lambda row: f"the label of {series[row].where}"
