"""Looking at a network without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def looking(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode without gradients, and leave it as it was.

    Modes, buffers (their values and the tensors themselves) and torch's generators are put back.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=_gpus(network)):
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


def _gpus(network: nn.Module) -> list[int]:
    devices = {weight.device for weight in network.parameters() if weight.is_cuda}
    return [device.index for device in devices if device.index is not None]
