"""What a checkpoint must know to read raw rows again and to name what the network says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.data.scale import Encoder, Scaler, axis_of, with_tuples
from pipeline.data.source import Array, Reading, Task
from pipeline.networks import Kind, kind_of


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
        """Return the first value of inputs that is infinite once scaled, as its row and column.

        Args:
            inputs: Of `to_inputs`.
        """
        odd = torch.isfinite(inputs).logical_not_()
        if not bool(odd.any()):
            return None
        place = odd.nonzero()[0].tolist()
        column = place[axis_of(inputs.ndim)]
        return place[0], self.features[column] if self.features else f"number {column}"

    def to_units(self, outputs: Tensor, offsets: Tensor | None) -> Tensor:
        """Undo the scaling of a regression's outputs or targets (rows, outputs).

        Args:
            outputs: Scaled values (rows, outputs).
            offsets: What the difference took away, in units, (rows, outputs); None = nothing.
        """
        values = self.target_scaler.unscaled(outputs)
        return values if offsets is None else values + offsets.to(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as dicts, lists, strings and numbers."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Schema":
        """Build the schema that `to_dict` wrote."""
        fields = with_tuples(plain)
        if plain.get("encoder") is not None:
            fields["encoder"] = Encoder.from_dict(plain["encoder"])
        for key in ("input_scaler", "target_scaler"):
            fields[key] = Scaler(**{name: tuple(part) for name, part in plain[key].items()})
        return cls(**fields)


def permuted(rows: Tensor, permutation: Sequence[int]) -> Tensor:
    """Return rows (rows, *input_shape) with their positions in another order; empty = as it is."""
    if not permutation:
        return rows
    order = torch.tensor(permutation, device=rows.device)
    if rows.ndim == 4:
        return rows.flatten(2)[:, :, order].reshape(rows.shape)
    return rows[:, order]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
