"""Recurrent networks: each cell beside the same written in numpy, and what the output reads."""

import numpy as np
import pytest
import torch
from helpers.numpy_cells import CELLS, run_by_hand
from helpers.sample_networks import build, head_of, layers_of, module_of, recurrent_of
from torch import nn

from pipeline.config.compose import compose

FEATURES, HIDDEN = 3, 4


def make_layer(model: str, activation: str) -> nn.RNNBase:
    cell = {"activation": activation, "bidirectional": True}
    layer = recurrent_of(build(model, (2, FEATURES), 1, hidden=HIDDEN, layers=1, **cell))
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


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_last_readout_has_read_all_steps(model: str, activation: str) -> None:
    network = build(
        model, (5, 2), 3, hidden=4, bidirectional=True, readout="last", activation=activation
    )
    windows = torch.randn(6, 5, 2)
    states = layers_of(network)(windows)  # (6, 5, 8)
    expected = head_of(network)(torch.cat((states[:, 4, :4], states[:, 0, 4:]), dim=1))
    torch.testing.assert_close(network(windows), expected)


@pytest.mark.parametrize(
    ("words", "readout"),
    [
        (("data=airline",), "last"),
        (("data=airline", "data.window=${oc.env:NO_SUCH_VARIABLE}"), "last"),
        (("data=airline", "model.readout=mean"), "mean"),
        (("data=mnist1d",), "mean"),
    ],
)
def test_forecasts_read_the_last_state(words: tuple[str, ...], readout: str) -> None:
    """Classes are read from the mean of the states, unless the command says otherwise."""
    assert compose(["model=gru", *words]).model.readout == readout


@pytest.mark.parametrize("readout", ["mean", "flatten"])
def test_readout_may_use_all_states(readout: str) -> None:
    windows = torch.randn(6, 5, 2)
    network = build("gru", (5, 2), 3, hidden=4, readout=readout)
    states = layers_of(network)(windows).unbind(dim=1)
    read = sum(states) / 5 if readout == "mean" else torch.cat(states, dim=1)
    torch.testing.assert_close(network(windows), head_of(network)(read))


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_relu_recurrence_passes_gradcheck(model: str) -> None:
    layer = make_layer(model, "relu")
    windows = torch.randn(2, 4, FEATURES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: layer(values)[0], (windows,))


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_second_layer_reads_normalized_states(model: str) -> None:
    network = build(model, (5, 2), 3, hidden=16, layers=2, norm="layer", bidirectional=True)
    states = module_of(network, "layers.layer1", nn.Module)(torch.randn(6, 5, 2))
    torch.testing.assert_close(states.mean(dim=2), torch.zeros(6, 5), atol=1e-5, rtol=0)
    assert recurrent_of(network, 2).input_size == 32
