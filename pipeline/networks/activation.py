"""Activation functions by name."""

from typing import Literal

from torch import nn

Activation = Literal[
    "relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"
]

_MODULES: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def build_activation(name: Activation) -> nn.Module:
    """Return the function as a module that works value by value, in any shape."""
    return _MODULES[name]()
