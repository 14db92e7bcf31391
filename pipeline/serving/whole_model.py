"""A model as one module of torch's: encoded numbers in, final outputs out."""

import torch
from torch import Tensor, nn

from pipeline.data.scale import Scaler
from pipeline.data.schema import Schema, permuted
from pipeline.data.source import Array
from pipeline.networks.inspection import probabilities
from pipeline.serving.model import Model


class Whole(nn.Module):
    """Scaling, the network, and what makes its outputs final.

    Args:
        model: Whose network it takes.
    """

    shift: Tensor
    spread: Tensor
    target_shift: Tensor
    target_spread: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self._is_regression = model.schema.task == "regression"
        self._permutation = model.schema.permutation
        self._scales = not _is_identity(model.schema.input_scaler)
        shape = _along(model.schema)
        for name in ("shift", "spread"):
            vector = torch.tensor(getattr(model.schema.input_scaler, name), dtype=torch.float64)
            self.register_buffer(name, vector.reshape(shape))
            target = torch.tensor(getattr(model.schema.target_scaler, name), dtype=torch.float64)
            self.register_buffer(f"target_{name}", target)

    def forward(self, rows: Tensor) -> Tensor:
        """Map float32 rows (rows, *input_shape) to what `Model.outputs` gives for them."""
        # In double, as in training: beside a mean of 1e6 a single's digits would not last.
        scaled = ((rows.double() - self.shift) / self.spread).float() if self._scales else rows
        outputs: Tensor = self.network(permuted(scaled, self._permutation)).float()
        if self._is_regression:
            return (outputs.double() * self.target_spread + self.target_shift).float()
        return probabilities(outputs)


def encoded(schema: Schema, raw: Array) -> Tensor:
    """Turn raw rows (rows, *raw_shape) into what `Whole` takes, float32 (rows, *input_shape)."""
    numbers = raw if schema.encoder is None else schema.encoder.encoded(raw)
    return torch.from_numpy(numbers.astype("float32", order="C"))


def _along(schema: Schema) -> list[int]:
    """Return the shape of a vector of one number a feature, or a channel of an image."""
    shape = [1] * (len(schema.input_shape) + 1)
    shape[1 if schema.kind == "images" else -1] = -1
    return shape


def _is_identity(scaler: Scaler) -> bool:
    return set(scaler.shift) == {0.0} and set(scaler.spread) == {1.0}
