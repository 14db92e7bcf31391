"""States and gates of a recurrent layer at each step.

Fused kernels return only the states, so gates and cells are recomputed from the weights by the
formulas of `torch.nn.RNN`, `GRU` and `LSTM`, and of the ReLU cells in `networks.recurrent`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.recurrent import ReluGRU, ReluLSTM

#: Largest difference from the layer's own states; GPU kernels may round inputs to ten bits.
TOLERANCE = 1e-2
#: Number of roundings that a state may have gone through in half precision.
ROUNDINGS = 16

#: Values at each step by kind and suffix, (samples, steps, hidden).
_RecurrentValues = dict[tuple[str, str], Tensor]
#: State and cell between two steps, each (samples, hidden).
_StateAndCell = tuple[Tensor, Tensor]


def values_over_time(layer: nn.RNNBase, inputs: tuple[Any, ...], outputs: Any) -> _RecurrentValues:
    """Return the values of a recurrent layer at each step, each (samples, steps, hidden).

    The keys are a kind of `inside_of` and a suffix: empty or a direction (` forward`, ` backward`),
    then the number of the layer if there are several (` 1`, ` 2`). Values of the backward direction
    belong to the step that was read. A layer that computes anything else has only its state, and
    nothing if its output has no steps.

    Args:
        layer: An RNN, a GRU or an LSTM, of one or several layers, in one or both directions.
        inputs: Inputs of the call: (samples, steps, features), optionally an initial state.
        outputs: Outputs of the call.
    """
    states = outputs[0] if isinstance(outputs, tuple) else outputs
    if not isinstance(states, Tensor) or states.ndim != 3 or not isinstance(inputs[0], Tensor):
        return {}
    states = _by_samples(layer, states).detach()
    directions = _directions(layer)
    if layer.proj_size == 0:
        values = _recompute(layer, inputs)
        layer_states = [tensor for (kind, _), tensor in values.items() if kind == "state"]
        recomputed = torch.cat(layer_states[-len(directions) :], dim=2).float()
        tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(states.dtype).eps)
        expected = states.to(recomputed.device).float()
        if torch.allclose(recomputed, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            return values
    chunks = states.float().chunk(len(directions), dim=2)
    only_states: _RecurrentValues = {}
    for (_, suffix), chunk in zip(directions, chunks, strict=True):
        only_states["state", suffix] = chunk
    return only_states


def _recompute(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> _RecurrentValues:
    # A fused kernel computes in more than half precision internally.
    precise = layer.weight_ih_l0.dtype if layer.weight_ih_l0.dtype == torch.float64 else None
    steps = _by_samples(layer, inputs[0]).to(precise or torch.float32)
    # The initial state and cell of each layer and direction are zeros, unless the call gave them.
    initial = inputs[1] if len(inputs) > 1 else None
    state, cell = initial if isinstance(initial, tuple) else (initial, None)
    count = layer.num_layers * len(_directions(layer))
    zeros = steps.new_zeros(count, len(steps), layer.hidden_size)
    states = zeros if state is None else state.to(steps)
    cells = zeros if cell is None else cell.to(steps)
    pairs = zip(states, cells, strict=True)
    values: _RecurrentValues = {}
    for number in range(layer.num_layers):
        depth = f" {number + 1}" if layer.num_layers > 1 else ""
        outputs = []
        for direction, name in _directions(layer):
            ordered = steps.flip(1) if direction else steps
            views = _run(layer, f"l{number}{direction}", ordered, next(pairs))
            for kind, view in views.items():
                values[kind, name + depth] = view.flip(1) if direction else view
            outputs.append(values["state", name + depth])
        steps = torch.cat(outputs, dim=2)
    return values


def _directions(layer: nn.RNNBase) -> list[tuple[str, str]]:
    """Return each direction's suffixes for the names of weights and of views."""
    return [("", " forward"), ("_reverse", " backward")] if layer.bidirectional else [("", "")]


def _by_samples(layer: nn.RNNBase, values: Tensor) -> Tensor:
    # The ReLU cells always have the batch first.
    if layer.batch_first or isinstance(layer, (ReluGRU, ReluLSTM)):
        return values
    return values.transpose(0, 1)


def _run(
    layer: nn.RNNBase, ending: str, steps: Tensor, previous: _StateAndCell
) -> dict[str, Tensor]:
    """Run over steps (samples, steps, features) in reading order and return the values at each.

    `ending` is the end of the weights' names, such as `l0` or `l1_reverse`.
    """
    input_weight = _weight(layer, f"weight_ih_{ending}", steps)
    state_weight = _weight(layer, f"weight_hh_{ending}", steps)
    input_bias = state_bias = steps.new_zeros(len(input_weight))
    if layer.bias:
        input_bias = _weight(layer, f"bias_ih_{ending}", steps)
        state_bias = _weight(layer, f"bias_hh_{ending}", steps)
    is_relu = layer.mode == "RNN_RELU" or isinstance(layer, (ReluGRU, ReluLSTM))
    activate = torch.relu if is_relu else torch.tanh
    views_of_steps: list[dict[str, Tensor]] = []
    for from_inputs in functional.linear(steps, input_weight, input_bias).unbind(1):
        from_state = functional.linear(previous[0], state_weight, state_bias)
        views = _step(layer.mode, from_inputs, from_state, previous, activate)
        previous = (views["state"], views.get("cell", previous[1]))
        views_of_steps.append(views)
    stacked = {}
    for kind in views_of_steps[0]:
        stacked[kind] = torch.stack([views[kind] for views in views_of_steps], dim=1)
    return stacked


def _weight(layer: nn.RNNBase, name: str, steps: Tensor) -> Tensor:
    weight = getattr(layer, name)
    assert isinstance(weight, Tensor)
    return weight.detach().to(steps)


def _step(
    mode: str,
    from_inputs: Tensor,
    from_state: Tensor,
    previous: _StateAndCell,
    activate: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return what a cell computes from the linear maps of a step's inputs and previous state."""
    if mode == "LSTM":
        input_gate, forget, candidate, output = (from_inputs + from_state).chunk(4, dim=1)
        views = {"forget gate": forget.sigmoid(), "input gate": input_gate.sigmoid()}
        views |= {"output gate": output.sigmoid(), "candidate": activate(candidate)}
        remembered = views["forget gate"] * previous[1]
        views["cell"] = remembered + views["input gate"] * views["candidate"]
        views["state"] = views["output gate"] * activate(views["cell"])
        return views
    if mode != "GRU":
        return {"state": activate(from_inputs + from_state)}
    input_reset, input_update, input_candidate = from_inputs.chunk(3, dim=1)
    state_reset, state_update, state_candidate = from_state.chunk(3, dim=1)
    reset = (input_reset + state_reset).sigmoid()
    update = (input_update + state_update).sigmoid()
    candidate = activate(input_candidate + reset * state_candidate)
    state = (1 - update) * candidate + update * previous[0]
    return {"reset gate": reset, "update gate": update, "candidate": candidate, "state": state}
