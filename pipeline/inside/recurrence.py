"""States, gates and cells over time, computed again from a layer's weights.

Fused kernels give the states alone. The formulas are those of `torch.nn.RNN`, `GRU` and `LSTM`,
and of the ReLU cells in `pipeline.networks.recurrent`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.recurrent import ReluGRU, ReluLSTM

TOLERANCE = 1e-2
"""Up to which states count as the layer's own: kernels of GPUs round inputs to ten bits."""
ROUNDINGS = 16
"""In half precision, how often a state may have been rounded on its way."""

Activation = Callable[[Tensor], Tensor]
Seen = dict[tuple[str, str], Tensor]
"""By kind and place: what is seen at each step, (samples, steps, hidden)."""


class _Weights(NamedTuple):
    """Of one direction: of the inputs and of the states, with their biases."""

    inputs: Tensor
    states: Tensor
    input_bias: Tensor
    state_bias: Tensor


class _Held(NamedTuple):
    """What a cell holds from step to step, each (samples, hidden)."""

    state: Tensor
    cell: Tensor


def over_time(layer: nn.RNNBase, inputs: tuple[Any, ...], outputs: Any) -> Seen:
    """Return what a recurrent layer did at each step, (samples, steps, hidden) each.

    Args:
        layer: An RNN, a GRU or an LSTM, of one or several layers, in one or both directions.
        inputs: What it was called with: (samples, steps, features), perhaps a first state.
        outputs: What it gave.

    Returns:
        Of the kinds `state`; for a GRU `reset gate`, `update gate`, `candidate`; for an LSTM
        `forget gate`, `input gate`, `output gate`, `candidate`, `cell`. The place is empty, or
        ` forward` and ` backward` where there are two directions, then ` 1`, ` 2` where there are
        several layers; what is read backwards stands at the step that was read. It is the state
        alone where the layer's rule is another one, and nothing where no steps can be told apart.
    """
    states = outputs[0] if isinstance(outputs, tuple) else outputs
    if not isinstance(states, Tensor) or states.ndim != 3 or not isinstance(inputs[0], Tensor):
        return {}
    own = _by_samples(layer, states).detach()
    told = _recomputed(layer, inputs) if layer.proj_size == 0 else {}
    last = [values for (kind, _), values in told.items() if kind == "state"]
    last = last[-len(_directions(layer)) :]
    if last and _agree(torch.cat(last, dim=2), own):
        return told
    parts = own.float().chunk(len(_directions(layer)), dim=2)
    return {
        ("state", word): part for (_, word), part in zip(_directions(layer), parts, strict=True)
    }


def _agree(told: Tensor, own: Tensor) -> bool:
    off = max(TOLERANCE, ROUNDINGS * torch.finfo(own.dtype).eps)
    return torch.allclose(
        told.float(), own.to(told.device).float(), rtol=off, atol=off, equal_nan=True
    )


def _recomputed(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> Seen:
    # Half precision would lose what a fused kernel keeps inside.
    precise = layer.weight_ih_l0.dtype if layer.weight_ih_l0.dtype == torch.float64 else None
    steps = _by_samples(layer, inputs[0]).to(precise or torch.float32)
    first = _first_held(layer, inputs[1] if len(inputs) > 1 else None, steps)
    told: Seen = {}
    for number in range(layer.num_layers):
        depth = f" {number + 1}" if layer.num_layers > 1 else ""
        found = []
        for direction, word in _directions(layer):
            weights = _weights(layer, f"l{number}{direction}", steps)
            ordered = steps.flip(1) if direction else steps
            views = _run(layer, ordered, weights, next(first))
            for kind, values in views.items():
                told[kind, word + depth] = values.flip(1) if direction else values
            found.append(told["state", word + depth])
        steps = torch.cat(found, dim=2)
    return told


def _directions(layer: nn.RNNBase) -> list[tuple[str, str]]:
    """Return how each direction ends the names of weights, and the views' names."""
    return [("", " forward"), ("_reverse", " backward")] if layer.bidirectional else [("", "")]


def _by_samples(layer: nn.RNNBase, values: Tensor) -> Tensor:
    ours = isinstance(layer, (ReluGRU, ReluLSTM))  # they know no other order
    return values if layer.batch_first or ours else values.transpose(0, 1)


def _first_held(layer: nn.RNNBase, given: Any, steps: Tensor) -> Iterator[_Held]:
    """Yield what each layer and direction begins with: zeros, unless the call gave it."""
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
    """Go over the steps (samples, steps, features) and keep all that is seen at each."""
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
