"""The hidden layers of any network: which modules make one up, and what comes out of it.

A hidden layer begins with weights (a convolution or a linear map), goes on with norms and ends
with its activation; pooling and dropout after it are none of it. An activation that is a function
in the code of `forward`, and no module, can't be seen: there the layer ends before it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation, batchnorm, conv, instancenorm
from torch.utils.hooks import RemovableHandle

from pipeline.networks.layers import Skip

_WEIGHTED = (conv._ConvNd, nn.Linear)
_NORMS = (batchnorm._NormBase, instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NO_ACTIVATIONS = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.Softmin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a module.

    Args:
        name: Where the module lies in the network.
        module: The module.
        inputs: What it was called with.
        outputs: What it gave.
    """

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    outputs: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A hidden layer of convolutions or linear maps, and what it gave.

    Args:
        name: `layers.layer1`; in a network of one's own that of the weights where the activation
            has no block for itself and them.
        weights: Its convolutions or linear maps.
        values: float32 on the CPU, (samples, channels, *lengths), (samples, units) or
            (samples, steps, units).
    """

    name: str
    weights: tuple[nn.Module, ...]
    values: Tensor

    @property
    def convolutions(self) -> list[nn.Module]:
        """Those of its weights that are kernels."""
        return [module for module in self.weights if isinstance(module, conv._ConvNd)]


def watch(network: nn.Module, calls: list[Call]) -> list[RemovableHandle]:
    """Note the calls that matter from now on, until the returned hooks are removed."""

    def noted(name: str, module: nn.Module) -> RemovableHandle:
        def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], gave: Any) -> None:
            inputs = (*given, *named.values())
            calls.append(Call(name=name, module=module, inputs=inputs, outputs=_kept(gave)))

        return module.register_forward_hook(note, with_kwargs=True)

    return [noted(name, module) for name, module in network.named_modules() if _matters(module)]


def hidden_layers(network: nn.Module, calls: Sequence[Call]) -> list[Layer]:
    """Make layers of calls, in the order of the calls; the last linear map is no hidden one."""
    times = Counter(call.name for call in calls)
    done: list[Layer] = []
    open_: list[Layer] = []  # those whose activation may still come
    for call in calls:
        if isinstance(call.module, _WEIGHTED):
            open_.append(Layer(name=call.name, weights=(call.module,), values=call.outputs))
        elif isinstance(call.module, Skip) and done:
            done[-1] = Layer(name=call.name, weights=done[-1].weights, values=call.outputs)
        elif isinstance(call.module, _NORMS) and open_:
            open_[-1] = _with_values(open_[-1], call.outputs)
        elif is_activation(call.module) and open_:
            alone = times[call.name] == 1 and _only_activation(network, call.name)
            before, layer = _ended(open_, call, alone=alone)
            done += [*before, layer]
            open_ = []
    if open_ and isinstance(open_[-1].weights[-1], nn.Linear):
        open_.pop()
    return [*done, *open_]


def is_activation(module: nn.Module) -> bool:
    """Say whether a module is an activation function."""
    known = type(module).__module__ == activation.__name__ or isinstance(module, nn.Identity)
    return known and not isinstance(module, _NO_ACTIVATIONS)


def _matters(module: nn.Module) -> bool:
    kinds = (*_WEIGHTED, *_NORMS, nn.RNNBase, Skip)
    return isinstance(module, kinds) or is_activation(module)


def _kept(outputs: Any) -> Any:
    """Return a copy that no function working in place can change any more."""
    if isinstance(outputs, Tensor):
        return outputs.detach().to("cpu", torch.float32, copy=True)
    return outputs


def _with_values(layer: Layer, values: Tensor) -> Layer:
    fits = values.shape == layer.values.shape
    return Layer(name=layer.name, weights=layer.weights, values=values) if fits else layer


def _ended(open_: list[Layer], call: Call, *, alone: bool) -> tuple[list[Layer], Layer]:
    """Return the layers without an activation, and the one that this call of it ends.

    Several maps in one child of the activation's block (kernels of several shapes, a mixing of
    channels before the kernels) are one layer.
    """
    block = call.name.rpartition(".")[0]
    last = _child(open_[-1].name, block)
    members = [layer for layer in open_ if _child(layer.name, block) == last]
    weights = tuple(weight for layer in members for weight in layer.weights)
    inside = open_[-1].name.startswith(f"{block}.")
    name = block if block and inside and alone else open_[-1].name
    before = [layer for layer in open_ if layer not in members]
    return before, Layer(name=name, weights=weights, values=call.outputs)


def _child(name: str, block: str) -> str:
    """Return the child of a block that something lies in; outside of the block, itself."""
    prefix = f"{block}." if block else ""
    return name[len(prefix) :].split(".", maxsplit=1)[0] if name.startswith(prefix) else name


def _only_activation(network: nn.Module, name: str) -> bool:
    block = network.get_submodule(name.rpartition(".")[0])
    return sum(is_activation(child) for child in block.children()) == 1
