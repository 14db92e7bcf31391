"""Data source for a user's arrays (`.npz`, `.npy` or a folder of `.npy`), and its reader."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.base.errors import ConfigError, DataError, did_you_mean
from pipeline.data.parsing import array_files as files
from pipeline.data.parsing.array_layouts import (
    AXES,
    ArrayLayout,
    arrange,
    array_reading,
    find_layout,
)
from pipeline.data.parsing.flat_rows import flat_rows
from pipeline.data.parsing.labels import TargetKeys, Word, joined_target, labelled_samples
from pipeline.data.preparation.content import Content
from pipeline.data.preparation.reader import (
    Block,
    NewRows,
    Reader,
    Rules,
    first_rows,
    numbers_of,
    sliced,
)
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Array, OnDemand, Samples, Series, Source, Task
from pipeline.data.ucr import read_series, stack

EXPECTED = "x_train, y_train, x_test, y_test (and x_val, y_val), or x and y"
_ROLES = {
    **dict.fromkeys(("x", "inputs", "images"), "inputs"),
    **dict.fromkeys(("y", "labels", "targets"), "targets"),
}
_ROLE = "|".join(_ROLES)
_PART = "|".join(files.PARTS)
_NAME = re.compile(
    rf"(?:(?P<before>{_PART})_)?(?P<role>{_ROLE})(?:_(?P<after>{_PART}))?", re.IGNORECASE
)


class _Pair(NamedTuple):
    """Inputs and targets of one part."""

    x: files.StoredArray
    y: files.StoredArray


@dataclass(kw_only=True, eq=False)
class Arrays(Source):
    """Rows of NumPy arrays; large arrays that are not compressed stay on disk.

    Args:
        path: An `.npz` file, a `.npy` file of inputs, or a folder of `.npy` files.
        targets: The `.npy` file of targets if `path` is a `.npy` file of inputs; else None.
        test_path: File of the same kind with the test rows; None = no such file.
        test_targets: The `.npy` file of targets if `test_path` is a `.npy` file; else None.
        x: Name of the array of inputs; None = inferred from the names.
        y: Name of the array of targets; None = inferred from the names.
        layout: Meaning of the axes of the inputs; None = inferred from rank, type and lengths.
        task: The task; None = inferred from the targets.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer one.
        units: Unit of a regression's targets; empty = none.
    """

    path: str
    targets: str | None
    test_path: str | None
    test_targets: str | None
    x: str | None
    y: str | None
    layout: ArrayLayout | None
    task: Task | None
    classes: list[Word]
    positive: Word | None
    units: str

    def read(self) -> Samples:
        """Read the arrays, the training part first."""
        parts = self._parts()
        sizes = _sizes(parts)
        train = parts["train"].x
        layout = find_layout(train.shape, train.dtype, self.layout)
        inputs = _inputs([part.x for part in parts.values()], layout)
        reading = array_reading("npz", layout, train.shape, inputs.dtype)
        name = "" if train.member is None else train.member.filename.removesuffix(".npy")
        notes = []
        if layout != "table":
            axes = AXES[layout, len(train.shape)]
            notes.append(f"inputs of shape {train.shape} are {axes}; set data.layout if not")
        labels = [(part.y.label, part.y.read()) for part in parts.values()]
        label_types = {(array.shape[1:], array.dtype.kind in "US") for _, array in labels}
        if len(label_types) > 1:
            shapes = ", ".join(f"{label} {array.shape}" for label, array in labels)
            raise DataError(f"the targets differ between the parts: {shapes}; expected one type")
        keys = TargetKeys(task=self.task, classes=self.classes, positive=self.positive)
        return labelled_samples(
            inputs,
            joined_target(labels, keys),
            sizes,
            reading={**reading, "x": name},
            leading_notes=notes,
            units=self.units,
        )

    def _parts(self) -> Mapping[files.PartName, _Pair]:
        """Return the arrays of each part."""
        parts = self._parts_at("path", self.path, self.targets)
        if self.test_path is None:
            if self.test_targets is not None:
                raise ConfigError("data.test_targets needs data.test_path=FILE with its inputs")
            return parts
        if "test" in parts:
            raise ConfigError(
                f"data.test_path={self.test_path!r} is set, but {self.path} has test rows; remove "
                "one"
            )
        tests = self._parts_at("test_path", self.test_path, self.test_targets)
        return {**parts, "test": tests.get("test") or tests["train"]}

    def _parts_at(self, key: str, path: str, targets: str | None) -> dict[files.PartName, _Pair]:
        place = files.readable(path, key=f"data.{key}")
        arrays = files.arrays_at(place)
        if files.ONLY in arrays:
            targets_key = "data.targets" if key == "path" else "data.test_targets"
            return {"train": _Pair(arrays[files.ONLY], _targets_file(path, targets, targets_key))}
        if targets is not None:
            raise ConfigError(
                f"data.targets={targets!r} needs a .npy file of inputs, but {path} holds several "
                "arrays; name the targets: data.y=NAME"
            )
        pairs = _pairs(arrays, place.name, self.x, self.y)
        return {part: _Pair(arrays[x], arrays[y]) for part, (x, y) in pairs.items()}


def _targets_file(path: str, targets: str | None, key: str) -> files.StoredArray:
    if targets is None:
        raise ConfigError(f"{path} has only inputs; set their targets: {key}=FILE.npy")
    place = files.readable(targets, key=key)
    expected = "expected the .npy of the targets"
    if place.is_dir():
        raise DataError(f"{key}={targets!r} is a folder; {expected}")
    arrays = files.arrays_at(place)
    if files.ONLY not in arrays:
        raise DataError(f"{key}={targets!r} holds several arrays; {expected}")
    return arrays[files.ONLY]


def _sizes(parts: Mapping[files.PartName, _Pair]) -> Mapping[files.PartName, int]:
    """Return the number of rows of each part. Raises DataError if its arrays don't match."""
    train = parts["train"].x
    for inputs, _ in parts.values():
        inputs.refuse_objects()
        if inputs.dtype.kind not in "biuf":
            raise DataError(f"{inputs.label} has values of type {inputs.dtype}; expected numbers")
        if inputs.shape[1:] != train.shape[1:]:
            raise DataError(
                f"{train.label} has shape {train.shape} and {inputs.label} has shape "
                f"{inputs.shape}; expected equal shapes except for the number of rows"
            )
        if (inputs.dtype == np.uint8) != (train.dtype == np.uint8):
            raise DataError(
                f"{train.label} is of type {train.dtype} and {inputs.label} of type "
                f"{inputs.dtype}; expected one type (uint8 means 0 to 255)"
            )
    for x, y in parts.values():
        if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
            raise DataError(
                f"{x.label} has shape {x.shape} and {y.label} has shape {y.shape}; expected "
                "equal numbers of rows"
            )
        if x.shape[0] == 0:
            raise DataError(f"{x.label} has shape {x.shape}, no rows; expected at least one")
    return {name: part.x.shape[0] for name, part in parts.items()}


def _inputs(stored: Sequence[files.StoredArray], layout: ArrayLayout) -> Array | OnDemand:
    arrays = [part.read() for part in stored]
    for part, values in zip(stored, arrays, strict=True):
        files.require_numbers(values, part.label)
    # uint8 arrays of only 0 and 1 hold numbers, not shades from 0 to 255.
    are_bits = arrays[0].dtype == np.uint8 and max(map(files.largest, arrays)) <= 1
    inputs: list[Array | OnDemand] = []
    for array in arrays:
        values = arrange(array, layout)
        if not are_bits and values.dtype.kind != "b":
            inputs.append(values)
        elif values.size * 4 <= files.IN_MEMORY_BYTES:
            inputs.append(values.astype(np.float32))
        else:
            inputs.append(files.JoinedArrays([values], dtype=np.dtype(np.float32)))
    return files.join(inputs)


def _pairs(
    names: Iterable[str], file: str, x: str | None, y: str | None
) -> dict[files.PartName, tuple[str, str]]:
    """Return the names of inputs and targets of each part, such as `x_train` or `X`.

    If the user names `x` or `y`, all rows are in the training part.
    """
    listed = f"its arrays are {', '.join(names)}"
    for key, name in (("data.x", x), ("data.y", y)):
        if name is not None and name not in names:
            near = did_you_mean(name, names)
            raise ConfigError(f"{key}={name!r} is not in {file}; {listed}.{near}")
    if x is not None and y is not None:
        return {"train": (x, y)}
    by_part = _names_by_part([name for name in names if name not in (x, y)], file)
    if x is not None or y is not None:
        by_part = {
            ("train", "inputs"): x or by_part.get(("train", "inputs")),
            ("train", "targets"): y or by_part.get(("train", "targets")),
        }
    hint = f"{listed}; expected {EXPECTED}, or set data.x=NAME data.y=NAME"
    return files.complete_pairs(by_part, ("inputs", "targets"), file, hint)


def _names_by_part(
    names: Iterable[str], file: str
) -> Mapping[tuple[files.PartName, str], str | None]:
    """Return the names by part and role; one-letter roles (`x`) win over words (`images`)."""
    by_part: dict[tuple[files.PartName, str], str] = {}
    has_letter: dict[str, bool] = {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        has_letter[name] = len(match["role"]) == 1
        part = files.PARTS[(match["before"] or match["after"] or "train").lower()]
        role = _ROLES[match["role"].lower()]
        previous = by_part.setdefault((part, role), name)
        if previous != name and has_letter[previous] == has_letter[name]:
            raise DataError(
                f"{file} has both {previous} and {name}; expected one of them. Set "
                "data.x=NAME data.y=NAME"
            )
        if has_letter[name]:
            by_part[part, role] = name
    return by_part


class ArrayReader(Reader):
    """Reader for the files of the sources `arrays`, `ucr` and `idx`, and for arrays in memory."""

    def inputs(self) -> Any:
        """Describe the shape of a row."""
        return {"shape": list(self.schema.raw_shape), "dtype": "float64"}

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the first training rows as nested lists."""
        assert isinstance(raw, Samples)
        return first_rows(raw, content).tolist()

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open arrays, a UCR or idx file, or a CSV file with one flattened sample per row."""
        self.refuse_id(rules)
        raw = self._rows(files.readable(path, key="input"))
        return NewRows(heading=None, blocks=sliced(raw, None, size=size), total=len(raw))

    def apply(self, rows: Any, *, what: str, missing: str = "refuse") -> Block:
        """Return rows in memory, flat or in their shape, as a block (rows, *raw_shape)."""
        del missing
        if hasattr(rows, "to_numpy"):
            rows = rows.to_numpy()
        return Block(raw=numbers_of(rows, self.schema.raw_shape, what=what))

    def _rows(self, place: Path) -> Array:
        schema = self.schema
        if (
            place.is_dir()
            or files.first_bytes(place).startswith((files.NPY_MAGIC, files.ZIP_MAGIC))
            or files.is_idx(place)
        ):
            arrays = files.arrays_at(place)
            name = _inputs_name([*arrays], str(schema.reading.get("x", "")), place.name)
            return _as_trained(arrays[name].read(), schema, arrays[name].label)
        suffix = place.suffix.lower()
        is_series = schema.reading.get("format") == "ucr" or schema.kind == "series"
        if suffix == ".ts" or (is_series and suffix != ".csv"):
            return _series_rows(place, schema)
        return flat_rows(place, schema.raw_shape)


def _inputs_name(names: Sequence[str], trained: str, file: str) -> str:
    """Return the name of the array of new inputs: the one used in training, or the only one."""
    inputs = []
    inputs_of_all_rows = []
    for name in names:
        match = _NAME.fullmatch(name)
        has_part = match is not None and bool(match["before"] or match["after"])
        if name == trained and not has_part:
            return trained
        if match is not None and _ROLES[match["role"].lower()] == "inputs":
            inputs.append(name)
            if not has_part:
                inputs_of_all_rows.append(name)
    if len(names) == 1 and not inputs:
        return names[0]
    candidates = inputs_of_all_rows if len(inputs_of_all_rows) == 1 else inputs
    if len(candidates) != 1:
        raise DataError(
            f"{file} has {len(candidates)} possible arrays of new rows; its arrays are "
            f"{', '.join(names)}; expected one named {trained or 'x'}"
        )
    return candidates[0]


def _as_trained(values: Array, schema: Schema, label: str) -> Array:
    """Return raw rows from values that are laid out as in training, as for a network, or flat."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{label} has values of type {values.dtype}; expected numbers")
    files.require_numbers(values, label)
    shape = schema.raw_shape
    reading = schema.reading
    if reading.get("dtype") == "uint8" and values.dtype != np.uint8 and len(values):
        top = files.largest(values)
        if top > 255 or (values.dtype.kind == "f" and 0 < top <= 1):
            remedy = "; multiply by 255" if top <= 1 else ""
            raise DataError(
                f"{label} has values up to {top:g}; the model was trained on uint8 images (0 "
                f"to 255) and scales them itself{remedy}"
            )
    if "layout" in reading and values.ndim == reading["axes"]:
        arranged = arrange(values, reading["layout"])
        if arranged.shape[1:] == shape:
            values = arranged
    if values.shape[1:] != shape and values.ndim == 2 and values.shape[1] == math.prod(shape):
        values = values.reshape(len(values), *shape)
    if values.shape[1:] != shape:
        raise DataError(
            f"{label} has shape {values.shape}; the model was trained on {shape} per row; expected "
            f"(rows, {', '.join(map(str, shape))}), as in training, or (rows, {math.prod(shape)})"
        )
    return values.astype(np.float32) if values.dtype.kind == "b" else values


def _series_rows(file: Path, schema: Schema) -> Array:
    """Read new series as (rows, *raw_shape)."""
    steps = schema.raw_shape[0]
    length = steps if schema.reading.get("length") is not None else None
    values = stack(read_series(file, steps=steps), length=length)
    if values.shape[1:] == schema.raw_shape:
        return values
    if values.shape[1:] == (*schema.raw_shape, 1):
        return values[:, :, 0]
    steps, channels = values.shape[1:]
    raise DataError(
        f"{file} has series of {steps} steps and {channels} channels; the model was trained on "
        f"{schema.raw_shape} per row (steps, channels)"
    )


READER = ArrayReader
