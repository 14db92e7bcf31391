"""Split and measured rows, their hash and their parts; how independent rows become such."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.config.options import DataOptions
from pipeline.data import checks
from pipeline.data.schema import (
    Encoder,
    Scaler,
    Schema,
    fit,
    fit_encoder,
    identity,
    rows_a_block,
    statistics,
)
from pipeline.data.source import Array, Indices, OnDemand, Samples
from pipeline.data.split import Split, split_rows
from pipeline.errors import ConfigError

_ROWS = "values in time, but this data has independent rows; expected"
_TIMES = "independent rows, but this data is values in time:"
#: Options that independent rows refuse.
FOR_SERIES = {"window": f"{_ROWS} null", "difference": f"{_ROWS} null", "horizon": f"{_ROWS} 1"}
#: Options that values in time refuse.
FOR_ROWS = {
    "permute": f"{_TIMES} a window's last step is what a forecast goes on from; expected null",
    "shuffle_labels": f"{_TIMES} what a series predicts is the series itself; expected null",
}
#: Notes on options that destroy information: the figures are not those of the data.
DISORDER = {
    "permute": "the positions of every row are permuted",
    "shuffle_labels": "the labels of the training rows are shuffled; what is learned of them is "
    "learned by heart",
}
#: Of lazy rows as float64 that are encoded and scaled at once, which takes several copies.
TAKEN_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LazyInputs:
    """Some rows of raw content (rows, *raw_shape), encoded and scaled when they are taken.

    The content may lie on disk; the schema was fitted on the training part.
    """

    raw: Array | OnDemand
    rows: Indices
    schema: Schema

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Return the part's rows at `indices` as the network gets them, (indices, *input_shape)."""
        return self.schema.to_inputs(self.raw[self.rows[indices.numpy()]])

    def blocks(self) -> Iterator[Tensor]:
        """Yield the rows in order, a block at a time."""
        features = prod(self.schema.input_shape)
        size = rows_a_block(self.raw, features=features, most_bytes=TAKEN_BYTES)
        for indices in torch.split(torch.arange(len(self)), size):
            yield self.take(indices)

    def loaded(self) -> Tensor:
        """Return all rows as one tensor."""
        inputs = torch.empty((len(self), *self.schema.input_shape))
        start = 0
        for block in self.blocks():
            inputs[start : start + len(block)] = block
            start += len(block)
        return inputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Inputs, targets and where they came from.

    Args:
        inputs: float32 (rows, *input_shape), scaled; lazy where the part is over its budget.
        targets: int64 (rows,) for classes, float32 (rows, outputs), scaled, for a regression.
        offsets: float64 (rows, outputs), to be added after unscaling; None = nothing to add.
        rows: (rows,) numbers of the rows in the source; of a series, the first time predicted.
        groups: (rows,) number of the group that a row belongs to, such as a patient; None = there
            are none.
    """

    inputs: Tensor | LazyInputs
    targets: Tensor
    offsets: Tensor | None
    rows: Indices
    groups: Indices | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> Tensor:
        """Return the inputs at `indices`, (indices, *input_shape)."""
        if isinstance(self.inputs, LazyInputs):
            return self.inputs.take(indices)
        return self.inputs.index_select(0, indices)

    def blocks(self) -> Iterator[Tensor]:
        """Yield the inputs in order, in as many pieces as memory asks for."""
        if isinstance(self.inputs, LazyInputs):
            yield from self.inputs.blocks()
        else:
            yield from torch.split(self.inputs, rows_a_block(self.inputs))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """Raw rows with their split and their meaning.

    Args:
        inputs: (rows, *raw_shape), raw; may be a view or lie on disk.
        targets: int64 (rows,) for classes, float64 (rows, outputs), raw, for a regression.
        offsets: float64 (rows, outputs), what a difference took away; None = nothing.
        numbers: (rows,) numbers of the rows in the source; of a series, the first time predicted.
        split: Positions in `inputs` of each part.
        schema: The meaning of inputs and outputs, the fitted scalers among it.
        notes: Lines worth telling.
        groups: (rows,) number of the group that a row belongs to; None = there are none.
        constant: Columns or channels with one value in the whole training part.
    """

    inputs: Array | OnDemand
    targets: Array
    numbers: Indices
    split: Split
    schema: Schema
    notes: tuple[str, ...] = ()
    offsets: Array | None = None
    groups: Indices | None = None
    constant: tuple[str, ...] = ()

    def part(self, rows: Indices, *, budget: int) -> Part:
        """Return the rows at some positions as a network gets them, lazy ones over `budget` MiB."""
        schema, targets = self.schema, self.targets[rows]
        lazy = LazyInputs(raw=self.inputs, rows=rows, schema=schema)
        size = 4 * len(rows) * prod(schema.input_shape)  # bytes as float32
        is_regression = schema.task == "regression"
        return Part(
            inputs=lazy if size > budget * 2**20 else lazy.loaded(),
            targets=schema.target_scaler.scaled(targets)
            if is_regression
            else torch.from_numpy(targets),
            offsets=None if self.offsets is None else torch.from_numpy(self.offsets[rows]),
            rows=self.numbers[rows],
            groups=None if self.groups is None else self.groups[rows],
        )

    def digest(self) -> str:
        """Return the sha256 of the raw content, its names and what lies in which part."""
        schema = self.schema
        hashed = hashlib.sha256(
            repr((schema.task, schema.classes, schema.features, schema.targets)).encode()
        )
        if schema.encoder is not None:
            hashed.update(
                repr([(code.name, code.levels) for code in schema.encoder.codes]).encode()
            )
        if schema.permutation:
            hashed.update(repr(schema.permutation).encode())
        raw = self.inputs
        for block in [raw.fingerprints] if isinstance(raw, OnDemand) else checks.blocks(raw):
            _update(hashed, block)
        _update(hashed, self.targets)
        if self.offsets is not None:
            _update(hashed, self.offsets)
        for name, rows in self.split.parts().items():
            hashed.update(name.encode())
            _update(hashed, self.numbers[rows])
        return hashed.hexdigest()


def _update(hashed: "hashlib._Hash", values: Array) -> None:
    hashed.update(f"{values.dtype.str}{values.shape}".encode())
    hashed.update(np.ascontiguousarray(values).data)


def independent(samples: Samples, options: DataOptions, *, what: str = "the data") -> Content:
    """Split and measure independent rows; `what` names the data in messages.

    A ConfigError names an option for series, a DataError what can't be learned from.
    """
    refuse_options(options, FOR_SERIES)
    checks.check_rows(samples)
    is_regression, raw = samples.task == "regression", samples.inputs
    reach = checks.check_finite(raw, "the data", holes_too=not samples.columns)
    split = split_rows(samples, options)
    if not is_regression:
        checks.check_classes(samples, split)
    if samples.strict:
        checks.check_apart(raw, split)
    columns = samples.columns
    encoder = fit_encoder(np.asarray(raw), columns, split.train) if columns else None
    measured = statistics(raw, split.train, encoder)
    input_scaler = fit(measured, options.scale, kept=None if encoder is None else encoder.one_hot)
    if raw.dtype == np.uint8 and options.scale == "none":
        input_scaler = identity(len(measured.mean), spread=255.0)
    targets = _targets(samples, split.train, options)
    target_scaler = identity(1 if samples.task == "binary" else len(samples.classes))
    if is_regression:
        measured_targets = statistics(targets, split.train)
        target_scaler = fit(measured_targets, options.scale)
    schema = _schema(samples, encoder, input_scaler, target_scaler)
    checks.check_reach(schema, reach, targets, what=what)
    if raw.dtype.itemsize > 4:
        checks.check_told_apart(input_scaler, measured, checks.feature_names(schema), what=what)
    if is_regression:
        checks.check_targets(schema, measured_targets, what=what)
    disorder = (
        f"data.{key}={value}: {words}"
        for key, words in DISORDER.items()
        if (value := getattr(options, key)) is not None
    )
    return Content(
        inputs=raw,
        targets=targets,
        numbers=np.arange(len(targets)),
        split=split,
        schema=replace(schema, permutation=_permutation(samples, options)),
        notes=(*samples.notes, *disorder),
        groups=samples.group_numbers,
        constant=checks.constant_columns(measured, schema),
    )


def _schema(
    samples: Samples, encoder: Encoder | None, input_scaler: Scaler, target_scaler: Scaler
) -> Schema:
    # New rows come by the names of their columns where they have some, else as arrays.
    named = len(samples.inputs.shape) == 2 and bool(samples.columns or samples.features)
    return Schema(
        task=samples.task,
        input_shape=samples.input_shape if encoder is None else (len(encoder.features),),
        outputs=len(target_scaler.shift),
        classes=samples.classes,
        features=samples.features if encoder is None else encoder.features,
        units=samples.units,
        input_scaler=input_scaler,
        target_scaler=target_scaler,
        encoder=encoder,
        label=samples.label,
        reading={"kind": "table" if named else "array", **samples.reading},
    )


def _targets(samples: Samples, trained: Indices, options: DataOptions) -> Array:
    """Return targets (rows, …); those of the training rows have changed places where asked."""
    if samples.task == "regression":
        targets = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
        checks.check_finite(targets, "the target")
    else:
        targets = samples.targets.astype(np.int64, copy=False)
    if options.shuffle_labels is None:
        return targets
    shuffled = targets.copy()
    shuffled[trained] = np.random.default_rng(options.shuffle_labels).permutation(targets[trained])
    return shuffled


def refuse_options(options: DataOptions, meant: Mapping[str, str]) -> None:
    """Refuse, by a ConfigError, options that are set and mean nothing for some kind of data.

    `meant` says what each of these is for, and why it is refused.
    """
    problems = [
        f"data.{key}={value} is for {words}"
        for key, words in meant.items()
        if (value := getattr(options, key)) != (1 if key == "horizon" else None)
    ]
    if problems:
        raise ConfigError(*problems)


def _permutation(samples: Samples, options: DataOptions) -> tuple[int, ...]:
    """Draw for each place the position that comes there in every row; empty = as they lie.

    Positions are the steps of a series, the pixels of an image (all channels of one move together)
    and the values of a row without names.
    """
    if options.permute is None:
        return ()
    shape = samples.input_shape
    if len(shape) == 1 and (samples.columns or samples.features):
        raise ConfigError(
            f"data.permute={options.permute} is for steps, pixels and values without names, but "
            "this data is a table, whose columns go by their names; expected null"
        )
    positions = prod(shape[1:]) if len(shape) == 3 else shape[0]
    drawn = np.random.default_rng(options.permute).permutation(positions)
    return tuple(drawn.tolist())
