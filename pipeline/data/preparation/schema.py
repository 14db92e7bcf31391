"""What turns raw rows into network inputs, and outputs into answers; it is saved with a model.

Cells of a table become numbers: missing ones are filled in, categories become one-hot. Then each
feature or channel is scaled. All of it is fitted on the training part and stored in `Schema`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.data.parsing.cells.kind import UNKNOWN, StoredGrammar
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.parsing.cells.kinds.number import PLAIN
from pipeline.data.parsing.cells.old_forms import with_grammars
from pipeline.data.parsing.row_blocks import rows_a_block
from pipeline.data.source import Array, Column, Indices, OnDemand, ReadColumn, Reading, Task
from pipeline.networks import Kind, kind_of

if TYPE_CHECKING:
    from torch import Tensor

How = Literal["none", "standard", "minmax"]
Vector = NDArray[np.float64]

#: Most categories of a column with a feature each; rarer ones share the feature `other`, or
#: `(other)` if a category has that name.
MOST_LEVELS = 20
OTHER = "other"
#: Category of the empty cells of a column.
MISSING_LEVEL = "(missing)"
#: Most values of one row as the network gets it: 1 GiB.
MOST_VALUES = 2**28
BLOCK_ROWS = 65_536
#: Relative size of variations that rounding alone may cause, for example in differences.
ROUNDING = 1e-12
#: Most rows, evenly spaced, that are measured if rows are expensive to read.
MEASURED_ON_DEMAND = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(ReadColumn):
    """Encoding of one column.

    Args:
        name: Name of the column.
        grammar: How its cells are read. `(missing)` follows the categories of the file if training
            rows had missing cells.
        kept: Indices of the levels that have a feature each, the most frequent first.
        other: Whether there is a feature for all further levels.
        fill: Replacement of a missing cell: the mean, or the index of the level `(missing)`, or of
            the most frequent one if no training row had a missing cell.
        has_holes: Whether training rows had missing cells.
    """

    name: str
    grammar: StoredGrammar = PLAIN
    kept: tuple[int, ...] = ()
    other: bool = False
    fill: float = 0.0
    has_holes: bool = False

    @property
    def is_category(self) -> bool:
        """Whether the column holds categories."""
        return bool(self.levels)

    @property
    def is_consistent(self) -> bool:
        """Whether the indices are those of levels, and the replacement is a number."""
        return math.isfinite(self.fill) and all(0 <= i < len(self.levels) for i in self.kept)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that the column becomes."""
        if not self.is_category:
            return (self.name,)
        names = [self.levels[index] for index in self.kept]
        if self.other:
            shared = OTHER
            while shared in names:
                shared = f"({shared})"
            names.append(shared)
        return tuple(f"{self.name}={name}" for name in names)

    def encoded(self, cells: Array) -> NDArray[np.float64]:
        """Encode raw cells (rows,) as (rows, features)."""
        filled: NDArray[np.float64] = np.where(np.isnan(cells), self.fill, cells)
        if not self.is_category:
            return filled.reshape(-1, 1)
        one_hot = filled[:, None] == np.asarray(self.kept, dtype=np.float64)
        if self.other:
            one_hot = np.column_stack([one_hot, ~one_hot.any(1)])
        return np.asarray(one_hot, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Encoder of the raw cells of a table, with one code per column, in column order.

    It is fitted on the training part only.
    """

    codes: tuple[Code, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the encoded features."""
        return tuple(chain.from_iterable(code.features for code in self.codes))

    @property
    def one_hot(self) -> NDArray[np.bool_]:
        """Whether each feature is the 0 or 1 of a category, (features,)."""
        flags: list[bool] = []
        for code in self.codes:
            flags += [code.is_category] * len(code.features)
        return np.asarray(flags, dtype=np.bool_)

    def encoded(self, raw: Array) -> NDArray[np.float64]:
        """Encode raw rows (rows, columns) as (rows, features)."""
        parts = [code.encoded(raw[:, index]) for index, code in enumerate(self.codes)]
        return np.concatenate(parts, axis=1)


def fit_encoder(raw: Array, columns: tuple[Column, ...], rows: Indices) -> Encoder:
    """Return an encoder fitted on the training rows `rows`: fill values and frequent categories.

    In `raw` (all rows, columns), NaN is a missing cell, and a category is the index of its level.
    """
    counts = [np.zeros(len(column.levels), dtype=np.int64) for column in columns]
    totals = np.zeros(len(columns))
    filled_counts = np.zeros(len(columns), dtype=np.int64)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.asarray(raw[rows[start : start + BLOCK_ROWS]], dtype=np.float64)
        present = ~np.isnan(block)
        filled_counts += present.sum(0)
        for index, column in enumerate(columns):
            cells = block[present[:, index], index]
            if column.levels:
                counts[index] += np.bincount(cells.astype(np.int64), minlength=len(column.levels))
            else:
                totals[index] += cells.sum()
    codes = []
    for column, level_counts, total, filled in zip(
        columns, counts, totals, filled_counts.tolist(), strict=True
    ):
        missing = len(rows) - filled
        code = Code(name=column.name, grammar=column.grammar, has_holes=missing > 0)
        if column.levels:
            code = _fitted_levels(code, column.levels, level_counts, missing)
        elif filled:
            code = replace(code, fill=float(total / filled))
        codes.append(code)
    return Encoder(codes=tuple(codes))


def _fitted_levels(
    code: Code, levels: tuple[str, ...], counts: NDArray[np.int64], missing: int
) -> Code:
    """Return the code of categories with `counts` (levels,) and `missing` cells in training."""
    if missing and MISSING_LEVEL not in levels:
        levels = (*levels, MISSING_LEVEL)
        counts = np.append(counts, 0)
    if missing:
        counts[levels.index(MISSING_LEVEL)] += missing
    by_frequency = np.argsort(-counts, kind="stable").tolist()
    present = [index for index in by_frequency if counts[index]]
    frequent = present[:MOST_LEVELS]
    rare = present[MOST_LEVELS:]
    if missing:
        fill = levels.index(MISSING_LEVEL)
        if fill in rare:  # missing cells have a feature of their own, however few they are
            rare.remove(fill)
            frequent.append(fill)
    else:
        fill = present[0] if present else int(UNKNOWN)
    return replace(
        code,
        grammar=Category(levels=levels),
        kept=tuple(frequent),
        other=bool(rare),
        fill=float(fill),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Maps each feature or channel x to (x - shift) / spread, and back.

    Args:
        shift: One number per feature or channel, in raw units.
        spread: One number per feature or channel, in raw units; never 0.
    """

    shift: tuple[float, ...]
    spread: tuple[float, ...]

    def has_size(self, features: int) -> bool:
        """Tell whether there are as many shifts and spreads as features, all of them usable."""
        are_finite = all(map(math.isfinite, (*self.shift, *self.spread)))
        return len(self.shift) == len(self.spread) == features and are_finite and all(self.spread)

    @property
    def is_identity(self) -> bool:
        """Whether the scaler changes nothing."""
        return set(self.shift) == {0.0} and set(self.spread) == {1.0}

    def scaled(self, raw: Array) -> Tensor:
        """Scale raw rows (rows, …) to float32 of the same shape."""
        import torch  # takes most of a second, which a report does not need

        if self.is_identity:
            return torch.from_numpy(np.array(raw, dtype=np.float32, order="C"))
        shift = _along(self.shift, raw.ndim)
        spread = _along(self.spread, raw.ndim)
        values = (np.asarray(raw, dtype=np.float64) - shift) / spread
        with np.errstate(over="ignore"):  # callers, which can name the row, check for infinity
            return torch.from_numpy(values.astype(np.float32, order="C"))

    def bound(self, reach: Vector) -> Vector:
        """Return a bound of absolute scaled values, given one of raw values, (features,)."""
        with np.errstate(over="ignore"):
            bound: Vector = (reach + np.abs(self.shift)) / np.asarray(self.spread)
        return bound

    def unscaled(self, values: Tensor) -> Tensor:
        """Map scaled rows (rows, …) back to raw units, float64 of the same shape."""
        values = as_float64(values)
        shift = _along(self.shift, values.ndim)
        spread = _along(self.spread, values.ndim)
        return values * values.new_tensor(spread) + values.new_tensor(shift)


def as_float64(values: Tensor) -> Tensor:
    """Return values as float64, on the CPU if their device has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """Statistics of each feature or channel in the training part: four vectors (features,)."""

    minimum: Vector
    maximum: Vector
    mean: Vector
    deviation: Vector

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Whether each feature or channel has only one value, up to rounding, (features,)."""
        size = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        same: NDArray[np.bool_] = self.maximum - self.minimum <= ROUNDING * size
        return same


def statistics(raw: Array | OnDemand, rows: Indices, encoder: Encoder | None = None) -> Statistics:
    """Return statistics of the given rows of raw content (rows, …), after encoding."""
    if isinstance(raw, OnDemand) and raw.costly and len(rows) > MEASURED_ON_DEMAND:
        rows = rows[np.linspace(0, len(rows) - 1, MEASURED_ON_DEMAND).astype(np.int64)]
    low = np.inf
    high = -np.inf
    total = 0.0
    count = 0
    for block in _blocks(raw, rows, encoder):
        low = np.minimum(low, block.min(0))
        high = np.maximum(high, block.max(0))
        total = total + block.sum(0)
        count += len(block)
    mean = np.asarray(total / count)
    # Scaling by a power of two is exact and keeps the squares of tiny values from becoming 0.
    unit = np.ldexp(1.0, np.clip(np.frexp(high - low)[1], -1000, 1000))
    squares = 0.0
    for block in _blocks(raw, rows, encoder):
        squares = squares + (((block - mean) / unit) ** 2).sum(0)
    return Statistics(
        minimum=np.asarray(low),
        maximum=np.asarray(high),
        mean=mean,
        deviation=unit * np.sqrt(np.asarray(squares) / count),
    )


def fit(measured: Statistics, how: How, *, kept: NDArray[np.bool_] | None = None) -> Scaler:
    """Return the fitted scaler; a constant feature becomes 0 (with `how="none"`: unchanged).

    Features for which `kept` (features,) is true are not scaled.
    """
    features = len(measured.mean)
    if how == "none":
        return identity(features)
    if how == "standard":
        shift = measured.mean
        spread = measured.deviation
    else:
        shift = measured.minimum
        spread = measured.maximum - measured.minimum
    # Rounding gives a constant column a deviation like 1e-17, so its range decides.
    shift = np.where(measured.constant, measured.minimum, shift)
    spread = np.where(measured.constant | (spread == 0), 1.0, spread)
    if kept is not None:
        shift = np.where(kept, 0.0, shift)
        spread = np.where(kept, 1.0, spread)
    return Scaler(shift=tuple(shift.tolist()), spread=tuple(spread.tolist()))


def identity(features: int, *, spread: float = 1.0) -> Scaler:
    """Return a scaler that only divides every feature or channel by `spread`."""
    return Scaler(shift=(0.0,) * features, spread=(spread,) * features)


def _blocks(raw: Array | OnDemand, rows: Indices, encoder: Encoder | None) -> Iterator[Array]:
    size = rows_a_block(raw, features=0 if encoder is None else len(encoder.features))
    for start in range(0, len(rows), size):
        block = np.asarray(raw[rows[start : start + size]], dtype=np.float64)
        if encoder is not None:
            block = encoder.encoded(block)
        features = np.moveaxis(block, axis_of(block.ndim), -1)
        yield features.reshape(-1, features.shape[-1])


def axis_of(dimensions: int) -> int:
    """Return the axis of the features or channels in rows with this number of dimensions."""
    return 1 if dimensions == 4 else dimensions - 1


def _along(vector: Iterable[float], dimensions: int) -> Vector:
    shape = [1] * dimensions
    shape[axis_of(dimensions)] = -1
    return np.asarray(tuple(vector), dtype=np.float64).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """Meaning of the inputs and outputs of a network, in plain values.

    Args:
        task: binary, multiclass or regression.
        input_shape: Shape of one row as the network gets it.
        outputs: Outputs per row: 1 for a binary task, one per class for several classes, one per
            value for a regression.
        classes: Names of the classes in the order of their indices; empty for a regression.
        features: Names of the features or channels; empty = none.
        targets: Names of the channels of a series that are predicted; empty for other data.
        units: Unit of a regression's targets; empty = none.
        window: Steps of a series that the network sees at once; None = not a series in time.
        horizon: Steps predicted at once; outputs are ordered by step, then by channel.
        stride: Steps from one window to the next.
        difference: The network sees and predicts x(t) - x(t - difference); None = x(t).
        input_scaler: Scaler of raw inputs along features or channels.
        target_scaler: Scaler of raw targets, one entry per output; the identity for classes.
        encoder: Encoder of the raw cells of a table, used before scaling; None = not a table.
        label: Name of the target; empty = it has none.
        reading: How new rows are read from a file.
        permutation: Position of the scaled row that each place gets; empty = not permuted.
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
    stride: int = 1
    difference: int | None = None
    input_scaler: Scaler
    target_scaler: Scaler
    encoder: Encoder | None = None
    label: str = ""
    reading: Reading
    permutation: tuple[int, ...] = ()

    @property
    def kind(self) -> Kind:
        """Kind of a row, inferred from its shape."""
        return kind_of(self.input_shape)

    @property
    def positive(self) -> str | None:
        """Positive class of a binary task; None for other tasks."""
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
        """Return raw rows (rows, *raw_shape) as network inputs, float32 (rows, *input_shape)."""
        cells = raw if self.encoder is None else self.encoder.encoded(np.asarray(raw))
        return permuted(self.input_scaler.scaled(cells), self.permutation)

    def beyond_single(self, inputs: Tensor) -> tuple[int, str] | None:
        """Return row and column of the first input that is not finite in single precision."""
        is_not_finite = inputs.isfinite().logical_not_()
        if not bool(is_not_finite.any()):
            return None
        position = is_not_finite.nonzero()[0].tolist()
        row = position[0]
        column = position[axis_of(inputs.ndim)]
        return row, self.features[column] if self.features else f"number {column}"

    def to_units(self, outputs: Tensor, offsets: Tensor | None) -> Tensor:
        """Undo the scaling of a regression's outputs or targets (rows, outputs).

        `offsets` (rows, outputs) undo the difference, in units; None = no difference.
        """
        values = self.target_scaler.unscaled(outputs)
        return values if offsets is None else values + offsets.to(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as dicts, lists, strings and numbers."""
        plain: dict[str, Any] = TypeAdapter(Schema).dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Schema:
        """Build the schema that `to_dict` returned.

        Raises:
            KeyError: A field is missing.
            ValueError: A field has the wrong type, the code of a column has other fields, or two
                fields contradict each other.
        """
        fields = with_grammars({key: plain[key] for key in cls.__dataclass_fields__})
        schema: Schema = TypeAdapter(cls).validate_python(fields)
        if schema.to_dict()["encoder"] != fields["encoder"]:
            raise ValueError("the codes of the columns have other fields")
        if not (schema._has_sizes() and schema._fits_features()):
            raise ValueError("the sizes contradict each other")
        return schema

    def _has_sizes(self) -> bool:
        """Tell whether all sizes are positive, and those of a row bounded."""
        steps = (self.window or 1, self.horizon, self.stride, self.difference or 1, self.outputs)
        is_positive = min(*self.input_shape, *steps, 1) == 1
        size = math.prod(self.input_shape)
        return is_positive and 1 <= len(self.input_shape) <= 3 and size <= MOST_VALUES

    def _fits_features(self) -> bool:
        """Tell whether scalers, names, codes and permutation have the sizes of a row."""
        features = self.input_shape[axis_of(len(self.input_shape) + 1) - 1]
        is_flat = self.kind != "images"
        positions = self.input_shape[0] if is_flat else math.prod(self.input_shape[1:])
        if self.encoder is not None:
            is_encoded = len(self.encoder.features) == features and self.kind == "table"
            if not is_encoded or not all(code.is_consistent for code in self.encoder.codes):
                return False
        if self.window is not None and self.window != self.input_shape[0]:
            return False
        if self.targets and self.horizon * len(self.targets) != self.outputs:
            return False
        return (
            self.input_scaler.has_size(features)
            and (self.task != "regression" or self.target_scaler.has_size(self.outputs))
            and len(self.features) in (0, features)
            and (not self.permutation or sorted(self.permutation) == [*range(positions)])
        )


def permuted(rows: Tensor, permutation: Sequence[int]) -> Tensor:
    """Return rows (rows, *input_shape) with permuted positions; empty = unchanged."""
    if not permutation:
        return rows
    import torch

    order = torch.tensor(permutation, device=rows.device)
    if rows.ndim == 4:
        return rows.flatten(2)[:, :, order].reshape(rows.shape)
    return rows[:, order]
