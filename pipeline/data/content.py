"""Rows of any source before they are parted, and the hash that names them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.data.part import Part, part_of
from pipeline.data.scale import rows_a_block
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, OnDemand
from pipeline.data.split import Split


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
    offsets: Array | None
    numbers: Indices
    split: Split
    schema: Schema
    notes: tuple[str, ...]
    groups: Indices | None = None
    constant: tuple[str, ...] = ()

    def part(self, rows: Indices, *, budget: int) -> Part:
        """Return some rows as a network gets them.

        Args:
            rows: Positions in `inputs`.
            budget: MiB that they may take as one tensor.
        """
        schema, targets = self.schema, self.targets[rows]
        is_regression = schema.task == "regression"
        return Part(
            inputs=part_of(self.inputs, rows, schema, budget=budget),
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
        for block in self._blocks():
            _update(hashed, block)
        _update(hashed, self.targets)
        if self.offsets is not None:
            _update(hashed, self.offsets)
        for name, rows in self.split.parts().items():
            hashed.update(name.encode())
            _update(hashed, self.numbers[rows])
        return hashed.hexdigest()

    def _blocks(self) -> Iterator[Array]:
        if isinstance(self.inputs, OnDemand):
            yield self.inputs.fingerprints
            return
        size = rows_a_block(self.inputs)
        for start in range(0, len(self.inputs), size):
            yield self.inputs[start : start + size]


def _update(hashed: "hashlib._Hash", values: Array) -> None:
    hashed.update(f"{values.dtype.str}{values.shape}".encode())
    hashed.update(np.ascontiguousarray(values).data)
