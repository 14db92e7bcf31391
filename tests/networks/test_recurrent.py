"""Recurrent networks: each cell beside the same written in numpy, and what the output reads."""

import numpy as np
import pytest
import torch
from made_networks import build
from numpy.typing import NDArray
from torch import nn

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


CELLS = {"rnn": rnn_states, "gru": gru_states, "lstm": lstm_states}


def make_layer(model: str, activation: str, *, bidirectional: bool) -> nn.RNNBase:
    cell = {"activation": activation, "bidirectional": bidirectional}
    layer = build(model, (2, FEATURES), 1, hidden=HIDDEN, layers=1, **cell).layers[0].recurrent
    for weight in layer.parameters():
        nn.init.normal_(weight, std=0.7)
    return layer.double()


def weights_of(layer: nn.RNNBase, direction: str) -> list[Array]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(layer, name + direction).detach().numpy() for name in names]


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", CELLS)
def test_the_states_of_a_cell_are_those_of_the_textbook(
    model: str, activation: str, steps: int
) -> None:
    layer = make_layer(model, activation, bidirectional=False)
    windows = torch.randn(2, steps, FEATURES, dtype=torch.float64)
    states = layer(windows)[0].detach().numpy()
    for row in range(2):
        expected = CELLS[model](windows[row].numpy(), *weights_of(layer, ""), activation)
        np.testing.assert_allclose(states[row], expected, atol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", CELLS)
def test_the_backward_half_reads_the_steps_from_the_end(model: str, activation: str) -> None:
    layer, oracle = make_layer(model, activation, bidirectional=True), CELLS[model]
    window = torch.randn(1, 5, FEATURES, dtype=torch.float64)
    states = layer(window)[0][0].detach().numpy()
    steps = window[0].numpy()
    forward = oracle(steps, *weights_of(layer, ""), activation)
    backward = oracle(steps[::-1], *weights_of(layer, "_reverse"), activation)[::-1]
    np.testing.assert_allclose(states, np.concatenate([forward, backward], axis=1), atol=1e-12)


@pytest.mark.parametrize("model", ["gru", "lstm"])
def test_the_gradient_of_a_relu_loop_is_that_of_small_differences(model: str) -> None:
    layer = make_layer(model, "relu", bidirectional=True)
    windows = torch.randn(2, 4, FEATURES, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: layer(values)[0], (windows,))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_last_is_the_state_in_which_each_direction_has_read_everything(
    model: str, activation: str
) -> None:
    network = build(
        model, (5, 2), 3, hidden=4, bidirectional=True, readout="last", activation=activation
    )
    windows = torch.randn(6, 5, 2)
    states = network.layers(windows)  # (6, 5, 8)
    forward_end, backward_end = states[:, 4, :4], states[:, 0, 4:]
    expected = network.head(torch.cat((forward_end, backward_end), dim=1))
    torch.testing.assert_close(network(windows), expected)


def test_both_halves_of_the_last_read_out_depend_on_every_step() -> None:
    network = build("gru", (5, 1), 1, hidden=4, bidirectional=True, readout="last")
    windows = torch.randn(1, 5, 1, requires_grad=True)
    read = network.read(network.layers(windows))[0]
    for half in (read[:4], read[4:]):
        (gradient,) = torch.autograd.grad(half.sum(), windows, retain_graph=True)
        assert (gradient != 0).all()


def test_mean_and_flatten_read_all_states() -> None:
    windows = torch.randn(6, 5, 2)
    mean = build("gru", (5, 2), 3, hidden=4, readout="mean")
    flat = build("gru", (5, 2), 3, hidden=4, readout="flatten")
    states = sum(mean.layers(windows)[:, step] for step in range(5)) / 5
    torch.testing.assert_close(mean(windows), mean.head(states))
    side_by_side = torch.cat([flat.layers(windows)[:, step] for step in range(5)], dim=1)
    torch.testing.assert_close(flat(windows), flat.head(side_by_side))


def test_the_published_gru_has_5134_weights() -> None:
    network = build("gru", (40, 1), 10, hidden=6, bidirectional=True, readout="flatten")
    assert sum(weight.numel() for weight in network.parameters()) == 5_134


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_a_second_layer_reads_the_normalised_states_of_the_first(model: str) -> None:
    network = build(model, (5, 2), 3, hidden=16, layers=2, norm="layer", bidirectional=True)
    first, second = network.layers
    states = first(torch.randn(6, 5, 2))
    torch.testing.assert_close(states.mean(dim=2), torch.zeros(6, 5), atol=1e-5, rtol=0)
    assert second.recurrent.input_size == 32


def test_dropout_acts_on_a_single_recurrent_layer_too() -> None:
    network = build("lstm", (5, 2), 1, hidden=400, dropout=0.3, readout="last")
    windows = torch.randn(1, 5, 2)
    share = (network.train().layers(windows)[:, -1] == 0).float().mean().item()
    assert 0.2 < share < 0.4
    assert not (network.eval().layers(windows) == 0).any()
