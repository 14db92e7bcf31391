"""First weights of layers, by name."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.networks.activation import Activation

Init = Literal["default", "torch", "keras", "xavier", "kaiming", "orthogonal", "normal"]

NORMAL_DEVIATION = 0.02

_SATURATING = ("tanh", "sigmoid", "identity")

DenseLayer = nn.Linear | nn.Conv1d | nn.Conv2d


@torch.no_grad()
def initialise(
    layer: DenseLayer, *, init: Init, gain: float | None, activation: Activation
) -> None:
    """Draw the weights of a dense or convolution layer anew and set its biases to zero.

    `torch` keeps what torch drew, biases too, and multiplies the weights by the gain.

    Args:
        layer: The layer to change in place.
        init: `default` is `kaiming` before the relu family, `xavier` before the rest; `keras` is
            Glorot's uniform (`xavier` with gain 1).
        gain: Factor of the weights, > 0; for `normal` their standard deviation. `None` is the
            gain that suits the activation (1 for `torch` and `keras`, 0.02 for `normal`).
        activation: What follows the layer; `identity` for an output.

    Source: Glorot and Bengio 2010 (xavier); He et al. 2015 (kaiming); Saxe et al. 2014.
    """
    if init == "torch":
        layer.weight.mul_(1.0 if gain is None else gain)
        return
    fill(layer.weight, init=init, gain=gain, activation=activation)
    if layer.bias is not None:
        layer.bias.zero_()


def fill(weight: Tensor, *, init: Init, gain: float | None, activation: Activation) -> None:
    """Draw one weight (outputs, inputs, *kernel) by any scheme but `torch`."""
    scheme = _scheme(init, activation)
    factor = _gain(init, activation) if gain is None else gain
    if scheme == "xavier":
        nn.init.xavier_uniform_(weight, gain=factor)
    elif scheme == "kaiming":
        bound = factor * math.sqrt(3 / weight[0].numel())
        nn.init.uniform_(weight, -bound, bound)
    elif scheme == "orthogonal":
        nn.init.orthogonal_(weight, gain=factor)
    else:
        nn.init.normal_(weight, std=factor)


def _scheme(init: Init, activation: Activation) -> Init:
    if init == "keras":
        return "xavier"
    if init == "default":
        return "xavier" if activation in _SATURATING else "kaiming"
    return init


def _gain(init: Init, activation: Activation) -> float:
    """Return the gain that keeps the variance of values through the activation."""
    if init == "normal":
        return NORMAL_DEVIATION
    if init == "keras" or activation in ("sigmoid", "identity"):
        return 1.0
    return 5 / 3 if activation == "tanh" else math.sqrt(2)
