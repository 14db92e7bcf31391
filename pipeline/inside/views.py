"""Outputs of a network's hidden layers for some rows, as arrays with descriptive names.

A hidden layer begins with weights (a convolution or a linear map), may have norms, and ends with
its activation. Pooling and dropout after it do not belong to it. If `forward` applies the
activation as a function, it is not visible, and the layer ends before it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import activation

from pipeline.base.errors import ConfigError, some
from pipeline.base.findings import Floats
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Indices
from pipeline.networks.inspection import as_weights, watched
from pipeline.networks.layers import Skip
from pipeline.networks.recurrent import RecurrentLayer, ReluGRU, ReluLSTM
from pipeline.scoring.importance import evenly_spaced

#: Number of values of all views together, 16 MiB before compression, shared equally by the views.
MOST_VALUES = 2**22

#: Largest number of entries along an axis, by the kind of the axis.
MOST_OF = {"pixel": 128, "position": 1024, "step": 256, "channel": 32, "unit": 64, "value": 1024}

#: Axes with similar neighbours, of which every n-th entry is kept; other axes keep the first ones.
_SUBSAMPLED = ("pixel", "position", "step")

_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
_WEIGHTED = (*_CONVOLUTIONS, nn.Linear)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)
_NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)


#: Largest difference from the layer's own states; GPU kernels may round inputs to ten bits.
TOLERANCE = 1e-2
#: Number of roundings that a state may have gone through in half precision.
ROUNDINGS = 16


class _Call(NamedTuple):
    """One call of a module."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    outputs: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _HiddenLayer:
    """A hidden layer of convolutions or linear maps.

    Args:
        name: Name of its block (`layers.layer1`), or of its last weights if it has no block.
        weights: Modules with its weights.
        values: Outputs, float32 on the CPU: (samples, channels, *lengths), (samples, units) or
            (samples, steps, units).
    """

    name: str
    weights: tuple[nn.Module, ...]
    values: Tensor

    @property
    def convolutions(self) -> list[nn.Module]:
        """The convolutions among its weights."""
        return [module for module in self.weights if isinstance(module, _CONVOLUTIONS)]


#: Kinds of the axes of a convolutional and of a dense layer, by the number of dimensions. The axis
#: of the samples and that of the channels, over which a map is the sum, are not among them.
_MAP_AXES: dict[int, tuple[str, ...]] = {3: ("position",), 4: ("pixel", "pixel")}
_DENSE_AXES: dict[int, tuple[str, ...]] = {2: ("value",), 3: ("step", "unit")}

#: A view in full size: its name, its values (samples, …) and the kind of each axis after the
#: first, a key of `MOST_OF`.
_FullView = tuple[str, Tensor, tuple[str, ...]]


def inside_of(network: nn.Module, inputs: Tensor, *, channels: bool) -> dict[str, Floats]:
    """Return the outputs of a network's hidden layers for some rows, by name.

    The network runs in evaluation mode and is left unchanged. In a user's own network, only layers
    and activations that are torch's modules are visible. The names are

    - `feature map/layers.layer1`: sum over the channels of a convolutional layer, (samples, height,
      width) or (samples, positions);
    - `channels/layers.layer1`: each channel, (samples, channels, …), if `channels` is true;
    - `kernels/layers.layer1`: kernels of the first convolution, (channels out, channels in, …),
      if `channels` is true; with several kernel shapes, each has its shape after the name;
    - `activation/layers.layer1`: values of a dense layer, (samples, units), or (samples, steps,
      units) if it is applied to each step;
    - `state/layers.layer1`: hidden state of a recurrent layer, (samples, steps, units), and its
      gates: `forget gate/…`, `input gate/…`, `output gate/…`, `candidate/…`, `cell/…` or
      `reset gate/…`, `update gate/…`, `candidate/…`. A bidirectional layer has two of each,
      `layers.layer1 forward` and `layers.layer1 backward`.

    A view that is too large for a picture is thinned, and its name says so: `state/layers.layer1
    (every 4th step, 64 of 500 units)`.

    Args:
        network: Any network.
        inputs: Inputs as the network gets them, (samples, *input_shape).
        channels: Whether to include all channels and the first kernels.
    """
    recorder = _CallRecorder()
    with watched(network, recorder.hook_of):
        # `forward` itself is called, since a compiled network would bypass the hooks.
        network.forward(as_weights(network, inputs))
        views = list(_views(network, recorder.calls, len(inputs), channels=channels))
        return dict(_thinned(*view, most=MOST_VALUES // len(views)) for view in views)


class _CallRecorder:
    """Records the calls of all modules that make up a layer."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []

    def hook_of(self, name: str, module: nn.Module) -> Callable[..., None] | None:
        """Return a forward hook that takes keyword arguments; `None` for other modules."""
        is_of_layer = isinstance(module, (*_WEIGHTED, *_NORMS, nn.RNNBase, Skip))
        return partial(self._record, name) if is_of_layer or _activates(module) else None

    def _record(
        self, name: str, module: nn.Module, inputs: Any, options: dict[str, Any], outputs: Any
    ) -> None:
        if isinstance(outputs, Tensor):  # a copy, since later modules may work in place
            outputs = outputs.detach().to("cpu", torch.float32, copy=True)
        self.calls.append(_Call(name, module, (*inputs, *options.values()), outputs))


def _activates(module: nn.Module) -> bool:
    if isinstance(module, _NO_ACTIVATIONS):
        return False
    return type(module).__module__ == activation.__name__ or isinstance(module, nn.Identity)


# ── layers ──────────────────────────────────────────────────────────────────────────────────────


def _hidden_layers(network: nn.Module, calls: Sequence[_Call]) -> list[_HiddenLayer]:
    """Group calls into layers, in the order of the calls; the last linear map is the output."""
    call_counts = Counter(call.name for call in calls)
    layers: list[_HiddenLayer] = []
    unfinished: list[_HiddenLayer] = []  # those whose activation may still follow
    for call in calls:
        if isinstance(call.module, _WEIGHTED):
            layer = _HiddenLayer(name=call.name, weights=(call.module,), values=call.outputs)
            unfinished.append(layer)
        elif isinstance(call.module, Skip) and layers:
            layers[-1] = replace(layers[-1], name=call.name, values=call.outputs)
        elif isinstance(call.module, _NORMS) and unfinished:
            if call.outputs.shape == unfinished[-1].values.shape:
                unfinished[-1] = replace(unfinished[-1], values=call.outputs)
        elif _activates(call.module) and unfinished:
            block = call.name.rpartition(".")[0]
            siblings = network.get_submodule(block).children()
            is_alone = call_counts[call.name] == 1 and sum(map(_activates, siblings)) == 1
            layers += _finished(unfinished, call, block, is_alone=is_alone)
            unfinished = []
    if unfinished and isinstance(unfinished[-1].weights[-1], nn.Linear):
        unfinished.pop()
    return [*layers, *unfinished]


def _finished(
    unfinished: Sequence[_HiddenLayer], call: _Call, block: str, *, is_alone: bool
) -> list[_HiddenLayer]:
    """Return the layers that have no activation, then the layer that this activation ends.

    Several maps in one child of the activation's block (kernels of several shapes, a mixing of
    channels before them) are one layer.
    """
    last = unfinished[-1].name
    last_child = _child(block, last)
    without_activation = []
    weights: list[nn.Module] = []
    for layer in unfinished:
        if _child(block, layer.name) == last_child:
            weights += layer.weights
        else:
            without_activation.append(layer)
    is_block = is_alone and block and last.startswith(f"{block}.")
    name = block if is_block else last
    return [
        *without_activation,
        _HiddenLayer(name=name, weights=tuple(weights), values=call.outputs),
    ]


def _child(block: str, name: str) -> str:
    """Return the name of the block's child that contains a module, or the name outside of it."""
    prefix = f"{block}." if block else ""
    return name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else name


# ── views ───────────────────────────────────────────────────────────────────────────────────────


def _views(
    network: nn.Module, calls: Sequence[_Call], samples: int, *, channels: bool
) -> Iterator[_FullView]:
    recurrent = {call.name: call for call in calls if isinstance(call.module, nn.RNNBase)}
    for call in recurrent.values():
        block = call.name.rpartition(".")[0]
        is_built_in = isinstance(network.get_submodule(block), RecurrentLayer)
        name = block if is_built_in else call.name
        assert isinstance(call.module, nn.RNNBase)
        for (kind, suffix), values in _over_time(call.module, call.inputs, call.outputs).items():
            yield f"{kind}/{name}{suffix}", values, ("step", "unit")
    # If a layer is called several times, the last call counts.
    layers = {layer.name: layer for layer in _hidden_layers(network, calls)}
    for name, layer in layers.items():
        axes_by_rank = _MAP_AXES if layer.convolutions else _DENSE_AXES
        axes = axes_by_rank.get(layer.values.ndim)
        if len(layer.values) != samples or axes is None:
            continue
        if not layer.convolutions:
            yield f"activation/{name}", layer.values, axes
            continue
        yield f"feature map/{name}", layer.values.sum(1), axes
        if channels:
            yield f"channels/{name}", layer.values, ("channel", *axes)
    convolutional = [layer for layer in layers.values() if layer.convolutions]
    if channels and convolutional:
        yield from _kernels(convolutional[0])


def _kernels(layer: _HiddenLayer) -> Iterator[_FullView]:
    """Yield the kernels of a layer, except those of size 1, which only mix channels."""
    kernels = []
    for module in layer.convolutions:
        weight = module.weight
        if isinstance(weight, Tensor) and weight[0, 0].numel() > 1:
            kernels.append(weight.detach())
    for number, weight in enumerate(kernels, start=1):
        name = f"kernels/{layer.name}"
        if len(kernels) > 1:
            name += f" {number}: {'×'.join(map(str, weight.shape[2:]))}"
        yield name, weight, ("channel", *["pixel"] * (weight.ndim - 2))


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────


def _thinned(name: str, values: Tensor, axes: tuple[str, ...], *, most: int) -> tuple[str, Floats]:
    """Return at most `most` values, and the name with a note on what is left out."""
    lengths = values.shape[1:]
    for skipped in range(max(values.shape)):
        cuts = _cuts(lengths, axes, skipped)
        thin = values[(slice(None), *cuts)]
        if thin.numel() <= most:
            break
    notes = []
    for length, axis, cut in zip(lengths, axes, cuts, strict=True):
        if cut.step > 1:
            notes.append(f"every {cut.step}{_ordinal_suffix(cut.step)} {axis}")
        elif cut.stop < length:
            notes.append(f"{cut.stop} of {length} {axis}s")
    if notes:
        name += f" ({', '.join(dict.fromkeys(notes))})"
    return name, np.ascontiguousarray(thin.float().cpu().numpy(), dtype=np.float32)


def _cuts(lengths: Sequence[int], axes: Sequence[str], skipped: int) -> list[slice]:
    """Return the kept entries of each axis; `skipped` makes the steps between them longer."""
    # Both sides of an image are thinned equally, so that it keeps its shape.
    longest: dict[str, int] = {}
    for length, axis in zip(lengths, axes, strict=True):
        longest[axis] = max(length, longest.get(axis, 0))
    cuts = []
    for length, axis in zip(lengths, axes, strict=True):
        if axis in _SUBSAMPLED:
            step = -(-longest[axis] // MOST_OF[axis]) + skipped
            cuts.append(slice(0, length, step))
        else:
            cuts.append(slice(0, min(length, MOST_OF[axis]), 1))
    return cuts


def _ordinal_suffix(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


# ── recurrent layers ────────────────────────────────────────────────────────────────────────

# Fused kernels return only the states, so gates and cells are recomputed from the weights by the
# formulas of `torch.nn.RNN`, `GRU` and `LSTM`, and of the ReLU cells in `networks.recurrent`.

#: Values at each step by kind and suffix, (samples, steps, hidden).
_RecurrentValues = dict[tuple[str, str], Tensor]
#: State and cell between two steps, each (samples, hidden).
_StateAndCell = tuple[Tensor, Tensor]


def _over_time(layer: nn.RNNBase, inputs: tuple[Any, ...], outputs: Any) -> _RecurrentValues:
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
        values = _recomputed(layer, inputs)
        layer_states = [tensor for (kind, _), tensor in values.items() if kind == "state"]
        recomputed = torch.cat(layer_states[-len(directions) :], dim=2).float()
        tolerance = max(TOLERANCE, ROUNDINGS * torch.finfo(states.dtype).eps)
        expected = states.to(recomputed.device).float()
        if torch.allclose(recomputed, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            return values
    chunks = states.float().chunk(len(directions), dim=2)
    return {("state", suffix): chunk for (_, suffix), chunk in zip(directions, chunks, strict=True)}


def _recomputed(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> _RecurrentValues:
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
    kinds = views_of_steps[0]
    return {kind: torch.stack([views[kind] for views in views_of_steps], dim=1) for kind in kinds}


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


# ── rows to look at ─────────────────────────────────────────────────────────────────────────────

KEY = "feature_maps.samples"
#: Largest number of classes for which a row is shown.
MOST_CLASSES = 12
#: Number of rows that are shown for a regression.
OF_A_REGRESSION = 6
#: Largest number of rows in `feature_maps.samples`.
MOST_SAMPLES = 16


class Chosen(NamedTuple):
    """Rows to look at.

    Args:
        rows: Numbers of the rows in the source, int64 (samples,).
        labels: Class or value of each row as text.
        inputs: Inputs as the network gets them, (samples, *input_shape).
    """

    rows: Indices
    labels: tuple[str, ...]
    inputs: Tensor


def chosen(prepared: Prepared, samples: Sequence[int] | None) -> Chosen:
    """Return the rows to look at; no other rows are read.

    `samples` are row numbers in the source, of any part. `None` means the first test row of each of
    the first 12 classes or, for a regression, 6 rows evenly spaced over the test part.

    Raises:
        ConfigError: A number is not that of a row, or there are more than 16.
    """
    targets = prepared.test.targets
    if samples is not None:
        positions = _positions_of(prepared, samples)
    elif prepared.schema.task == "regression":
        spread = evenly_spaced(len(targets), OF_A_REGRESSION).tolist()
        positions = [(prepared.test, index) for index in spread]
    else:  # in the order of the classes
        _, first_rows = np.unique(targets.numpy(), return_index=True)
        positions = [(prepared.test, index) for index in first_rows[:MOST_CLASSES].tolist()]
    rows = [part.rows[index] for part, index in positions]
    return Chosen(
        rows=np.array(rows, dtype=np.int64),
        labels=tuple(_label(part, prepared.schema, index) for part, index in positions),
        inputs=torch.cat([part.take(torch.tensor([index])) for part, index in positions]),
    )


def _positions_of(prepared: Prepared, samples: Sequence[int]) -> list[tuple[Part, int]]:
    """Return the part that has each of these rows, and the index of the row in it."""
    rows = list(dict.fromkeys(samples))
    if len(rows) > MOST_SAMPLES:
        raise ConfigError(f"{KEY} names {len(rows)} rows; expected at most {MOST_SAMPLES}")
    positions: dict[int, tuple[Part, int]] = {}
    for part in (prepared.test, prepared.validation, prepared.train):
        if part is None:
            continue
        for row in rows:
            indices = np.flatnonzero(part.rows == row)
            if len(indices):
                positions[row] = (part, int(indices[0]))
    unknown = [str(row) for row in rows if row not in positions]
    if unknown:
        examples = [str(row) for row in prepared.test.rows[:4]]
        word = "row" if len(unknown) == 1 else "rows"
        raise ConfigError(
            f"{KEY}=[{','.join(map(str, rows))}]: the data have no {word} "
            f"{some(unknown, most=4)}; expected row numbers of the source, such as "
            f"{some(examples, most=3)} of the test part"
        )
    return [positions[row] for row in rows]


def _label(part: Part, schema: Schema, index: int) -> str:
    """Return the class of a row, or its value in units (of several values, the first)."""
    if schema.task != "regression":
        return schema.classes[int(part.targets[index])]
    offsets = None if part.offsets is None else part.offsets[[index]]
    return f"{float(schema.to_units(part.targets[[index]], offsets)[0, 0]):.4g}"
