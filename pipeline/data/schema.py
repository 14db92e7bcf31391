"""What turns raw rows into inputs and outputs into answers, and is kept with a model.

Cells of a table become numbers: holes are filled in, categories are one-hot. Then each feature or
channel is scaled. All of it is fitted on the training part alone, and `Schema` keeps it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from pipeline.data.source import Array, Column, Indices, OnDemand, Reading, Task
from pipeline.networks import Kind, kind_of

How = Literal["none", "standard", "minmax"]
Vector = NDArray[np.float64]

#: Categories of a column that get a feature each; rarer ones share the feature `other`.
MOST_LEVELS = 20
OTHER = "other"
#: Stands in a cell for a category that no training row had.
UNKNOWN = -1.0
BLOCK_ROWS = 65_536
BLOCK_BYTES = 32 * 2**20
#: Share of a feature's size that rounding alone may move it, as where differences are taken.
ROUNDING = 1e-12
#: Rows, evenly spaced, that stand for all where each costs much to have.
MEASURED_ON_DEMAND = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """How one column is encoded.

    Args:
        name: Of the column.
        levels: All categories of the column, in the order of their indices; empty = numbers.
        kept: Indices of the levels that have a feature each, the most frequent first.
        other: Whether a feature counts all further levels.
        fill: What a missing cell becomes: the mean, or the index of the most frequent level.
        has_holes: Whether training rows had missing cells.
    """

    name: str
    levels: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    other: bool = False
    fill: float = 0.0
    has_holes: bool = False

    @property
    def is_category(self) -> bool:
        """Whether the column holds categories."""
        return bool(self.levels)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the column becomes."""
        if not self.is_category:
            return (self.name,)
        named = tuple(f"{self.name}={self.levels[index]}" for index in self.kept)
        return (*named, f"{self.name}={OTHER}") if self.other else named

    def encoded(self, cells: Array) -> NDArray[np.float64]:
        """Encode raw cells (rows,) as (rows, features)."""
        filled: NDArray[np.float64] = np.where(np.isnan(cells), self.fill, cells)
        if not self.is_category:
            return filled.reshape(-1, 1)
        ones = filled[:, None] == np.asarray(self.kept, dtype=np.float64)
        if self.other:
            ones = np.column_stack([ones, ~ones.any(1)])
        return np.asarray(ones, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Turns the raw cells of a table into numbers, by a code a column, in their order.

    All it knows comes from the training part.
    """

    codes: tuple[Code, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features."""
        return tuple(name for code in self.codes for name in code.features)

    @property
    def one_hot(self) -> NDArray[np.bool_]:
        """Which features are 0 or 1 for a category, (features,)."""
        flags = [code.is_category for code in self.codes for _ in code.features]
        return np.asarray(flags, dtype=np.bool_)

    def encoded(self, raw: Array) -> NDArray[np.float64]:
        """Encode raw rows (rows, columns) as (rows, features)."""
        parts = [code.encoded(raw[:, index]) for index, code in enumerate(self.codes)]
        return np.concatenate(parts, axis=1)


def fit_encoder(raw: Array, columns: tuple[Column, ...], rows: Indices) -> Encoder:
    """Learn from the training rows what fills holes and which categories are frequent.

    In `raw` (all rows, columns), NaN is a missing cell, a category its index.
    """
    counts = [np.zeros(len(column.levels), dtype=np.int64) for column in columns]
    totals, known = np.zeros(len(columns)), np.zeros(len(columns), dtype=np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.asarray(raw[rows[start : start + BLOCK_ROWS]], dtype=np.float64)
        present = ~np.isnan(block)
        known += present.sum(0)
        for index, column in enumerate(columns):
            cells = block[present[:, index], index]
            if column.levels:
                counts[index] += np.bincount(cells.astype(np.int64), minlength=len(column.levels))
            else:
                totals[index] += cells.sum()
    codes = []
    for column, count, total, filled in zip(columns, counts, totals, known, strict=True):
        frequent = [int(index) for index in np.argsort(-count, kind="stable") if count[index]]
        mean = float(total / filled) if filled else 0.0
        most = float(frequent[0]) if frequent else UNKNOWN
        code = Code(
            name=column.name,
            levels=column.levels,
            kept=tuple(frequent[:MOST_LEVELS]),
            other=len(frequent) > MOST_LEVELS,
            fill=most if column.levels else mean,
            has_holes=bool(filled < len(rows)),
        )
        codes.append(code)
    return Encoder(codes=tuple(codes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Maps each feature or channel x to (x - shift) / spread, and back.

    Args:
        shift: One number a feature or channel, in raw units.
        spread: Likewise; never 0.
    """

    shift: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return set(self.shift) == {0.0} and set(self.spread) == {1.0}

    def scaled(self, raw: Array) -> Tensor:
        """Scale raw rows (rows, …) to float32 of the same shape."""
        if self.is_identity:
            return torch.from_numpy(np.array(raw, dtype=np.float32, order="C"))
        shift, spread = (_along(vector, raw.ndim) for vector in (self.shift, self.spread))
        values = (np.asarray(raw, dtype=np.float64) - shift) / spread
        with np.errstate(over="ignore"):  # whoever can name the row refuses it
            return torch.from_numpy(values.astype(np.float32, order="C"))

    def bound(self, reach: Vector) -> Vector:
        """Return what scaled values can't exceed, from the largest raw ones (features,)."""
        shift, spread = np.asarray(self.shift), np.asarray(self.spread)
        with np.errstate(over="ignore"):
            found: Vector = (reach + np.abs(shift)) / spread
        return found

    def unscaled(self, values: Tensor) -> Tensor:
        """Map scaled rows (rows, …) back to raw units, float64 of the same shape."""
        values = as_float64(values)
        shift, spread = (_along(vector, values.ndim) for vector in (self.shift, self.spread))
        return values * values.new_tensor(spread) + values.new_tensor(shift)


def as_float64(values: Tensor) -> Tensor:
    """Return values as float64, on the CPU where their device has no such type."""
    return (values.cpu() if values.device.type == "mps" else values).double()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """What the training part says of each feature or channel: four vectors (features,)."""

    minimum: Vector
    maximum: Vector
    mean: Vector
    deviation: Vector

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Which features or channels have one value only, but for rounding, (features,)."""
        size = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        same: NDArray[np.bool_] = self.maximum - self.minimum <= ROUNDING * size
        return same


def statistics(raw: Array | OnDemand, rows: Indices, encoder: Encoder | None = None) -> Statistics:
    """Measure the given rows of raw content (rows, …), once encoded, a block of rows at a time."""
    if isinstance(raw, OnDemand) and raw.costly and len(rows) > MEASURED_ON_DEMAND:
        rows = rows[np.linspace(0, len(rows) - 1, MEASURED_ON_DEMAND).astype(np.int64)]
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for block in _blocks(raw, rows, encoder):
        low, high = np.minimum(low, block.min(0)), np.maximum(high, block.max(0))
        total, count = total + block.sum(0), count + len(block)
    mean = np.asarray(total / count)
    # A power of two changes no digit, and keeps the squares of tiny values from becoming 0.
    unit = np.ldexp(1.0, np.clip(np.frexp(high - low)[1], -1000, 1000))
    squares = sum((((block - mean) / unit) ** 2).sum(0) for block in _blocks(raw, rows, encoder))
    return Statistics(
        minimum=np.asarray(low),
        maximum=np.asarray(high),
        mean=mean,
        deviation=unit * np.sqrt(np.asarray(squares) / count),
    )


def fit(measured: Statistics, how: How, *, kept: NDArray[np.bool_] | None = None) -> Scaler:
    """Build the scaler; a constant feature becomes 0, never NaN.

    Features (features,) that are `kept` stay as they are.
    """
    features = len(measured.mean)
    if how == "none":
        return identity(features)
    if how == "standard":
        shift, spread = measured.mean, measured.deviation
    else:
        shift, spread = measured.minimum, measured.maximum - measured.minimum
    # Rounding leaves a constant column a deviation like 1e-17, so the values themselves decide.
    shift = np.where(measured.constant, measured.minimum, shift)
    spread = np.where(measured.constant | (spread == 0), 1.0, spread)
    if kept is not None:
        shift, spread = np.where(kept, 0.0, shift), np.where(kept, 1.0, spread)
    return Scaler(shift=tuple(shift.tolist()), spread=tuple(spread.tolist()))


def identity(features: int, *, spread: float = 1.0) -> Scaler:
    """Build a scaler that only divides every feature or channel by `spread`."""
    return Scaler(shift=(0.0,) * features, spread=(spread,) * features)


def rows_a_block(
    raw: Array | OnDemand | Tensor, *, features: int = 0, most_bytes: int | None = None
) -> int:
    """Return how many raw rows (rows, …) make a block of float64 of at most 32 MiB.

    `features` are the numbers that a row becomes where it is encoded; 0 = it stays as it is.
    """
    row_bytes = 8 * max(features, math.prod(raw.shape[1:]))
    return max(1, (most_bytes or BLOCK_BYTES) // max(1, row_bytes))


def _blocks(raw: Array | OnDemand, rows: Indices, encoder: Encoder | None) -> Iterator[Array]:
    size = rows_a_block(raw, features=0 if encoder is None else len(encoder.features))
    for start in range(0, len(rows), size):
        block = np.asarray(raw[rows[start : start + size]], dtype=np.float64)
        block = block if encoder is None else encoder.encoded(block)
        features = np.moveaxis(block, axis_of(block.ndim), -1)
        yield features.reshape(-1, features.shape[-1])


def axis_of(dimensions: int) -> int:
    """Return the axis of the features or channels of rows with so many dimensions."""
    return 1 if dimensions == 4 else dimensions - 1


def _along(vector: Iterable[float], dimensions: int) -> Vector:
    shape = [1] * dimensions
    shape[axis_of(dimensions)] = -1
    return np.asarray(tuple(vector), dtype=np.float64).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The meaning of inputs and outputs, all of it plain values.

    Args:
        task: What is to be predicted.
        input_shape: Shape of one row as the network gets it.
        outputs: Numbers the network gives a row: 1 for a binary task, one a class for several
            classes, one a value for a regression.
        classes: Names in the order of their indices; empty for a regression.
        features: Names along the features or channels; empty = none.
        targets: Names of the channels of a series that are predicted; empty for other data.
        units: Unit of a regression's targets; empty = none.
        window: Steps of a series seen at once; None for data that is no series in time.
        horizon: Steps of it predicted at once; the outputs go step by step, channel by channel.
        difference: The network sees and predicts x(t) - x(t - difference); None = x(t).
        input_scaler: Scales raw inputs along features or channels.
        target_scaler: Scales raw targets, one entry an output; changes nothing for classes.
        encoder: Turns raw cells of a table into numbers first; None = rows are numbers as they are.
        label: Name of what is predicted; empty = it has none.
        reading: How new rows are read from a file.
        permutation: Which position of a scaled row comes to each place; empty = they stay.
    """

    task: Task
    input_shape: tuple[int, ...]
    outputs: int
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    units: str = ""
    window: int | None = None
    horizon: int = 1
    difference: int | None = None
    input_scaler: Scaler
    target_scaler: Scaler
    encoder: Encoder | None = None
    label: str = ""
    reading: Reading
    permutation: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """What a row is, told by its shape."""
        return kind_of(self.input_shape)

    @property
    def positive(self) -> str | None:
        """The class that a binary task looks for; None for other tasks."""
        return self.classes[1] if self.task == "binary" else None

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one row before it is encoded."""
        return self.input_shape if self.encoder is None else (len(self.encoder.codes),)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the raw columns or channels; empty = they have none."""
        if self.encoder is None:
            return self.features
        return tuple(code.name for code in self.encoder.codes)

    def to_inputs(self, raw: Array) -> Tensor:
        """Turn raw rows (rows, *raw_shape) into what the network gets, (rows, *input_shape)."""
        cells = raw if self.encoder is None else self.encoder.encoded(np.asarray(raw))
        return permuted(self.input_scaler.scaled(cells), self.permutation)

    def beyond_single(self, inputs: Tensor) -> tuple[int, str] | None:
        """Return row and column of the first input that is infinite in single precision."""
        odd = torch.isfinite(inputs).logical_not_()
        if not bool(odd.any()):
            return None
        place = odd.nonzero()[0].tolist()
        column = place[axis_of(inputs.ndim)]
        return place[0], self.features[column] if self.features else f"number {column}"

    def to_units(self, outputs: Tensor, offsets: Tensor | None) -> Tensor:
        """Undo the scaling of a regression's outputs or targets (rows, outputs).

        `offsets` (rows, outputs) are what the difference took away, in units; None = nothing.
        """
        values = self.target_scaler.unscaled(outputs)
        return values if offsets is None else values + offsets.to(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as dicts, lists, strings and numbers."""
        plain: dict[str, Any] = TypeAdapter(Schema).dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Schema":
        """Build the schema that `to_dict` wrote.

        Raises:
            KeyError: A field is missing.
            ValueError: One is of another type, or a column's code has other fields.
        """
        fields = {key: plain[key] for key in cls.__dataclass_fields__}
        schema: Schema = TypeAdapter(cls).validate_python(fields)
        if schema.to_dict()["encoder"] != plain["encoder"]:
            raise ValueError("the codes of the columns have other fields")
        return schema


def permuted(rows: Tensor, permutation: Sequence[int]) -> Tensor:
    """Return rows (rows, *input_shape) with their positions in another order; empty = as it is."""
    if not permutation:
        return rows
    order = torch.tensor(permutation, device=rows.device)
    if rows.ndim == 4:
        return rows.flatten(2)[:, :, order].reshape(rows.shape)
    return rows[:, order]
