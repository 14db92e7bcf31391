"""States, gates and cells over time, recomputed from a layer's weights.

Fused kernels return only the states. The formulas are those of `torch.nn.RNN`, `GRU` and `LSTM`,
and of the ReLU cells in `pipeline.networks.recurrent`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.recurrent import ReluGRU, ReluLSTM

TOLERANCE = 1e-2
"""Largest difference to the layer's own states: kernels of GPUs round inputs to ten bits."""
ROUNDINGS = 16
"""In half precision, how often a state may have been rounded."""

Activation = Callable[[Tensor], Tensor]
Seen = dict[tuple[str, str], Tensor]
"""Values at each step by kind and place, (samples, steps, hidden)."""


class _Weights(NamedTuple):
    """Weights of one direction, for the inputs and for the states, with their biases."""

    inputs: Tensor
    states: Tensor
    input_bias: Tensor
    state_bias: Tensor


class _Held(NamedTuple):
    """State and cell between two steps, each (samples, hidden)."""

    state: Tensor
    cell: Tensor


def over_time(layer: nn.RNNBase, inputs: tuple[Any, ...], outputs: Any) -> Seen:
    """Return the values of a recurrent layer at each step, (samples, steps, hidden) each.

    Args:
        layer: An RNN, a GRU or an LSTM, of one or several layers, in one or both directions.
        inputs: Of the call: (samples, steps, features), perhaps an initial state.
        outputs: Of the call.

    Returns:
        Of the kinds `state`; for a GRU `reset gate`, `update gate`, `candidate`; for an LSTM
        `forget gate`, `input gate`, `output gate`, `candidate`, `cell`. The place is empty, or
        ` forward` and ` backward` where there are two directions, then ` 1`, ` 2` where there are
        several layers; a value of the backward direction belongs to the step that was read. Only
        the state is returned if the layer follows another rule, and nothing if the output has no
        steps.
    """
    states = outputs[0] if isinstance(outputs, tuple) else outputs
    if not isinstance(states, Tensor) or states.ndim != 3 or not isinstance(inputs[0], Tensor):
        return {}
    own = _by_samples(layer, states).detach()
    directions = _directions(layer)
    found = _recomputed(layer, inputs) if layer.proj_size == 0 else {}
    last = [values for (kind, _), values in found.items() if kind == "state"][-len(directions) :]
    if last and _agree(torch.cat(last, dim=2), own):
        return found
    parts = own.float().chunk(len(directions), dim=2)
    return {("state", word): part for (_, word), part in zip(directions, parts, strict=True)}


def _agree(found: Tensor, own: Tensor) -> bool:
    off = max(TOLERANCE, ROUNDINGS * torch.finfo(own.dtype).eps)
    own = own.to(found.device).float()
    return torch.allclose(found.float(), own, rtol=off, atol=off, equal_nan=True)


def _recomputed(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> Seen:
    # A fused kernel computes in more than half precision internally.
    precise = layer.weight_ih_l0.dtype if layer.weight_ih_l0.dtype == torch.float64 else None
    steps = _by_samples(layer, inputs[0]).to(precise or torch.float32)
    initial = _initial(layer, inputs[1] if len(inputs) > 1 else None, steps)
    found: Seen = {}
    for number in range(layer.num_layers):
        depth = f" {number + 1}" if layer.num_layers > 1 else ""
        states = []
        for direction, word in _directions(layer):
            weights = _weights(layer, f"l{number}{direction}", steps)
            ordered = steps.flip(1) if direction else steps
            views = _run(layer, ordered, weights, next(initial))
            for kind, values in views.items():
                found[kind, word + depth] = values.flip(1) if direction else values
            states.append(found["state", word + depth])
        steps = torch.cat(states, dim=2)
    return found


def _directions(layer: nn.RNNBase) -> list[tuple[str, str]]:
    """Return the endings of each direction for the names of weights and of views."""
    return [("", " forward"), ("_reverse", " backward")] if layer.bidirectional else [("", "")]


def _by_samples(layer: nn.RNNBase, values: Tensor) -> Tensor:
    ours = isinstance(layer, (ReluGRU, ReluLSTM))  # always batch first
    return values if layer.batch_first or ours else values.transpose(0, 1)


def _initial(layer: nn.RNNBase, given: Any, steps: Tensor) -> Iterator[_Held]:
    """Yield the initial state of each layer and direction: zeros, unless the call gave it."""
    count = layer.num_layers * len(_directions(layer))
    zeros = steps.new_zeros(count, len(steps), layer.hidden_size)
    state, cell = given if isinstance(given, tuple) else (given, None)
    states = zeros if state is None else state.to(steps)
    cells = zeros if cell is None else cell.to(steps)
    return iter([_Held(*held) for held in zip(states, cells, strict=True)])


def _weights(layer: nn.RNNBase, ending: str, like: Tensor) -> _Weights:
    def weight(kind: str, otherwise: Tensor | None = None) -> Tensor:
        found = getattr(layer, f"{kind}_{ending}", otherwise)
        assert isinstance(found, Tensor)
        return found.detach().to(like)

    inputs, states = weight("weight_ih"), weight("weight_hh")
    none = like.new_zeros(len(inputs))
    return _Weights(inputs, states, weight("bias_ih", none), weight("bias_hh", none))


def _run(layer: nn.RNNBase, steps: Tensor, weights: _Weights, held: _Held) -> dict[str, Tensor]:
    """Run over the steps (samples, steps, features) and return the values at each."""
    step_of, activation = _rule(layer)
    projected = functional.linear(steps, weights.inputs, weights.input_bias)
    seen: list[Mapping[str, Tensor]] = []
    for step in projected.unbind(1):
        kept = functional.linear(held.state, weights.states, weights.state_bias)
        views = step_of(step, kept, held, activation)
        held = _Held(views["state"], views.get("cell", held.cell))
        seen.append(views)
    return {kind: torch.stack([views[kind] for views in seen], dim=1) for kind in seen[0]}


_Step = Callable[[Tensor, Tensor, _Held, Activation], dict[str, Tensor]]


def _rule(layer: nn.RNNBase) -> tuple[_Step, Activation]:
    if layer.mode.startswith("RNN"):
        return _rnn_step, torch.relu if layer.mode == "RNN_RELU" else torch.tanh
    relu = isinstance(layer, (ReluGRU, ReluLSTM))
    step = _gru_step if layer.mode == "GRU" else _lstm_step
    return step, torch.relu if relu else torch.tanh


def _rnn_step(step: Tensor, kept: Tensor, _: _Held, activation: Activation) -> dict[str, Tensor]:
    return {"state": activation(step + kept)}


def _gru_step(step: Tensor, kept: Tensor, held: _Held, activation: Activation) -> dict[str, Tensor]:
    reset_in, update_in, candidate_in = step.chunk(3, dim=1)
    reset_kept, update_kept, candidate_kept = kept.chunk(3, dim=1)
    reset, update = (reset_in + reset_kept).sigmoid(), (update_in + update_kept).sigmoid()
    candidate = activation(candidate_in + reset * candidate_kept)
    state = (1 - update) * candidate + update * held.state
    return {"reset gate": reset, "update gate": update, "candidate": candidate, "state": state}


def _lstm_step(
    step: Tensor, kept: Tensor, held: _Held, activation: Activation
) -> dict[str, Tensor]:
    write, forget, candidate, show = (step + kept).chunk(4, dim=1)
    write, forget, show = write.sigmoid(), forget.sigmoid(), show.sigmoid()
    candidate = activation(candidate)
    cell = forget * held.cell + write * candidate
    return {
        "forget gate": forget,
        "input gate": write,
        "output gate": show,
        "candidate": candidate,
        "cell": cell,
        "state": show * activation(cell),
    }
