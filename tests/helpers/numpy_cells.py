"""Recurrent cells in numpy, one step after the other and one gate after the other."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Activation = Callable[[Array], Array]
ACTIVATIONS: dict[str, Activation] = {"tanh": np.tanh, "relu": lambda values: np.maximum(values, 0)}


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def rnn_step(reads: Array, held: Array, _: Array, __: Array, act: Activation) -> dict[str, Array]:
    return {"state": act(reads + held)}


def lstm_step(
    reads: Array, held: Array, _: Array, cell: Array, act: Activation
) -> dict[str, Array]:
    """Gers et al. 2000; by Keras' rule the activation stands at the candidate and the output."""
    write, forget, candidate, show = np.split(reads + held, 4)
    seen = {"forget gate": sigmoid(forget), "input gate": sigmoid(write)}
    cell = seen["forget gate"] * cell + seen["input gate"] * act(candidate)
    seen |= {"output gate": sigmoid(show), "candidate": act(candidate), "cell": cell}
    return {**seen, "state": seen["output gate"] * act(cell)}


def gru_step(
    reads: Array, held: Array, state: Array, _: Array, act: Activation
) -> dict[str, Array]:
    """Cho et al. 2014, the reset gate acting after the product, as in torch."""
    (r, z, n), (r_held, z_held, n_held) = np.split(reads, 3), np.split(held, 3)
    reset, update = sigmoid(r + r_held), sigmoid(z + z_held)
    candidate = act(n + reset * n_held)
    seen = {"reset gate": reset, "update gate": update, "candidate": candidate}
    return {**seen, "state": (1 - update) * candidate + update * state}


CELLS = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step}


def run_by_hand(
    model: str, activation: str, layer: nn.RNNBase, steps: Array, *, direction: str = ""
) -> dict[str, Array]:
    """Return what each gate, cell and state is at each step (steps, hidden), for one sample.

    `direction` is the ending of the names of the layer's weights; it decides nothing else.
    """
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [getattr(layer, name + direction).detach().double().numpy() for name in names]
    of_inputs, of_states, input_bias, state_bias = weights
    state = cell = np.zeros(layer.hidden_size)
    seen = []
    for step in steps:
        reads, held = of_inputs @ step + input_bias, of_states @ state + state_bias
        seen.append(CELLS[model](reads, held, state, cell, ACTIVATIONS[activation]))
        state, cell = seen[-1]["state"], seen[-1].get("cell", cell)
    return {kind: np.stack([views[kind] for views in seen]) for kind in seen[0]}
