"""Outputs of a network's hidden layers for some rows, as arrays with descriptive names.

A hidden layer begins with weights (a convolution or a linear map), may have norms, and ends with
its activation. Pooling and dropout after it do not belong to it. If `forward` applies the
activation as a function, it is not visible, and the layer ends before it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import activation

from pipeline.data.content import Part
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.errors import ConfigError, some
from pipeline.findings import Floats
from pipeline.importance import evenly_spaced
from pipeline.networks.inspection import as_weights, watched
from pipeline.networks.layers import Skip
from pipeline.networks.recurrent import RecurrentLayer, ReluGRU, ReluLSTM

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
    calls: list[_Call] = []

    def hook_of(name: str, module: nn.Module) -> Callable[..., None] | None:
        def record(module: nn.Module, given: Any, named: dict[str, Any], outputs: Any) -> None:
            if isinstance(outputs, Tensor):  # a copy, since later modules may work in place
                outputs = outputs.detach().to("cpu", torch.float32, copy=True)
            calls.append(_Call(name, module, (*given, *named.values()), outputs))

        seen = isinstance(module, (*_WEIGHTED, *_NORMS, nn.RNNBase, Skip)) or _activates(module)
        return record if seen else None

    with watched(network, hook_of):
        # `forward` itself is called, since a compiled network would bypass the hooks.
        network.forward(as_weights(network, inputs))
        views = list(_views(network, calls, len(inputs), channels=channels))
        return dict(_thinned(*view, most=MOST_VALUES // len(views)) for view in views)


def _activates(module: nn.Module) -> bool:
    known = type(module).__module__ == activation.__name__ or isinstance(module, nn.Identity)
    return known and not isinstance(module, _NO_ACTIVATIONS)


# ── layers ──────────────────────────────────────────────────────────────────────────────────────


def _hidden_layers(network: nn.Module, calls: Sequence[_Call]) -> list[_HiddenLayer]:
    """Group calls into layers, in the order of the calls; the last linear map is the output."""
    times = Counter(call.name for call in calls)
    done: list[_HiddenLayer] = []
    unfinished: list[_HiddenLayer] = []  # those whose activation may still follow
    for call in calls:
        if isinstance(call.module, _WEIGHTED):
            layer = _HiddenLayer(name=call.name, weights=(call.module,), values=call.outputs)
            unfinished.append(layer)
        elif isinstance(call.module, Skip) and done:
            done[-1] = replace(done[-1], name=call.name, values=call.outputs)
        elif isinstance(call.module, _NORMS) and unfinished:
            if call.outputs.shape == unfinished[-1].values.shape:
                unfinished[-1] = replace(unfinished[-1], values=call.outputs)
        elif _activates(call.module) and unfinished:
            block = call.name.rpartition(".")[0]
            siblings = network.get_submodule(block).children()
            alone = times[call.name] == 1 and sum(map(_activates, siblings)) == 1
            done += _finished(unfinished, call, block, alone=alone)
            unfinished = []
    if unfinished and isinstance(unfinished[-1].weights[-1], nn.Linear):
        unfinished.pop()
    return [*done, *unfinished]


def _finished(
    unfinished: Sequence[_HiddenLayer], call: _Call, block: str, *, alone: bool
) -> list[_HiddenLayer]:
    """Return the layers that have no activation, then the layer that this activation ends.

    Several maps in one child of the activation's block (kernels of several shapes, a mixing of
    channels before them) are one layer.
    """
    prefix, last = f"{block}." if block else "", unfinished[-1].name

    def child(name: str) -> str:
        return name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else name

    members = [one for one in unfinished if child(one.name) == child(last)]
    name = block if block and last.startswith(prefix) and alone else last
    weights = tuple(weight for one in members for weight in one.weights)
    before = [one for one in unfinished if one not in members]
    return [*before, _HiddenLayer(name=name, weights=weights, values=call.outputs)]


# ── views ───────────────────────────────────────────────────────────────────────────────────────


def _views(
    network: nn.Module, calls: Sequence[_Call], samples: int, *, channels: bool
) -> Iterator[_FullView]:
    recurrent = {call.name: call for call in calls if isinstance(call.module, nn.RNNBase)}
    for call in recurrent.values():
        block = call.name.rpartition(".")[0]
        ours = isinstance(network.get_submodule(block), RecurrentLayer)
        assert isinstance(call.module, nn.RNNBase)
        for (kind, place), values in _over_time(call.module, call.inputs, call.outputs).items():
            yield f"{kind}/{block if ours else call.name}{place}", values, ("step", "unit")
    # If a layer is called several times, the last call counts.
    layers = {layer.name: layer for layer in _hidden_layers(network, calls)}
    for name, layer in layers.items():
        kind, axes = "activation", {2: ("value",), 3: ("step", "unit")}
        if layer.convolutions:
            kind, axes = "feature map", {3: ("position",), 4: ("pixel", "pixel")}
        along = axes.get(layer.values.ndim)
        if len(layer.values) != samples or along is None:
            continue
        yield f"{kind}/{name}", layer.values.sum(1) if layer.convolutions else layer.values, along
        if layer.convolutions and channels:
            yield f"channels/{name}", layer.values, ("channel", *along)
    first = next((layer for layer in layers.values() if layer.convolutions), None)
    if channels and first is not None:
        yield from _kernels(first)


def _kernels(layer: _HiddenLayer) -> Iterator[_FullView]:
    """Yield the kernels of a layer, except those of size 1, which only mix channels."""
    weights = [module.weight for module in layer.convolutions if isinstance(module.weight, Tensor)]
    found = [weight.detach() for weight in weights if weight[0, 0].numel() > 1]
    for number, weight in enumerate(found, start=1):
        shape = "×".join(str(length) for length in weight.shape[2:])
        which = f" {number}: {shape}" if len(found) > 1 else ""
        axes = ("channel", *("pixel",) * (weight.ndim - 2))
        yield f"kernels/{layer.name}{which}", weight, axes


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────


def _thinned(name: str, values: Tensor, axes: tuple[str, ...], *, most: int) -> tuple[str, Floats]:
    """Return at most `most` values, and the name with a note on what is left out."""
    lengths = values.shape[1:]
    both = list(zip(lengths, axes, strict=True))
    # Both sides of an image are thinned equally, so that it keeps its shape.
    longest = {axis: max(length for length, of in both if of == axis) for axis in axes}
    for skipped in range(max(values.shape)):
        cuts = [
            slice(0, length, -(-longest[axis] // MOST_OF[axis]) + skipped)
            if axis in _SUBSAMPLED
            else slice(0, min(length, MOST_OF[axis]), 1)
            for length, axis in both
        ]
        kept = [len(range(*cut.indices(length))) for length, cut in zip(lengths, cuts, strict=True)]
        if len(values) * prod(kept) <= most:
            break
    notes = []
    for length, axis, cut in zip(lengths, axes, cuts, strict=True):
        if cut.step > 1:
            ending = {1: "st", 2: "nd", 3: "rd"}.get(cut.step % 10, "th")
            ending = "th" if cut.step % 100 in (11, 12, 13) else ending
            notes.append(f"every {cut.step}{ending} {axis}")
        elif cut.stop < length:
            notes.append(f"{cut.stop} of {length} {axis}s")
    note = f" ({', '.join(dict.fromkeys(notes))})" if notes else ""
    thin = values[(slice(None), *cuts)].float().cpu().numpy()
    return name + note, np.ascontiguousarray(thin, dtype=np.float32)


# ── recurrent layers ────────────────────────────────────────────────────────────────────────

# Fused kernels return only the states, so gates and cells are recomputed from the weights by the
# formulas of `torch.nn.RNN`, `GRU` and `LSTM`, and of the ReLU cells in `networks.recurrent`.

#: Values at each step by kind and place, (samples, steps, hidden).
_Seen = dict[tuple[str, str], Tensor]
#: State and cell between two steps, each (samples, hidden).
_Held = tuple[Tensor, Tensor]


def _over_time(layer: nn.RNNBase, inputs: tuple[Any, ...], outputs: Any) -> _Seen:
    """Return the values of a recurrent layer at each step, each (samples, steps, hidden).

    The keys are a kind of `inside_of` and a place: empty or a direction (` forward`, ` backward`),
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
    own = _by_samples(layer, states).detach()
    directions = _directions(layer)
    found = _recomputed(layer, inputs) if layer.proj_size == 0 else {}
    last = [values for (kind, _), values in found.items() if kind == "state"][-len(directions) :]
    if last:
        off = max(TOLERANCE, ROUNDINGS * torch.finfo(own.dtype).eps)
        again, given = torch.cat(last, dim=2).float(), own.to(last[0].device).float()
        if torch.allclose(again, given, rtol=off, atol=off, equal_nan=True):
            return found
    parts = own.float().chunk(len(directions), dim=2)
    return {("state", word): part for (_, word), part in zip(directions, parts, strict=True)}


def _recomputed(layer: nn.RNNBase, inputs: tuple[Any, ...]) -> _Seen:
    # A fused kernel computes in more than half precision internally.
    precise = layer.weight_ih_l0.dtype if layer.weight_ih_l0.dtype == torch.float64 else None
    steps = _by_samples(layer, inputs[0]).to(precise or torch.float32)
    given = inputs[1] if len(inputs) > 1 else None
    count = layer.num_layers * len(_directions(layer))
    zeros = steps.new_zeros(count, len(steps), layer.hidden_size)
    state_and_cell = given if isinstance(given, tuple) else (given, None)
    # The initial state and cell of each layer and direction: zeros, unless the call gave them.
    initial = zip(*(zeros if one is None else one.to(steps) for one in state_and_cell), strict=True)
    found: _Seen = {}
    for number in range(layer.num_layers):
        depth = f" {number + 1}" if layer.num_layers > 1 else ""
        states = []
        for direction, word in _directions(layer):
            ordered = steps.flip(1) if direction else steps
            views = _run(layer, f"l{number}{direction}", ordered, next(initial))
            for kind, values in views.items():
                found[kind, word + depth] = values.flip(1) if direction else values
            states.append(found["state", word + depth])
        steps = torch.cat(states, dim=2)
    return found


def _directions(layer: nn.RNNBase) -> list[tuple[str, str]]:
    """Return each direction's suffixes for the names of weights and of views."""
    return [("", " forward"), ("_reverse", " backward")] if layer.bidirectional else [("", "")]


def _by_samples(layer: nn.RNNBase, values: Tensor) -> Tensor:
    ours = isinstance(layer, (ReluGRU, ReluLSTM))  # always batch first
    return values if layer.batch_first or ours else values.transpose(0, 1)


def _run(layer: nn.RNNBase, ending: str, steps: Tensor, held: _Held) -> dict[str, Tensor]:
    """Run over steps (samples, steps, features) in reading order and return the values at each.

    `ending` is the end of the weights' names, such as `l0` or `l1_reverse`.
    """

    def weight(kind: str, otherwise: Tensor | None = None) -> Tensor:
        found = getattr(layer, f"{kind}_{ending}", otherwise)
        assert isinstance(found, Tensor)
        return found.detach().to(steps)

    of_inputs, of_states = weight("weight_ih"), weight("weight_hh")
    zeros = steps.new_zeros(len(of_inputs))
    input_bias, state_bias = weight("bias_ih", zeros), weight("bias_hh", zeros)
    relu = layer.mode == "RNN_RELU" or isinstance(layer, (ReluGRU, ReluLSTM))
    activate = torch.relu if relu else torch.tanh
    seen: list[dict[str, Tensor]] = []
    for step in functional.linear(steps, of_inputs, input_bias).unbind(1):
        kept = functional.linear(held[0], of_states, state_bias)
        views = _step(layer.mode, step, kept, held, activate)
        held = views["state"], views.get("cell", held[1])
        seen.append(views)
    return {kind: torch.stack([views[kind] for views in seen], dim=1) for kind in seen[0]}


def _step(
    mode: str, step: Tensor, kept: Tensor, held: _Held, activate: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return what a cell computes from a step's inputs and from the previous state."""
    if mode == "LSTM":
        write, forget, candidate, show = (step + kept).chunk(4, dim=1)
        seen = {"forget gate": forget.sigmoid(), "input gate": write.sigmoid()}
        seen |= {"output gate": show.sigmoid(), "candidate": activate(candidate)}
        seen["cell"] = seen["forget gate"] * held[1] + seen["input gate"] * seen["candidate"]
        return {**seen, "state": seen["output gate"] * activate(seen["cell"])}
    if mode != "GRU":
        return {"state": activate(step + kept)}
    reset_in, update_in, candidate_in = step.chunk(3, dim=1)
    reset_kept, update_kept, candidate_kept = kept.chunk(3, dim=1)
    reset, update = (reset_in + reset_kept).sigmoid(), (update_in + update_kept).sigmoid()
    candidate = activate(candidate_in + reset * candidate_kept)
    state = (1 - update) * candidate + update * held[0]
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
        places = _named(prepared, samples)
    elif prepared.schema.task == "regression":
        spread = evenly_spaced(len(targets), OF_A_REGRESSION).tolist()
        places = [(prepared.test, at) for at in spread]
    else:  # in the order of the classes
        firsts = np.unique(targets.numpy(), return_index=True)[1][:MOST_CLASSES].tolist()
        places = [(prepared.test, at) for at in firsts]
    return Chosen(
        rows=np.array([part.rows[at] for part, at in places], dtype=np.int64),
        labels=tuple(_label(part, prepared.schema, at) for part, at in places),
        inputs=torch.cat([part.take(torch.tensor([at])) for part, at in places]),
    )


def _named(prepared: Prepared, samples: Sequence[int]) -> list[tuple[Part, int]]:
    wanted = list(dict.fromkeys(samples))
    if len(wanted) > MOST_SAMPLES:
        raise ConfigError(f"{KEY} names {len(wanted)} rows; expected at most {MOST_SAMPLES}")
    places = {
        row: (part, int(at[0]))
        for part in (prepared.test, prepared.validation, prepared.train)
        for row in wanted
        if part is not None and len(at := np.flatnonzero(part.rows == row))
    }
    unknown = [str(row) for row in wanted if row not in places]
    if unknown:
        rows = [str(row) for row in prepared.test.rows[:4]]
        word = "row" if len(unknown) == 1 else "rows"
        raise ConfigError(
            f"{KEY}=[{','.join(map(str, wanted))}]: the data have no {word} "
            f"{some(unknown, most=4)}; expected row numbers of the source, such as "
            f"{some(rows, most=3)} of the test part"
        )
    return [places[row] for row in wanted]


def _label(part: Part, schema: Schema, at: int) -> str:
    """Return the class of a row, or its value in units (of several values, the first)."""
    if schema.task != "regression":
        return schema.classes[int(part.targets[at])]
    offsets = None if part.offsets is None else part.offsets[[at]]
    return f"{float(schema.to_units(part.targets[[at]], offsets)[0, 0]):.4g}"
