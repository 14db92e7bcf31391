"""Convolutional networks in one and two dimensions, which share one implementation.

One rule applies to every size (`kernel_size`, `stride`, `padding`, `dilation`, `pool_size`). A
number holds for all layers and directions. A flat list of as many numbers as there are directions
is a shape (`[1,5]` in 2-D: 1 high, 5 wide) for all layers. Any other list has one entry per layer,
each a number or a shape. Several kernel shapes in one layer are written
`{shapes:[[1,5],[5,1],3]}`, for all layers or as the entry of one layer.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeGuard

import torch
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from torch import Tensor, nn

from pipeline.base.errors import ConfigError
from pipeline.networks import layers as common
from pipeline.networks.layers import (
    MOST_LAYERS,
    Activation,
    Count,
    Gain,
    Init,
    LayerStyle,
    Norm,
    Pool,
    Share,
    Widths,
)

Lengths = tuple[int, ...]
Mixing = Literal["full", "weighted"]
#: Longest kernel, window, step, distance of cells or margin.
LONGEST = 10_000
#: Most values of one sample after a layer, 4 GiB: no number of weights bounds them.
MOST_VALUES = 2**30
Size = Annotated[int, Gt(0), Le(LONGEST)]
Sizes = Size | list[Size | list[Size]]
Shapes = dict[Literal["shapes"], list[Size | list[Size]]]
KernelSizes = Size | Shapes | list[Size | list[Size] | Shapes]
Margin = Annotated[int, Ge(0), Le(LONGEST)]
Paddings = Literal["same"] | Margin | list[Literal["same"] | Margin | list[Margin]]


class _CNN(nn.Module):
    """Convolution layers, then dense layers, then the outputs.

    `layers` holds `layer1`, `layer2`, …, each with its parts by name: `convolution`, `norm`,
    `activation`, `pool`, `dropout`.

    Args:
        input_shape: Shape of one sample.
        outputs: Values or logits per sample.
        channels: Output channels of each layer, >= 1; the length is the number of layers.
        kernel_size: Length or shape of the kernels, >= 1, at most the length of their input.
        stride: Step of the kernels, >= 1.
        padding: Zeros on each side, >= 0; `same` gives an output length of ceil(length / stride).
        dilation: Distance between the cells of a kernel, >= 1.
        pool: Pooling after each layer: `max`, `avg`, `learned` (an average with learned weights) or
            `none`; `global` takes the mean over all positions once, after all layers.
        pool_size: Window and step of the pooling, >= 1; ignored for `none` and `global`.
        mixing: `full`: one kernel for each pair of channels. `weighted`: one kernel for each output
            channel and one weight for each pair.
        hidden: Width of each dense layer before the output, >= 1; [] for none.
        activation: Function after each layer.
        norm: Normalization of a layer's values before its activation.
        dropout: Share of a layer's values that are zeroed in training, 0 <= dropout < 1.
        init: Scheme of the initial weights.
        gain: Factor of the initial weights, > 0; `None` = the gain that suits the activation.

    Raises:
        ConfigError: A size does not fit the input's shape, the number of layers or the channels.
    """

    takes: ClassVar[tuple[str, ...]]
    dimensions: ClassVar[int]

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        channels: Annotated[list[Count], MinLen(1), MaxLen(MOST_LAYERS)],
        kernel_size: KernelSizes,
        stride: Sizes,
        padding: Paddings,
        dilation: Sizes,
        pool: Pool,
        pool_size: Sizes,
        mixing: Mixing,
        hidden: Widths,
        activation: Activation,
        norm: Norm,
        dropout: Share,
        init: Init,
        gain: Gain | None,
    ) -> None:
        super().__init__()
        sizes = read_layers(
            layers=len(channels),
            dimensions=self.dimensions,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            pool_size=None if pool in ("none", "global") else pool_size,
        )
        inputs, *sample_lengths = self.as_channels(torch.empty(1, *input_shape)).shape[1:]
        lengths = [tuple(sample_lengths)]  # before the first layer, then after each
        for number, (count, layer) in enumerate(zip(channels, sizes, strict=True), start=1):
            lengths.append(layer.output_lengths(lengths[-1], number=number, channels=count))
        style = LayerStyle(activation=activation, norm=norm, dropout=dropout, init=init, gain=gain)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        described = zip(channels, sizes, lengths[:-1], strict=True)
        for number, (count, layer, before) in enumerate(described, start=1):
            if count < len(layer.shapes):
                raise ConfigError(
                    f"model.channels={_as_typed(list(channels))} has {count} in layer {number}; "
                    f"expected at least {len(layer.shapes)}, one per kernel shape"
                )
            convolution = layer.convolution(inputs, count, before, mixing=mixing, style=style)
            pooling = common.build_pool(pool, count, window=layer.pool) if layer.pool else None
            layers[f"layer{number}"] = style.layer(
                {"convolution": convolution}, count, lengths=self.dimensions, pool=pooling
            )
            inputs = count
        self.layers = nn.Sequential(layers)
        self.averages = pool == "global"
        positions = 1 if self.averages else math.prod(lengths[-1])
        widths = [channels[-1] * positions, *hidden]
        self.dense = style.dense(widths)
        self.head = common.output_layer(widths[-1], outputs, init=init, gain=gain)

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
    """Convolutions along the steps of a series or along the columns of a table.

    The features of a series are its channels; a table has one channel.
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


# ── layers ──────────────────────────────────────────────────────────────────────────────────


class Concatenation(nn.Module):
    """Several layers side by side over the same input, their output channels joined."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.shapes = nn.ModuleList(layers)

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, inputs, *lengths) to (batch, all channels, *lengths)."""
        return torch.cat([layer(values) for layer in self.shapes], dim=1)


# ── sizes ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSizes:
    """The sizes of one convolution layer, each with one number per direction.

    Args:
        shapes: Kernel shapes, one or several.
        stride: Step of the kernels, >= 1.
        padding: Zeros on both sides; `None` = as many as give ceil(length / stride).
        dilation: Distance between the cells of a kernel, >= 1.
        pool: Window and step of the pooling; `None` = no pooling.
    """

    shapes: list[Lengths]
    stride: Lengths
    padding: Lengths | None
    dilation: Lengths
    pool: Lengths | None

    def margins(self, shape: Lengths, lengths: Lengths) -> list[tuple[int, int]]:
        """Return the zeros before and after the input in each direction.

        If their number is odd, the additional zero comes after the input.
        """
        if self.padding is not None:
            return [(zeros, zeros) for zeros in self.padding]
        directions = zip(lengths, self._spans(shape), self.stride, strict=True)
        margins = []
        for length, span, step in directions:
            outputs = -(-length // step)
            zeros = max((outputs - 1) * step + span - length, 0)
            margins.append((zeros // 2, zeros - zeros // 2))
        return margins

    def output_lengths(self, lengths: Lengths, *, number: int, channels: int) -> Lengths:
        """Return the output lengths of layer `number` after pooling, from its input lengths.

        Raises:
            ConfigError: A kernel or a window is longer than its input, the kernel shapes give
                outputs of different lengths, or the output is too large.
        """
        outputs: dict[Lengths, None] = {}
        padding = self.padding or (0,) * len(lengths)
        for shape in self.shapes:
            spans = self._spans(shape)
            for length, span, zeros in zip(lengths, spans, padding, strict=True):
                if span > length + 2 * zeros:
                    dilated = f" (model.dilation={_short(self.dilation)})" if spans != shape else ""
                    raise ConfigError(
                        f"model.kernel_size={_short(shape)} does not fit layer {number}: it "
                        f"covers {span} values{dilated}, but the input length is {length}; "
                        "expected a smaller kernel, stride or pooling, or fewer layers"
                    )
            directions = zip(lengths, self.margins(shape, lengths), spans, self.stride, strict=True)
            output = []
            for length, margin, span, step in directions:
                output.append((length + sum(margin) - span) // step + 1)
            outputs[tuple(output)] = None
        if len(outputs) > 1:
            raise ConfigError(
                f"model.padding={_short(self.padding)} gives outputs of different lengths in layer "
                f"{number}, {' and '.join(map(_short, outputs))}; expected "
                "model.padding=same"
            )
        (convolved,) = outputs
        values = channels * math.prod(convolved)
        if values > MOST_VALUES:
            raise ConfigError(
                f"layer {number} has {values} values per sample ({channels} channels of shape "
                f"{_as_typed(list(convolved))}); expected at most {MOST_VALUES}: fewer "
                "model.channels, a smaller model.padding or a larger model.stride"
            )
        if self.pool is None:
            return convolved
        pooled = [*zip(convolved, self.pool, strict=True)]
        for length, size in pooled:
            if size > length:
                raise ConfigError(
                    f"model.pool_size={_short(self.pool)} does not fit layer {number}: the input "
                    f"length is {length}; expected a smaller window or stride, fewer layers, or "
                    "model.pool=global"
                )
        return tuple(length // size for length, size in pooled)

    def convolution(
        self, inputs: int, channels: int, lengths: Lengths, *, mixing: Mixing, style: LayerStyle
    ) -> nn.Module:
        """Return the convolution of a layer.

        Several kernel shapes share the output channels as evenly as possible, and their outputs are
        concatenated. Each branch has the parts `mixing` (a 1×1 convolution without bias, only for
        weighted mixing), `padding` (only if uneven) and `kernel`. As usual in deep learning, the
        kernel is not flipped: w'[i, j] = sum over x, y of w[i + x, j + y] c[x, y].
        """
        is_flat = len(lengths) == 1
        is_weighted = mixing == "weighted"
        convolve: Callable[..., nn.Module] = nn.Conv1d if is_flat else nn.Conv2d
        branches = []
        for number, shape in enumerate(self.shapes):
            share, remainder = divmod(channels, len(self.shapes))
            if number < remainder:
                share += 1
            margins = self.margins(shape, lengths)
            # Number of zeros at the end beyond those at the beginning.
            height, width = ([0] + [after - before for before, after in margins])[-2:]
            zeros = nn.ZeroPad1d((0, width)) if is_flat else nn.ZeroPad2d((0, width, 0, height))
            sizes = (shape, self.stride, tuple(before for before, _ in margins), self.dilation)
            branch_inputs = share if is_weighted else inputs
            groups = share if is_weighted else 1
            branch = common.compose_layer(
                mixing=convolve(inputs, share, 1, bias=False) if is_weighted else None,
                padding=zeros if height or width else None,
                kernel=convolve(branch_inputs, share, *sizes, groups=groups, bias=style.has_bias),
            )
            branches.append(branch)
        convolution = branches[0] if len(branches) == 1 else Concatenation(branches)
        for name, layer in convolution.named_modules():
            if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
                # No activation follows the mixing, only the next convolution.
                following: Activation = "identity" if name.endswith("mixing") else style.activation
                common.initialise(layer, init=style.init, gain=style.gain, activation=following)
        return convolution

    def _spans(self, shape: Lengths) -> Lengths:
        """Return the extent of a dilated kernel in each direction."""
        return tuple((size - 1) * gap + 1 for size, gap in zip(shape, self.dilation, strict=True))


def read_layers(*, layers: int, dimensions: int, **parameters: object) -> list[LayerSizes]:
    """Return the sizes of each of a network's `layers` layers with `dimensions` directions.

    `parameters` are `kernel_size`, `stride`, `padding`, `dilation` and `pool_size`, in this order;
    the last is `None` if there is no pooling.

    Raises:
        ConfigError: A list has neither one entry per layer nor the form of a shape, or there are
            too many kernel shapes.
    """
    readers = [_Reader(key, value, dimensions) for key, value in parameters.items()]
    kernels, strides, paddings, dilations, pools = readers
    entries = [reader.entries(layers) for reader in readers]
    sizes = []
    for kernel, step, zeros, gap, window in zip(*entries, strict=True):
        layer = LayerSizes(
            shapes=kernels.shapes(kernel),
            stride=strides.shape(step),
            padding=None if zeros == "same" else paddings.shape(zeros),
            dilation=dilations.shape(gap),
            pool=None if window is None else pools.shape(window),
        )
        sizes.append(layer)
    convolutions = sum(len(layer.shapes) for layer in sizes)
    if convolutions > MOST_LAYERS:
        raise ConfigError(
            f"model.kernel_size gives {convolutions} convolutions in {layers} layers; expected at "
            f"most {MOST_LAYERS}"
        )
    return sizes


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one parameter; messages contain its key and its whole value."""

    key: str
    value: object
    dimensions: int

    def entries(self, layers: int) -> list[object]:
        """Return one entry per layer."""
        value = self.value
        if not _is_list(value) or self._is_shape(value):
            return [value] * layers
        if len(value) != layers:
            raise ConfigError(
                f"{self._option} has {len(value)} entries for {layers} layers; expected one "
                f"per layer, or a single {self._form} for all layers"
            )
        return list(value)

    def shape(self, entry: object) -> Lengths:
        """Return an entry as a size in each direction."""
        sizes = [entry] * self.dimensions if _is_whole(entry) else entry
        if not self._is_shape(sizes):
            raise ConfigError(f"{self._option} holds {_as_typed(entry)}; expected a {self._form}")
        return tuple(sizes)

    def shapes(self, entry: object) -> list[Lengths]:
        """Return an entry as one or several shapes."""
        if not isinstance(entry, Mapping):
            return [self.shape(entry)]
        shapes = entry.get("shapes")
        if len(entry) != 1 or not _is_list(shapes) or not shapes:
            raise ConfigError(
                f"{self._option} is ambiguous; write several shapes in one layer as "
                "{shapes:[3,5]}"
            )
        sizes = [self.shape(shape) for shape in shapes]
        # The check of the configuration does not look into mappings.
        if min(map(min, sizes)) < 1:
            raise ConfigError(f"{self._option} is too small; expected numbers of at least 1")
        if max(map(max, sizes)) > LONGEST:
            raise ConfigError(f"{self._option} is too large; expected numbers of at most {LONGEST}")
        return sizes

    def _is_shape(self, value: object) -> TypeGuard[Sequence[int]]:
        return _is_list(value) and len(value) == self.dimensions and all(map(_is_whole, value))

    @property
    def _option(self) -> str:
        return f"model.{self.key}={_as_typed(self.value)}"

    @property
    def _form(self) -> str:
        return "number" if self.dimensions == 1 else "number or [height,width]"


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _as_typed(value: object) -> str:
    """Return a value as a user types it on the command line, without spaces and quotes."""
    return str(value).replace(" ", "").replace("'", "")


def _short(sizes: Lengths | None) -> str:
    """Return sizes as a user types them: one number if all are equal."""
    if sizes is None:
        return "same"
    return str(sizes[0]) if len(set(sizes)) == 1 else _as_typed(list(sizes))
