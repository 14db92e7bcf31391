"""Content of a run: split and measured rows with their hash; made here from independent rows."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.base.errors import ConfigError
from pipeline.config.options import DataOptions
from pipeline.data.parsing.row_blocks import blocks, rows_a_block
from pipeline.data.preparation import checks
from pipeline.data.preparation.schema import (
    Encoder,
    Scaler,
    Schema,
    fit,
    fit_encoder,
    identity,
    statistics,
)
from pipeline.data.preparation.split import Split, split_rows
from pipeline.data.source import Array, Indices, OnDemand, Samples

_ROWS = "applies to series, and this data has independent rows; expected"
#: Options that are refused for independent rows, each with its message.
FOR_SERIES = {
    **dict.fromkeys(("window", "difference"), f"{_ROWS} null"),
    **dict.fromkeys(("horizon", "stride"), f"{_ROWS} 1"),
}
#: Options that are refused for series, each with its message.
FOR_ROWS = {
    "permute": "applies to independent rows only, and this data is a series; expected null",
    "shuffle_labels": "applies to labels only, and this data is a series; expected null",
}
#: Notes on options that destroy information, so that metrics don't describe the real data.
DISORDER = {
    "permute": "the positions in each row are permuted",
    "shuffle_labels": "the labels of the training rows are shuffled: the network can only "
    "memorize them",
}
#: Bytes, as float64, of lazy rows that are encoded and scaled at once, which takes several copies.
TAKEN_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LazyInputs:
    """Rows of raw content (rows, *raw_shape) that are encoded and scaled on access.

    The content may lie on disk; the schema was fitted on the training part.
    """

    raw: Array | OnDemand
    rows: Indices
    schema: Schema

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Return the part's rows at `indices` as the network gets them, (indices, *input_shape)."""
        return self.schema.to_inputs(self.take_raw(indices))

    def take_raw(self, indices: Tensor) -> Array:
        """Return the part's raw rows at `indices`, (indices, *raw_shape)."""
        return self.raw[self.rows[indices.numpy()]]

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
    """Inputs and targets of one part, with their origin.

    Args:
        inputs: float32 (rows, *input_shape), scaled; lazy if the part exceeds its budget.
        targets: int64 (rows,) for classes, float32 (rows, outputs), scaled, for a regression.
        offsets: float64 (rows, outputs), to be added after unscaling; None = nothing to add.
        rows: (rows,) numbers of the rows in the source; for a series, of the first time predicted.
        groups: (rows,) number of the group that a row belongs to, such as a patient; None = no
            groups.
        seasonal: float64 (rows, outputs), in units, the last known value of the same season; None =
            the rows have no season.
        actual: float64 (rows, outputs), in units, the values to predict as the source gives them,
            which float32 rounds; None = the targets are classes.
        cells: The raw rows of a table with columns: NaN for a missing cell, the index of its level
            for a category; None = the rows have no columns.
    """

    inputs: Tensor | LazyInputs
    targets: Tensor
    offsets: Tensor | None
    rows: Indices
    groups: Indices | None = None
    seasonal: Tensor | None = None
    actual: Tensor | None = None
    cells: LazyInputs | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> Tensor:
        """Return the inputs at `indices`, (indices, *input_shape)."""
        if isinstance(self.inputs, LazyInputs):
            return self.inputs.take(indices)
        return self.inputs.index_select(0, indices)

    def blocks(self) -> Iterator[Tensor]:
        """Yield the inputs in order, in blocks that fit into memory."""
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
        offsets: float64 (rows, outputs), to be added to undo a difference; None = nothing to add.
        numbers: (rows,) row numbers in the source; for a series, of the first time predicted.
        split: Positions of each part in `inputs`.
        schema: Meaning of inputs and outputs, including the fitted scalers.
        notes: Notes for the user.
        groups: (rows,) number of the group that a row belongs to; None = no groups.
        seasonal: float64 (rows, outputs), the last known value of the same season; None = the rows
            have no season.
        actual: float64 (rows, outputs), the values to predict where `targets` are differences;
            None = they are the targets.
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
    seasonal: Array | None = None
    actual: Array | None = None
    constant: tuple[str, ...] = ()

    def part(self, rows: Indices, *, budget: int) -> Part:
        """Return the given rows as a network gets them; lazy if they exceed `budget` MiB."""
        schema = self.schema
        lazy = LazyInputs(raw=self.inputs, rows=rows, schema=schema)
        size = 4 * len(rows) * prod(schema.input_shape)  # bytes as float32
        raw_targets = self.targets[rows]
        if schema.task == "regression":
            targets = schema.target_scaler.scaled(raw_targets)
            actual = raw_targets if self.actual is None else self.actual[rows]
        else:
            targets = torch.from_numpy(raw_targets)
            actual = None
        return Part(
            inputs=lazy if size > budget * 2**20 else lazy.loaded(),
            targets=targets,
            offsets=None if self.offsets is None else torch.from_numpy(self.offsets[rows]),
            rows=self.numbers[rows],
            groups=None if self.groups is None else self.groups[rows],
            seasonal=None if self.seasonal is None else torch.from_numpy(self.seasonal[rows]),
            actual=None if actual is None else torch.from_numpy(actual),
            cells=None if schema.encoder is None else lazy,
        )

    def digest(self) -> str:
        """Return the SHA-256 of the raw content, its names and its split."""
        schema = self.schema
        names = (schema.task, schema.classes, schema.features, schema.targets)
        hashed = hashlib.sha256(repr(names).encode())
        if schema.encoder is not None:
            levels = [(code.name, code.levels) for code in schema.encoder.codes]
            hashed.update(repr(levels).encode())
        if schema.permutation:
            hashed.update(repr(schema.permutation).encode())
        if isinstance(self.inputs, OnDemand):
            _update(hashed, self.inputs.fingerprints)
        else:
            for block in blocks(self.inputs):
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

    Raises:
        ConfigError: An option applies to series only, or does not suit the data.
        DataError: The rows can't be split or learned from.
    """
    refuse_options(options, FOR_SERIES)
    checks.check_rows(samples)
    is_regression = samples.task == "regression"
    raw = samples.inputs
    reach = checks.check_finite(raw, "the data", holes_too=not samples.columns)
    split = split_rows(samples, options)
    if not is_regression:
        checks.check_classes(samples, split, options)
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
    notes = [*samples.notes]
    for key, note in DISORDER.items():
        value = getattr(options, key)
        if value is not None:
            notes.append(f"data.{key}={value}: {note}")
    return Content(
        inputs=raw,
        targets=targets,
        numbers=np.arange(len(targets)) if samples.numbers is None else samples.numbers,
        split=split,
        schema=replace(schema, permutation=_permutation(samples, options)),
        notes=tuple(notes),
        groups=samples.group_numbers,
        constant=checks.constant_columns(measured, schema),
    )


def _schema(
    samples: Samples, encoder: Encoder | None, input_scaler: Scaler, target_scaler: Scaler
) -> Schema:
    # New rows are found by the names of their columns if there are any, else read as arrays.
    is_table = len(samples.inputs.shape) == 2 and bool(samples.columns or samples.features)
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
        reading={"kind": "table" if is_table else "array", **samples.reading},
    )


def _targets(samples: Samples, train: Indices, options: DataOptions) -> Array:
    """Return targets (rows, …); `shuffle_labels` permutes those of the training rows `train`."""
    if samples.task == "regression":
        targets = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
        checks.check_finite(targets, "the target")
    else:
        targets = samples.targets.astype(np.int64, copy=False)
    if options.shuffle_labels is None:
        return targets
    shuffled = targets.copy()
    generator = np.random.default_rng(options.shuffle_labels)
    shuffled[train] = generator.permutation(targets[train])
    return shuffled


def refuse_options(options: DataOptions, reasons: Mapping[str, str]) -> None:
    """Raise ConfigError if options are set that don't apply to this kind of data.

    `reasons` maps each such option to what it is for and why it is refused.
    """
    problems = []
    for key, reason in reasons.items():
        value = getattr(options, key)
        default = 1 if key in ("horizon", "stride") else None
        if value != default:
            problems.append(f"data.{key}={value} {reason}")
    if problems:
        raise ConfigError(*problems)


def _permutation(samples: Samples, options: DataOptions) -> tuple[int, ...]:
    """Return the position that each place of a row gets its value from; empty = unchanged.

    Positions are the steps of a series, the pixels of an image (with all their channels) or the
    values of a row without names. Raises ConfigError if the columns have names.
    """
    if options.permute is None:
        return ()
    shape = samples.input_shape
    if len(shape) == 1 and (samples.columns or samples.features):
        raise ConfigError(
            f"data.permute={options.permute} is for steps, pixels and unnamed values, but this "
            "data is a table with named columns; expected null"
        )
    positions = prod(shape[1:]) if len(shape) == 3 else shape[0]
    permutation = np.random.default_rng(options.permute).permutation(positions)
    return tuple(permutation.tolist())
