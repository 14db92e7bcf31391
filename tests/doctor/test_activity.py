"""Dead units and saturated values are counted as numpy counts them; the network stays as it was."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers.sample_networks import build
from torch import Tensor, nn

from pipeline.base.findings import Activity
from pipeline.networks.inspection import activity_of

MADE: dict[str, Any] = {"dropout": 0.2, "init": "torch", "gain": None}


def rows(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def by_name(found: tuple[Activity, ...]) -> dict[str, Activity]:
    return {one.layer: one for one in found}


def test_dead_relu_is_zero_for_every_row() -> None:
    torch.manual_seed(0)
    mlp = build("mlp", (4,), 2, hidden=[8, 6], norm="none", **MADE)
    with torch.no_grad():
        mlp.get_parameter("layers.layer1.linear.bias")[:3] = -1e3
    inputs = rows(700, 4)
    first = mlp.get_submodule("layers.layer1.linear")(inputs[:512]).clamp(min=0).detach().numpy()
    found = by_name(activity_of(mlp, inputs))
    one = found["layers.layer1.activation"]
    assert (one.kind, one.units, one.saturated) == ("ReLU", 8, 0.0)
    assert one.dead == (first == 0).all(0).mean() >= 3 / 8
    assert [one.mean, one.deviation] == pytest.approx([first.mean(), first.std()], rel=1e-5)
    # A channel is dead where all its places are zero.
    cnn = build("cnn2d", (1, 6, 6), 3, channels=[4], kernel_size=3, norm="none", **MADE)
    with torch.no_grad():
        cnn.get_parameter("layers.layer1.convolution.kernel.bias")[2] = -1e3
    (one,) = activity_of(cnn, rows(20, 1, 6, 6))
    assert (one.units, one.dead) == (4, 0.25)


@pytest.mark.parametrize(
    ("activation", "bounds"), [("tanh", (-0.99, 0.99)), ("sigmoid", (0.01, 0.99))]
)
def test_values_near_a_bound_are_saturated(activation: str, bounds: tuple[float, float]) -> None:
    torch.manual_seed(0)
    mlp = build("mlp", (4,), 2, hidden=[8], activation=activation, norm="none", **MADE)
    inputs = rows(100, 4, scale=8.0)
    linear, function = (
        mlp.get_submodule("layers.layer1.linear"),
        mlp.get_submodule("layers.layer1.activation"),
    )
    values = function(linear(inputs)).detach().numpy()
    (one,) = activity_of(mlp, inputs)
    assert one.saturated == ((values < bounds[0]) | (values > bounds[1])).mean() > 0.1
    assert one.dead == 0.0


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_recurrent_activity_is_measured_on_states(model: str, activation: str) -> None:
    torch.manual_seed(0)
    cell = {"activation": activation, "norm": "none", "bidirectional": True, "readout": "last"}
    network = build(model, (7, 3), 2, hidden=5, layers=1, **cell, **MADE)
    inputs = rows(90, 7, 3, scale=6.0)
    with torch.no_grad():
        states = network.get_submodule("layers.layer1.recurrent")(inputs)[0].numpy()
    (one,) = activity_of(network, inputs)
    kind = f"{model.upper()} ({activation})"
    assert (one.layer, one.kind, one.units) == ("layers.layer1.recurrent", kind, 10)
    assert one.mean == pytest.approx(states.mean(), rel=1e-4)
    saturated = (np.abs(states) > 0.99).mean() if activation == "tanh" else 0.0
    assert one.saturated == pytest.approx(saturated)
    dead = (states == 0).all((0, 1)).mean() if activation == "relu" else 0.0
    assert one.dead == dead


def test_half_precision_network_has_activity() -> None:
    """A network without activations has none."""
    half = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).bfloat16()
    (one,) = activity_of(half, rows(10, 4))
    assert one.units == 3
    assert activity_of(nn.Linear(4, 3), rows(10, 4)) == ()


class Odd(nn.Module):
    """Activations that give no batch of units, and a layer that gives packed steps."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.LSTM(2, 3, batch_first=True)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, 1)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        lengths = torch.full((len(windows),), windows.shape[1])
        packed = nn.utils.rnn.pack_padded_sequence(windows, lengths, batch_first=True)
        states = nn.utils.rnn.pad_packed_sequence(self.reader(packed)[0], batch_first=True)[0]
        outputs: torch.Tensor = self.act(self.head(states[:, -1]).squeeze(1))
        return outputs.unsqueeze(1)


def test_outputs_other_than_unit_batches_are_ignored() -> None:
    assert activity_of(Odd(), torch.randn(4, 5, 2)) == ()
