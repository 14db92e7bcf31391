"""Layers that the networks share: activation, norm, pooling, initial weights, dense layers.

The types at the top state the bounds of a network's parameters. `pipeline.config.targets` checks a
configuration against them; the networks do not check them again.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt, MaxLen
from torch import Tensor, nn
from torch.nn import functional

#: Most layers of a network; each takes time to build, however small it is.
MOST_LAYERS = 1000
Count = Annotated[int, Gt(0)]
Layers = Annotated[int, Gt(0), Le(MOST_LAYERS)]
Widths = Annotated[list[Count], MaxLen(MOST_LAYERS)]
Share = Annotated[float, Ge(0), Lt(1)]
Gain = Annotated[float, Gt(0)]
Activation = Literal[
    "relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"
]
Norm = Literal["none", "batch", "layer"]
Pool = Literal["none", "max", "avg", "learned", "global"]
Init = Literal["default", "torch", "keras", "xavier", "kaiming", "orthogonal", "normal"]

NORMAL_DEVIATION = 0.02

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
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
_SATURATING = ("tanh", "sigmoid", "identity")


# ── normalization ───────────────────────────────────────────────────────────────────────────


class _SingleValues(nn.Module):
    """Batch norm that uses its running statistics where a batch has one value per channel.

    One value has no variance: torch refuses it, and the last batch of an epoch may hold one row.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    weight: nn.Parameter
    bias: nn.Parameter
    eps: float

    def forward(self, values: Tensor) -> Tensor:
        """Normalize (batch, channels, *lengths)."""
        if self.training and values.numel() == values.shape[1]:
            return functional.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        normalized: Tensor = super().forward(values)
        return normalized


class _BatchNorm1d(_SingleValues, nn.BatchNorm1d):
    """`_SingleValues` for (batch, channels) or (batch, channels, length)."""


class _BatchNorm2d(_SingleValues, nn.BatchNorm2d):
    """`_SingleValues` for (batch, channels, height, width)."""


def build_norm(name: Norm, channels: int, *, dimensions: int) -> nn.Module | None:
    """Return the norm of a layer's values (batch, channels, *lengths), or `None` for no norm.

    The layer norm takes all channels and positions of a sample together, so that it works for any
    length. `dimensions` is the number of lengths.
    """
    if name == "none":
        return None
    if name == "layer":
        return nn.GroupNorm(1, channels) if dimensions else nn.LayerNorm(channels)
    return _BatchNorm2d(channels) if dimensions == 2 else _BatchNorm1d(channels)


# ── pooling ─────────────────────────────────────────────────────────────────────────────────


class LearnedPool(nn.Module):
    """Weighted average of each window, with weights that are learned.

    Each channel has one weight for each cell of the window, shared by all windows. A softmax makes
    the weights positive with sum 1; initially all are equal.

    Args:
        channels: Channels of the input.
        window: Size of the window in each direction, which is also its step. A remainder at the end
            is dropped, as by max and average pooling.
    """

    def __init__(self, channels: int, window: tuple[int, ...]) -> None:
        super().__init__()
        self.window = window
        self.logits = nn.Parameter(torch.zeros(channels, *window))

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, channels, *lengths) to (batch, channels, *(length // window))."""
        channels = self.logits.shape[0]
        weights = self.logits.flatten(start_dim=1).softmax(dim=1)  # (channels, cells)
        kernels = weights.view(channels, 1, *self.window)
        convolve = functional.conv1d if len(self.window) == 1 else functional.conv2d
        return convolve(values, kernels, stride=self.window, groups=channels)


def build_pool(name: Pool, channels: int, *, window: tuple[int, ...]) -> nn.Module:
    """Return `max`, `avg` or `learned` pooling with as many directions as the window."""
    if name == "learned":
        return LearnedPool(channels, window)
    if len(window) == 1:
        return nn.MaxPool1d(window[0]) if name == "max" else nn.AvgPool1d(window[0])
    shape = (window[0], window[1])
    return nn.MaxPool2d(shape) if name == "max" else nn.AvgPool2d(shape)


# ── initial weights ─────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def initialise(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d,
    *,
    init: Init,
    gain: float | None,
    activation: Activation,
) -> None:
    """Draw new weights of a dense or convolution layer in place, and set its biases to zero.

    `torch` keeps the weights and biases that torch drew, and multiplies the weights by the gain.

    Args:
        layer: The layer.
        init: `default` is `kaiming` before the relu family, `xavier` before the rest; `keras` is
            Glorot's uniform (`xavier` with gain 1).
        gain: Factor of the weights, > 0; for `normal`, their standard deviation. `None` = the gain
            that suits the activation (1 for `torch` and `keras`, 0.02 for `normal`).
        activation: Function after the layer; `identity` for an output.

    Source: Glorot and Bengio 2010 (xavier); He et al. 2015 (kaiming); Saxe et al. 2014.
    """
    if init == "torch":
        layer.weight.mul_(1.0 if gain is None else gain)
        return
    draw_weight(layer.weight, init=init, gain=gain, activation=activation)
    if layer.bias is not None:
        layer.bias.zero_()


def draw_weight(weight: Tensor, *, init: Init, gain: float | None, activation: Activation) -> None:
    """Draw one weight (outputs, inputs, *kernel) in place by any scheme but `torch`."""
    if init == "default":
        scheme: Init = "xavier" if activation in _SATURATING else "kaiming"
    else:
        scheme = "xavier" if init == "keras" else init
    if gain is not None:
        factor = gain
    elif init == "normal":
        factor = NORMAL_DEVIATION
    elif init == "keras" or activation in ("sigmoid", "identity"):
        factor = 1.0
    else:  # the gain that keeps the variance of values through the activation
        factor = 5 / 3 if activation == "tanh" else math.sqrt(2)
    if scheme == "xavier":
        nn.init.xavier_uniform_(weight, gain=factor)
    elif scheme == "kaiming":
        bound = factor * math.sqrt(3 / weight[0].numel())
        nn.init.uniform_(weight, -bound, bound)
    elif scheme == "orthogonal":
        nn.init.orthogonal_(weight, gain=factor)
    else:
        nn.init.normal_(weight, std=factor)


# ── layers ──────────────────────────────────────────────────────────────────────────────────


class Skip(nn.Module):
    """Adds the input (batch, width) of a layer to its output of the same shape (He et al. 2016)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        """Return x + layer(x), (batch, width)."""
        outputs: Tensor = values + self.layer(values)
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStyle:
    """Parameters that all hidden layers of a network share; `_CNN` and `MLP` describe them."""

    activation: Activation
    norm: Norm
    dropout: float
    init: Init
    gain: float | None

    @property
    def has_bias(self) -> bool:
        """Whether weights have a bias; batch norm would subtract it again with the mean."""
        return self.norm != "batch"

    def layer(
        self, weights: dict[str, nn.Module], channels: int, *, lengths: int, pool: nn.Module | None
    ) -> nn.Sequential:
        """Return the modules `weights`, followed by `norm`, `activation`, `pool` and `dropout`.

        `channels` and `lengths`, the number of lengths, are those of their output (batch, channels,
        *lengths).
        """
        return compose_layer(
            **weights,
            norm=build_norm(self.norm, channels, dimensions=lengths),
            activation=_ACTIVATIONS[self.activation](),
            pool=pool,
            dropout=nn.Dropout(self.dropout) if self.dropout else None,
        )

    def dense(self, widths: Sequence[int], *, skip: bool = False) -> nn.Sequential:
        """Return dense layers `layer1`, … from `widths[0]` inputs to `widths[-1]` values."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (inputs, width) in enumerate(pairwise(widths), start=1):
            linear = nn.Linear(inputs, width, bias=self.has_bias)
            initialise(linear, init=self.init, gain=self.gain, activation=self.activation)
            layer = self.layer({"linear": linear}, width, lengths=0, pool=None)
            layers[f"layer{number}"] = Skip(layer) if skip and inputs == width else layer
        return nn.Sequential(layers)


def output_layer(inputs: int, outputs: int, *, init: Init, gain: float | None) -> nn.Linear:
    """Return the last linear map, which has no activation."""
    head = nn.Linear(inputs, outputs)
    initialise(head, init=init, gain=gain, activation="identity")
    return head


def compose_layer(**parts: nn.Module | None) -> nn.Sequential:
    """Return the parts that are not `None`, in order and under their names."""
    return nn.Sequential(
        OrderedDict((name, part) for name, part in parts.items() if part is not None)
    )
