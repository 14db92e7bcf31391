"""Layers that the networks share: activation, norm, pooling, first weights, dense layers.

The types at the top state the bounds of a network's parameters. A configuration is checked
against them before a network is built (`pipeline.config.targets`); nothing checks them again.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn import functional

Count = Annotated[int, Gt(0)]
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


def build_activation(name: Activation) -> nn.Module:
    """Return the function as a module that works value by value, in any shape."""
    return _ACTIVATIONS[name]()


# ── normalisation ───────────────────────────────────────────────────────────────────────────


class _BatchNorm1d(nn.BatchNorm1d):
    """Batch norm that uses its running statistics where a batch has one value per channel."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (batch, channels) or (batch, channels, length)."""
        if self.training and values.numel() == values.shape[1]:
            return _by_running_statistics(self, values)
        return super().forward(values)


class _BatchNorm2d(nn.BatchNorm2d):
    """The same for (batch, channels, height, width)."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        if self.training and values.numel() == values.shape[1]:
            return _by_running_statistics(self, values)
        return super().forward(values)


def _by_running_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    # One value has no variance: torch refuses it, and the last batch of an epoch may hold one row.
    return functional.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )


def build_dense_norm(name: Norm, width: int) -> nn.Module | None:
    """Return the norm of a dense layer's values (batch, width), or `None` for none."""
    if name == "none":
        return None
    return _BatchNorm1d(width) if name == "batch" else nn.LayerNorm(width)


def build_channel_norm(name: Norm, channels: int, *, dimensions: int) -> nn.Module | None:
    """Return the norm of a convolution's values (batch, channels, *lengths), or `None` for none.

    The layer norm takes all channels and positions of one sample together (a group norm of one
    group), so it works for any length.
    """
    if name == "none":
        return None
    if name == "layer":
        return nn.GroupNorm(1, channels)
    return _BatchNorm1d(channels) if dimensions == 1 else _BatchNorm2d(channels)


# ── pooling ─────────────────────────────────────────────────────────────────────────────────


class LearnedPool(nn.Module):
    """Weighted average of each window, with weights that are learned.

    Each channel has one weight for each cell of the window, the same in all windows. A softmax
    makes them positive with sum 1, so that the result stays an average; at first all are equal.

    Args:
        channels: Channels of the input.
        window: Size of the window in each direction, which is also its step. What is left over
            at the end is dropped, as by max and average pooling.
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
    """Return `max`, `avg` or `learned` pooling in as many directions as its window."""
    if name == "learned":
        return LearnedPool(channels, window)
    if len(window) == 1:
        return nn.MaxPool1d(window[0]) if name == "max" else nn.AvgPool1d(window[0])
    shape = (window[0], window[1])
    return nn.MaxPool2d(shape) if name == "max" else nn.AvgPool2d(shape)


# ── first weights ───────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def initialise(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d,
    *,
    init: Init,
    gain: float | None,
    activation: Activation,
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
    draw_weight(layer.weight, init=init, gain=gain, activation=activation)
    if layer.bias is not None:
        layer.bias.zero_()


def draw_weight(weight: Tensor, *, init: Init, gain: float | None, activation: Activation) -> None:
    """Draw one weight (outputs, inputs, *kernel) by any scheme but `torch`."""
    if init == "default":
        scheme: Init = "xavier" if activation in _SATURATING else "kaiming"
    else:
        scheme = "xavier" if init == "keras" else init
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


def _gain(init: Init, activation: Activation) -> float:
    """Return the gain that keeps the variance of values through the activation."""
    if init == "normal":
        return NORMAL_DEVIATION
    if init == "keras" or activation in ("sigmoid", "identity"):
        return 1.0
    return 5 / 3 if activation == "tanh" else math.sqrt(2)


# ── dense layers ────────────────────────────────────────────────────────────────────────────


class Skip(nn.Module):
    """Adds the input of a layer to its output.

    Args:
        layer: Maps (batch, width) to (batch, width).

    Source: He et al. 2016, over one layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        """Return x + layer(x), (batch, width)."""
        outputs: Tensor = values + self.layer(values)
        return outputs


def dense_layers(
    widths: Sequence[int],
    *,
    activation: Activation,
    norm: Norm,
    dropout: float,
    skip: bool,
    init: Init,
    gain: float | None,
) -> nn.Sequential:
    """Return hidden layers `layer1`, `layer2`, … from `widths[0]` inputs to `widths[-1]` values."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, width) in enumerate(pairwise(widths), start=1):
        # Batch norm takes the mean away again, and a bias with it.
        linear = nn.Linear(inputs, width, bias=norm != "batch")
        initialise(linear, init=init, gain=gain, activation=activation)
        layer = compose_layer(
            linear=linear,
            norm=build_dense_norm(norm, width),
            activation=build_activation(activation),
            dropout=nn.Dropout(dropout) if dropout else None,
        )
        layers[f"layer{number}"] = Skip(layer) if skip and inputs == width else layer
    return nn.Sequential(layers)


def output_layer(inputs: int, outputs: int, *, init: Init, gain: float | None) -> nn.Linear:
    """Return the last linear map, which no activation follows."""
    head = nn.Linear(inputs, outputs)
    initialise(head, init=init, gain=gain, activation="identity")
    return head


def compose_layer(**parts: nn.Module | None) -> nn.Sequential:
    """Return the parts that are not `None`, in order and under their names."""
    return nn.Sequential(
        OrderedDict((name, part) for name, part in parts.items() if part is not None)
    )
