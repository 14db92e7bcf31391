"""One layer of a convolutional network: kernels of one or several shapes, and what follows them."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.networks.activation import Activation, build_activation
from pipeline.networks.bounds import as_typed
from pipeline.networks.dense import compose_layer
from pipeline.networks.initialisation import Init, initialise
from pipeline.networks.normalisation import Norm, build_channel_norm
from pipeline.networks.plan import Kernel, LayerPlan
from pipeline.networks.pooling import Pool, build_pool

Mixing = Literal["full", "weighted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStyle:
    """What all layers of a network have in common, as the network's parameters of these names."""

    mixing: Mixing
    activation: Activation
    norm: Norm
    pool: Pool
    dropout: float
    init: Init
    gain: float | None


def convolution_layers(
    inputs: int, channels: Sequence[int], *, plans: Sequence[LayerPlan], style: LayerStyle
) -> nn.Sequential:
    """Return the layers `layer1`, `layer2`, … of a network, one a plan.

    Raises:
        ConfigError: A layer has fewer channels than kernel shapes.
    """
    for number, (count, plan) in enumerate(zip(channels, plans, strict=True), start=1):
        if count < len(plan.kernels):
            raise ConfigError(
                f"model.channels={as_typed(list(channels))} has {count} in layer {number}; "
                f"expected at least {len(plan.kernels)}, one for each shape of its kernels"
            )
    widths = zip([inputs, *channels], channels, plans, strict=False)
    return nn.Sequential(
        OrderedDict(
            (f"layer{number}", _convolution_layer(before, after, plan=plan, style=style))
            for number, (before, after, plan) in enumerate(widths, start=1)
        )
    )


def build_convolution(
    inputs: int, channels: int, *, plan: LayerPlan, mixing: Mixing, bias: bool
) -> nn.Module:
    """Return kernels slid over their input: w'[i, j] = sum over x, y of w[i + x, j + y] c[x, y].

    As everywhere in this field, the kernel is not flipped. Several shapes share the output
    channels as evenly as they can, the first ones taking what is left over, and their outputs
    are concatenated.

    Args:
        inputs: Channels of the input (Ci).
        channels: Channels of the output (Co), at least one a shape.
        plan: Shapes, stride, dilation and the zeros around.
        mixing: `full` has a kernel for each pair of channels, as torch. `weighted` has one
            kernel for each output channel and one weight for each pair: a 1×1 convolution
            without bias, then each channel's own kernel.
        bias: Whether a learned number is added to each output channel.
    """
    shapes = len(plan.kernels)
    shares = [channels // shapes + (number < channels % shapes) for number in range(shapes)]
    branches = [
        _build_branch(inputs, share, kernel=kernel, mixing=mixing, bias=bias)
        for share, kernel in zip(shares, plan.kernels, strict=True)
    ]
    return branches[0] if shapes == 1 else Concatenation(branches)


class Concatenation(nn.Module):
    """Several layers side by side over the same input, their output channels joined."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.shapes = nn.ModuleList(layers)

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, inputs, *lengths) to (batch, all channels, *lengths)."""
        return torch.cat([layer(values) for layer in self.shapes], dim=1)


def _convolution_layer(
    inputs: int, channels: int, *, plan: LayerPlan, style: LayerStyle
) -> nn.Sequential:
    """Return `convolution`, `norm`, `activation`, `pool` and `dropout`, those that are there."""
    # Batch norm takes the mean away again, and a bias with it.
    bias = style.norm != "batch"
    convolution = build_convolution(inputs, channels, plan=plan, mixing=style.mixing, bias=bias)
    _initialise(convolution, style)
    return compose_layer(
        convolution=convolution,
        norm=build_channel_norm(style.norm, channels, dimensions=len(plan.lengths)),
        activation=build_activation(style.activation),
        pool=build_pool(style.pool, channels, window=plan.pool) if plan.pool else None,
        dropout=nn.Dropout(style.dropout) if style.dropout else None,
    )


def _build_branch(
    inputs: int, channels: int, *, kernel: Kernel, mixing: Mixing, bias: bool
) -> nn.Sequential:
    """Return `mixing` (where weighted), `padding` (where uneven) and `kernel`."""
    if mixing == "full":
        return compose_layer(
            padding=_uneven_zeros(kernel), kernel=_convolve(inputs, channels, kernel, bias=bias)
        )
    return compose_layer(
        mixing=_convolve(inputs, channels, kernel.pointwise(), bias=False),
        padding=_uneven_zeros(kernel),
        kernel=_convolve(channels, channels, kernel, groups=channels, bias=bias),
    )


def _convolve(
    inputs: int, outputs: int, kernel: Kernel, *, groups: int = 1, bias: bool
) -> nn.Conv1d | nn.Conv2d:
    """Return torch's convolution in as many directions as the kernel has."""
    margins = tuple(before for before, _ in kernel.margins)
    numbers = zip(kernel.shape, kernel.stride, margins, kernel.dilation, strict=True)
    if len(kernel.shape) == 1:
        ((size, stride, zeros, gap),) = numbers
        return nn.Conv1d(inputs, outputs, size, stride, zeros, gap, groups=groups, bias=bias)
    shape, strides, padding, gaps = zip(*numbers, strict=True)
    return nn.Conv2d(inputs, outputs, shape, strides, padding, gaps, groups=groups, bias=bias)


def _uneven_zeros(kernel: Kernel) -> nn.Module | None:
    """Return the zeros at each end that are more than those at its beginning, if any."""
    more = [after - before for before, after in kernel.margins]
    if not any(more):
        return None
    return nn.ZeroPad1d((0, more[0])) if len(more) == 1 else nn.ZeroPad2d((0, more[1], 0, more[0]))


def _initialise(convolution: nn.Module, style: LayerStyle) -> None:
    for name, layer in convolution.named_modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            # No activation follows the mixing, only the next convolution.
            activation = "identity" if name.endswith("mixing") else style.activation
            initialise(layer, init=style.init, gain=style.gain, activation=activation)
