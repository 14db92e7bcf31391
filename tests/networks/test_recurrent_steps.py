"""One step of each cell, and whole loops, beside the same written in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.networks.recurrent import GRU, LSTM, RNN

Array = NDArray[np.float64]
FEATURES, HIDDEN = 3, 4


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def relu(values: Array) -> Array:
    return np.maximum(values, 0)


ACTIVATIONS = {"tanh": np.tanh, "relu": relu}


def rnn_states(steps: Array, w: Array, u: Array, b: Array, d: Array, activation: str) -> Array:
    state, states = np.zeros(HIDDEN), []
    for step in steps:
        state = ACTIVATIONS[activation](w @ step + b + u @ state + d)
        states.append(state)
    return np.stack(states)


def lstm_states(steps: Array, w: Array, u: Array, b: Array, d: Array, activation: str) -> Array:
    """Keras' rule: the activation stands at the candidate and at the output."""
    state, cell, states = np.zeros(HIDDEN), np.zeros(HIDDEN), []
    for step in steps:
        i, f, g, o = np.split(w @ step + b + u @ state + d, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * ACTIVATIONS[activation](g)
        state = sigmoid(o) * ACTIVATIONS[activation](cell)
        states.append(state)
    return np.stack(states)


def gru_states(steps: Array, w: Array, u: Array, b: Array, d: Array, activation: str) -> Array:
    state, states = np.zeros(HIDDEN), []
    for step in steps:
        r_in, z_in, n_in = np.split(w @ step + b, 3)
        r_held, z_held, n_held = np.split(u @ state + d, 3)
        reset, update = sigmoid(r_in + r_held), sigmoid(z_in + z_held)
        candidate = ACTIVATIONS[activation](n_in + reset * n_held)
        state = (1 - update) * candidate + update * state
        states.append(state)
    return np.stack(states)


CELLS = [(RNN, rnn_states), (GRU, gru_states), (LSTM, lstm_states)]


def make_layer(network: type[nn.Module], activation: str, *, bidirectional: bool) -> nn.RNNBase:
    layer = network.build_layer(FEATURES, HIDDEN, activation, bidirectional=bidirectional)
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.7)
    return layer.double()


def weights_of(layer: nn.RNNBase, direction: str) -> list[Array]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(layer, name + direction).detach().numpy() for name in names]


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("network", "oracle"), CELLS)
def test_the_states_of_a_cell_are_those_of_the_textbook(
    network: type[nn.Module], oracle, activation: str, steps: int
) -> None:
    layer = make_layer(network, activation, bidirectional=False)
    windows = torch.randn(2, steps, FEATURES, dtype=torch.float64)
    states = layer(windows)[0].detach().numpy()
    for row in range(2):
        expected = oracle(windows[row].numpy(), *weights_of(layer, ""), activation)
        np.testing.assert_allclose(states[row], expected, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("network", "oracle"), CELLS)
def test_the_backward_half_reads_the_steps_from_the_end(
    network: type[nn.Module], oracle, activation: str
) -> None:
    layer = make_layer(network, activation, bidirectional=True)
    window = torch.randn(1, 5, FEATURES, dtype=torch.float64)
    states = layer(window)[0][0].detach().numpy()
    steps = window[0].numpy()
    forward = oracle(steps, *weights_of(layer, ""), activation)
    backward = oracle(steps[::-1], *weights_of(layer, "_reverse"), activation)[::-1]
    np.testing.assert_allclose(states, np.concatenate([forward, backward], axis=1), atol=1e-12)


@pytest.mark.parametrize("network", [GRU, LSTM])
def test_the_gradient_of_a_relu_loop_is_that_of_small_differences(
    network: type[nn.Module],
) -> None:
    layer = make_layer(network, "relu", bidirectional=True)
    windows = torch.randn(2, 4, FEATURES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: layer(values)[0], (windows,))
