"""Arrays of a user's own: `.npz`, `.npy`, or a folder of `.npy` files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.array_files.alike import require_alike
from pipeline.data.array_files.containers import ONLY, arrays_at
from pipeline.data.array_files.joined import as_floats, join
from pipeline.data.array_files.labels import Asked, Target, Word, target_of
from pipeline.data.array_files.layout import Layout, arranged, layout_of, told
from pipeline.data.array_files.names import PartName, named_pair, pairs
from pipeline.data.array_files.parts import labelled_samples, part_notes, places
from pipeline.data.array_files.places import readable, readable_file
from pipeline.data.array_files.stored import Stored
from pipeline.data.array_files.values import largest, require_numbers
from pipeline.data.reading_arrays import ArrayReader
from pipeline.data.source import Array, OnDemand, Reading, Samples, Source, Task
from pipeline.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    x: Stored
    y: Stored


class Arrays(Source):
    """Rows of numpy arrays; large ones that are not compressed stay on disk.

    Args:
        path: An `.npz`, a `.npy` of inputs, or a folder of `.npy` files.
        targets: The `.npy` of targets beside a `.npy` of inputs; None = there are no such two.
        test_path: Another file of the same kind, with the rows of the test; None = none.
        test_targets: As `targets`, for `test_path`.
        x: Name of the array of inputs; None = told by the names.
        y: Likewise for the targets.
        layout: What the axes of the inputs are; None = told by rank, type and lengths.
        task: The task; None = told by the targets.
        classes: Names of the classes in the order of their labels; empty = the labels.
        positive: The positive one of two classes; None = the rarer.
        units: Unit of a regression's targets; empty = none.
    """

    def __init__(
        self,
        *,
        path: str,
        targets: str | None,
        test_path: str | None,
        test_targets: str | None,
        x: str | None,
        y: str | None,
        layout: Layout | None,
        task: Task | None,
        classes: list[Word],
        positive: Word | None,
        units: str,
    ) -> None:
        self.path = path
        self.targets = targets
        self.test_path = test_path
        self.test_targets = test_targets
        self.x = x
        self.y = y
        self.layout = layout
        self.asked = Asked(task=task, classes=classes, positive=positive)
        self.units = units

    def read(self) -> Samples:
        """Read the arrays, the training part first."""
        parts = self._parts()
        require_alike([part.x for part in parts.values()])
        sizes = {name: _rows(part) for name, part in parts.items()}
        first = parts["train"].x
        layout = layout_of(first.shape, first.dtype, self.layout)
        inputs = _inputs([part.x for part in parts.values()], layout)
        return labelled_samples(
            inputs,
            self._target(parts),
            sizes,
            reading=_reading(first, layout, inputs),
            notes=(*told(layout, first.shape), *part_notes(sizes)),
            units=self.units,
        )

    def _parts(self) -> Mapping[PartName, _Part]:
        """Find the arrays of each part."""
        parts = self._parts_at("path", self.path, self.targets)
        if self.test_path is None:
            if self.test_targets is not None:
                raise ConfigError("data.test_targets needs data.test_path=FILE, the inputs to it")
            return parts
        if "test" in parts:
            raise ConfigError(
                f"data.test_path={self.test_path!r} is given, but {self.path} has test rows of its "
                "own; leave one of them away"
            )
        tests = self._parts_at("test_path", self.test_path, self.test_targets)
        return {**parts, "test": tests.get("test") or tests["train"]}

    def _parts_at(self, key: str, path: str, targets: str | None) -> dict[PartName, _Part]:
        place = readable(path, key=f"data.{key}")
        found = arrays_at(place)
        if ONLY in found:
            beside = "targets" if key == "path" else "test_targets"
            return {"train": _Part(x=found[ONLY], y=_targets_file(path, targets, f"data.{beside}"))}
        if targets is not None:
            raise ConfigError(
                f"data.targets={targets!r} goes with a .npy of inputs, but {path} holds several "
                "arrays; name the targets in it: data.y=NAME"
            )
        if self.x is None and self.y is None:
            named = pairs(found, file=place.name)
        else:
            named = {"train": named_pair(found, x=self.x, y=self.y, file=place.name)}
        return {part: _Part(x=found[pair.x], y=found[pair.y]) for part, pair in named.items()}

    def _target(self, parts: Mapping[PartName, _Part]) -> Target:
        values = {part.y.label: part.y.read() for part in parts.values()}
        if len({(array.shape[1:], array.dtype.kind in "US") for array in values.values()}) > 1:
            shapes = ", ".join(f"{label} {array.shape}" for label, array in values.items())
            raise DataError(f"the targets differ between the parts: {shapes}; expected one kind")
        where = places({label: len(array) for label, array in values.items()})
        first, *others = values.values()
        joined = np.concatenate([first, *others]) if others else first
        return target_of(joined, self.asked, where)


def _targets_file(path: str, targets: str | None, key: str) -> Stored:
    if targets is None:
        raise ConfigError(f"{path} has inputs alone; say where their targets are: {key}=FILE.npy")
    expected = "the .npy of the targets"
    found = arrays_at(readable_file(targets, key=key, expected=expected))
    if ONLY not in found:
        raise DataError(f"{key}={targets!r} holds several arrays; expected {expected}")
    return found[ONLY]


def _rows(part: _Part) -> int:
    x, y = part.x, part.y
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise DataError(
            f"{x.label} has shape {x.shape} and {y.label} has shape {y.shape}; expected as many "
            "rows in both"
        )
    if x.shape[0] == 0:
        raise DataError(f"{x.label} has shape {x.shape}, 0 rows; expected at least one")
    return x.shape[0]


def _inputs(stored: Sequence[Stored], layout: Layout) -> Array | OnDemand:
    arrays = [one.read() for one in stored]
    for one, values in zip(stored, arrays, strict=True):
        require_numbers(values, one.label)
    if arrays[0].dtype == np.uint8 and max(map(largest, arrays)) <= 1:
        return join([as_floats(arranged(values, layout)) for values in arrays])  # not 0 to 255
    return join([_numeric(arranged(values, layout)) for values in arrays])


def _numeric(values: Array) -> Array | OnDemand:
    return as_floats(values) if values.dtype.kind == "b" else values


def _reading(first: Stored, layout: Layout, inputs: Array | OnDemand) -> Reading:
    name = "" if first.member is None else first.member.removesuffix(".npy")
    return {
        "kind": "array",
        "format": "npz",
        "layout": layout,
        "axes": len(first.shape),
        "dtype": inputs.dtype.name,
        "x": name,
    }


READER = ArrayReader
