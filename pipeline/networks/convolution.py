"""Convolutional networks in one and two directions, which share one implementation."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.networks.activation import Activation
from pipeline.networks.bounds import (
    Count,
    Gain,
    Share,
    require_choice,
    require_counts,
    require_dropout,
)
from pipeline.networks.convolution_layer import LayerStyle, Mixing, convolution_layers
from pipeline.networks.dense import dense_layers, output_layer
from pipeline.networks.geometry import KernelSizes, Paddings, Sizes, read_layers
from pipeline.networks.initialisation import Init
from pipeline.networks.inputs import require_kind
from pipeline.networks.normalisation import Norm
from pipeline.networks.plan import plan_layers
from pipeline.networks.pooling import WINDOWED, Pool


class _CNN(nn.Module):
    """Convolution layers, then dense layers, then the outputs.

    `layers` holds `layer1`, `layer2`, …, each with its parts by name: `convolution`, `norm`,
    `activation`, `pool`, `dropout`. How sizes are written says `pipeline.networks.geometry`.

    Args:
        input_shape: Shape of one sample.
        outputs: Values or logits per sample.
        channels: Output channels of each layer, >= 1; as many layers as numbers.
        kernel_size: Length or shape of the kernels, >= 1, at most the length of their input.
        stride: Step of the kernels, >= 1.
        padding: Zeros on each side, >= 0; `same` gives ceil(length / stride).
        dilation: Distance between the cells of a kernel, >= 1.
        pool: What shrinks a layer's output: `max`, `avg`, `learned` (an average with learned
            weights), `none`; `global` takes the mean over all positions once, after all layers.
        pool_size: Window and step of the pooling, >= 1; `none` and `global` do not read it.
        mixing: `full`: a kernel for each pair of channels. `weighted`: a kernel for each output
            channel and a weight for each pair.
        hidden: Width of each dense layer before the output, >= 1; [] for none.
        activation: Function after each layer.
        norm: What normalises a layer's values before its activation.
        dropout: Share of a layer's values that are zeroed in training, 0 <= dropout < 1.
        init: How the first weights are drawn.
        gain: Factor of the first weights, > 0; `None` suits the activation.

    Raises:
        ConfigError: A parameter is out of range or does not fit the input's shape.
    """

    takes: ClassVar[tuple[str, ...]]
    dimensions: ClassVar[int]

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        channels: Annotated[list[Count], MinLen(1)],
        kernel_size: KernelSizes,
        stride: Sizes,
        padding: Paddings,
        dilation: Sizes,
        pool: Pool,
        pool_size: Sizes,
        mixing: Mixing,
        hidden: list[Count],
        activation: Activation,
        norm: Norm,
        dropout: Share,
        init: Init,
        gain: Gain | None,
    ) -> None:
        super().__init__()
        require_kind(type(self).__name__.lower(), self.takes, input_shape)
        require_counts("channels", channels)
        if not channels:
            raise ConfigError("model.channels=[] has no layer; expected one or more")
        require_counts("hidden", hidden)
        require_dropout(dropout)
        require_choice("pool", pool, Pool)
        require_choice("mixing", mixing, Mixing)
        require_choice("activation", activation, Activation)
        require_choice("norm", norm, Norm)
        require_choice("init", init, Init)
        sizes = read_layers(
            layers=len(channels),
            dimensions=self.dimensions,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            pool_size=pool_size if pool in WINDOWED else None,
        )
        inputs, *lengths = self.as_channels(torch.empty(1, *input_shape)).shape[1:]
        plans = plan_layers(tuple(lengths), sizes)
        style = LayerStyle(
            mixing=mixing,
            activation=activation,
            norm=norm,
            pool=pool,
            dropout=dropout,
            init=init,
            gain=gain,
        )
        self.layers = convolution_layers(inputs, channels, plans=plans, style=style)
        self.averages = pool == "global"
        positions = 1 if self.averages else math.prod(plans[-1].lengths)
        widths = [channels[-1] * positions, *hidden]
        self.dense = dense_layers(
            widths,
            activation=activation,
            norm=norm,
            dropout=dropout,
            skip=False,
            init=init,
            gain=gain,
        )
        self.head = output_layer(widths[-1], outputs, init=init, gain=gain)

    def as_channels(self, samples: Tensor) -> Tensor:
        """Return samples (batch, *input_shape) as (batch, channels, *lengths)."""
        raise NotImplementedError

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, *input_shape) to values or logits (batch, outputs)."""
        maps = self.layers(self.as_channels(samples))  # (batch, channels, *lengths)
        values = maps.flatten(start_dim=2).mean(dim=2) if self.averages else maps.flatten(1)
        outputs: Tensor = self.head(self.dense(values))
        return outputs


class CNN1d(_CNN):
    """Convolutions along the steps of a series, or along the variables of a table.

    A row of a table is read as a sequence of its variables, in one channel. In a series each
    feature is a channel.
    """

    takes = ("table", "series")
    dimensions = 1

    def as_channels(self, samples: Tensor) -> Tensor:
        """Return (batch, features) or (batch, steps, features) as (batch, channels, length)."""
        return samples.unsqueeze(1) if samples.dim() == 2 else samples.transpose(1, 2)


class CNN2d(_CNN):
    """Convolutions over the height and the width of images."""

    takes = ("images",)
    dimensions = 2

    def as_channels(self, samples: Tensor) -> Tensor:
        """Return images (batch, channels, height, width) as they are."""
        return samples
