"""One part of the data as the network gets it: tensors, or rows read as they are needed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.data.scale import rows_a_block
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, OnDemand

TAKEN_BYTES = 8 * 2**20
"""Of lazy rows as float64 that are encoded and scaled at once, which takes several copies."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LazyInputs:
    """Raw rows that are encoded and scaled when they are taken.

    Args:
        raw: Content of all parts, (rows, *raw_shape); may lie on disk.
        rows: Row numbers of this part.
        schema: Its encoder and scaler were fitted on the training part.
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
        features = math.prod(self.schema.input_shape)
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


def part_of(
    raw: Array | OnDemand, rows: Indices, schema: Schema, *, budget: int
) -> Tensor | LazyInputs:
    """Return the given raw rows as inputs: one tensor up to `budget` MiB, lazy above it."""
    lazy = LazyInputs(raw=raw, rows=rows, schema=schema)
    size = 4 * len(rows) * math.prod(schema.input_shape)  # bytes as float32
    return lazy if size > budget * 2**20 else lazy.loaded()
