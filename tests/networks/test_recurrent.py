"""Recurrent networks: each cell beside the same written in numpy, and what the output reads."""

import numpy as np
import pytest
import torch
from helpers.numpy_cells import CELLS, run_by_hand
from helpers.sample_networks import build
from torch import nn

FEATURES, HIDDEN = 3, 4


def make_layer(model: str, activation: str) -> nn.RNNBase:
    cell = {"activation": activation, "bidirectional": True}
    layer = build(model, (2, FEATURES), 1, hidden=HIDDEN, layers=1, **cell).layers[0].recurrent
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.7)
    return layer.double()


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", CELLS)
def test_recurrent_states_equal_numpy(model: str, activation: str, steps: int) -> None:
    layer = make_layer(model, activation)
    windows = torch.randn(2, steps, FEATURES, dtype=torch.float64)
    for window, states in zip(windows.numpy(), layer(windows)[0].detach().numpy(), strict=True):
        forward = run_by_hand(model, activation, layer, window)["state"]
        turned = run_by_hand(model, activation, layer, window[::-1], direction="_reverse")
        backward = turned["state"][::-1]
        np.testing.assert_allclose(states, np.concatenate([forward, backward], 1), atol=1e-12)


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_relu_recurrence_passes_gradcheck(model: str) -> None:
    layer = make_layer(model, "relu")
    windows = torch.randn(2, 4, FEATURES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: layer(values)[0], (windows,))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_last_readout_has_read_all_steps(model: str, activation: str) -> None:
    network = build(
        model, (5, 2), 3, hidden=4, bidirectional=True, readout="last", activation=activation
    )
    windows = torch.randn(6, 5, 2)
    states = network.layers(windows)  # (6, 5, 8)
    forward_end, backward_end = states[:, 4, :4], states[:, 0, 4:]
    expected = network.head(torch.cat((forward_end, backward_end), dim=1))
    torch.testing.assert_close(network(windows), expected)


def test_mean_and_flatten_use_all_states() -> None:
    windows = torch.randn(6, 5, 2)
    mean = build("gru", (5, 2), 3, hidden=4, readout="mean")
    flat = build("gru", (5, 2), 3, hidden=4, readout="flatten")
    states = sum(mean.layers(windows)[:, step] for step in range(5)) / 5
    torch.testing.assert_close(mean(windows), mean.head(states))
    side_by_side = torch.cat([flat.layers(windows)[:, step] for step in range(5)], dim=1)
    torch.testing.assert_close(flat(windows), flat.head(side_by_side))


def test_published_gru_has_5134_weights() -> None:
    network = build("gru", (40, 1), 10, hidden=6, bidirectional=True, readout="flatten")
    assert sum(weight.numel() for weight in network.parameters()) == 5_134


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_second_layer_reads_normalized_states(model: str) -> None:
    network = build(model, (5, 2), 3, hidden=16, layers=2, norm="layer", bidirectional=True)
    first, second = network.layers
    states = first(torch.randn(6, 5, 2))
    torch.testing.assert_close(states.mean(dim=2), torch.zeros(6, 5), atol=1e-5, rtol=0)
    assert second.recurrent.input_size == 32
