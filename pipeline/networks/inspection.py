"""Inspects a network: evaluation mode without side effects, probabilities, the layer table."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def probabilities(logits: Tensor) -> Tensor:
    """Return the probability of the positive class (rows,) of one logit, else (rows, classes)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return torch.sigmoid(logits.squeeze(1))
    return torch.softmax(logits, dim=1)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and restore it afterwards.

    Modes, buffers (their values and the tensors themselves) and torch's generators are restored.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    gpus = {weight.device.index for weight in network.parameters() if weight.is_cuda}
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=gpus):
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                setattr(module, name, buffer.copy_(values))


def as_weights(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return inputs on the device and in the precision of the network's weights."""
    weight = next(network.parameters(), torch.empty(0))
    return inputs.to(device=weight.device, dtype=weight.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network.

    Args:
        name: Where it lies in the network, as `layers.layer1.convolution`.
        kind: Name of its class, as `Conv2d`.
        output_shape: Shape of its output for one sample, without the batch.
        parameters: Numbers that training changes.
        channels_in: Ci, the channels that each kernel reads; `None` for other layers.
        channels_out: Co, the channels of the output; `None` for other layers.
        kernel: (Kh, Kw), or (K,) in one direction; `None` for other layers. A convolution has
            Ci × Co × Kh × Kw weights.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    channels_in: int | None
    channels_out: int | None
    kernel: tuple[int, ...] | None


def layer_table(network: nn.Module, input_shape: tuple[int, ...]) -> list[LayerRow]:
    """Return a row for each layer, in the order in which one sample passes them.

    One sample of zeros runs through the network in evaluation mode. Weights, running statistics,
    training modes and random states are left as they were.

    Args:
        network: The network to look at; its parameters decide the device and the kind of number.
        input_shape: Shape of one sample, without the batch.
    """
    rows: list[LayerRow] = []
    hooks = [
        layer.register_forward_hook(
            lambda layer, _, output, name=name: rows.append(_row(name, layer, output))
        )
        for name, layer in network.named_modules()
        if _is_layer(layer)
    ]
    try:
        with evaluation_mode(network):
            network(as_weights(network, torch.zeros(1, *input_shape)))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _is_layer(module: nn.Module) -> bool:
    """Say whether a module has weights of its own, or is neither empty nor made of others."""
    if any(True for _ in module.parameters(recurse=False)):
        return True
    return not isinstance(module, nn.Sequential) and not any(True for _ in module.children())


def _row(name: str, layer: nn.Module, output: Tensor | tuple[Tensor, ...]) -> LayerRow:
    values = output if isinstance(output, Tensor) else output[0]
    convolution = layer if isinstance(layer, (nn.Conv1d, nn.Conv2d)) else None
    return LayerRow(
        name=name,
        kind=type(layer).__name__.lstrip("_"),
        output_shape=tuple(values.shape[1:]),
        parameters=sum(weight.numel() for weight in layer.parameters(recurse=False)),
        channels_in=convolution.in_channels // convolution.groups if convolution else None,
        channels_out=convolution.out_channels if convolution else None,
        kernel=tuple(convolution.kernel_size) if convolution else None,
    )
