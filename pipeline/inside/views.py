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
from torch.nn.modules import activation

from pipeline.base.findings import Floats
from pipeline.inside.recurrent import values_over_time
from pipeline.networks.inspection import as_weights, watched
from pipeline.networks.layers import Skip
from pipeline.networks.recurrent import RecurrentLayer

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
        thin_views = [_thinned(*view, most=MOST_VALUES // len(views)) for view in views]
        return dict(thin_views)


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
    # If a layer is called several times, the last call counts.
    recurrent = {call.name: call for call in calls if isinstance(call.module, nn.RNNBase)}
    for call in recurrent.values():
        block = call.name.rpartition(".")[0]
        is_built_in = isinstance(network.get_submodule(block), RecurrentLayer)
        name = block if is_built_in else call.name
        assert isinstance(call.module, nn.RNNBase)
        for (kind, suffix), values in values_over_time(
            call.module, call.inputs, call.outputs
        ).items():
            yield f"{kind}/{name}{suffix}", values, ("step", "unit")
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
