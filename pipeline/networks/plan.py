"""What kernels, strides, paddings and pooling make of a length, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.networks.bounds import as_typed
from pipeline.networks.geometry import LayerSizes, Lengths

Margins = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """How kernels of one shape are slid, with one number for each direction.

    Args:
        shape: Size.
        stride: Step.
        dilation: Distance between cells.
        margins: Zeros before and after the input, never fewer after than before.
    """

    shape: Lengths
    stride: Lengths
    dilation: Lengths
    margins: Margins

    @property
    def spans(self) -> Lengths:
        """How far the kernel reaches."""
        return spans_of(self.shape, self.dilation)

    def pointwise(self) -> "Kernel":
        """Return a kernel of one cell that visits each position."""
        ones = (1,) * len(self.shape)
        return Kernel(shape=ones, stride=ones, dilation=ones, margins=((0, 0),) * len(ones))

    def convolved(self, lengths: Lengths) -> Lengths:
        """Return the lengths of the output."""
        return tuple(
            (length + sum(margin) - span) // step + 1
            for length, margin, span, step in zip(
                lengths, self.margins, self.spans, self.stride, strict=True
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """One convolution layer that fits its input.

    Args:
        kernels: One for each shape.
        pool: Window of the pooling; `None` for no pooling.
        lengths: Length of the output in each direction, after pooling.
    """

    kernels: list[Kernel]
    pool: Lengths | None
    lengths: Lengths


def plan_layers(lengths: Lengths, layers: Sequence[LayerSizes]) -> list[LayerPlan]:
    """Follow the lengths of one sample through all layers.

    Raises:
        ConfigError: A kernel or a pooling window is longer than what it meets, or the shapes of
            one layer give different lengths; with the layer's number and the length there.
    """
    plans: list[LayerPlan] = []
    for number, sizes in enumerate(layers, start=1):
        plans.append(_plan_layer(number, lengths, sizes))
        lengths = plans[-1].lengths
    return plans


def spans_of(shape: Lengths, dilation: Lengths) -> Lengths:
    """Return how far a kernel reaches in each direction."""
    return tuple((size - 1) * gap + 1 for size, gap in zip(shape, dilation, strict=True))


def _plan_layer(number: int, lengths: Lengths, sizes: LayerSizes) -> LayerPlan:
    kernels = [_plan_kernel(number, lengths, shape, sizes) for shape in sizes.shapes]
    outputs = {kernel.convolved(lengths): None for kernel in kernels}
    if len(outputs) > 1:
        raise ConfigError(
            f"model.padding={_short(sizes.padding)} gives the shapes in layer {number} outputs "
            f"of different lengths, {' and '.join(map(_short, outputs))}; expected "
            "model.padding=same"
        )
    (convolved,) = outputs
    pooled = _pooled(number, convolved, sizes.pool)
    return LayerPlan(kernels=kernels, pool=sizes.pool, lengths=pooled)


def _plan_kernel(number: int, lengths: Lengths, shape: Lengths, sizes: LayerSizes) -> Kernel:
    _require_room(number, lengths, shape, sizes)
    if sizes.padding is None:
        spans = spans_of(shape, sizes.dilation)
        directions = zip(lengths, spans, sizes.stride, strict=True)
        margins = tuple(_same_margins(*direction) for direction in directions)
    else:
        margins = tuple((zeros, zeros) for zeros in sizes.padding)
    return Kernel(shape=shape, stride=sizes.stride, dilation=sizes.dilation, margins=margins)


def _same_margins(length: int, span: int, stride: int) -> tuple[int, int]:
    """Return the zeros that give ceil(length / stride); where odd, the one more comes after."""
    zeros = max((-(-length // stride) - 1) * stride + span - length, 0)
    return zeros // 2, zeros - zeros // 2


def _require_room(number: int, lengths: Lengths, shape: Lengths, sizes: LayerSizes) -> None:
    spans = spans_of(shape, sizes.dilation)
    padding = sizes.padding or (0,) * len(lengths)
    for length, span, zeros in zip(lengths, spans, padding, strict=True):
        if span > length + 2 * zeros:
            dilated = f" (model.dilation={_short(sizes.dilation)})" if spans != shape else ""
            raise ConfigError(
                f"model.kernel_size={_short(shape)} does not fit layer {number}: it reaches over "
                f"{span} values{dilated}, but the length there is {length}; expected a smaller "
                "kernel, stride or pooling, or fewer layers"
            )


def _pooled(number: int, lengths: Lengths, window: Lengths | None) -> Lengths:
    if window is None:
        return lengths
    for length, size in zip(lengths, window, strict=True):
        if size > length:
            raise ConfigError(
                f"model.pool_size={_short(window)} does not fit layer {number}: the length there "
                f"is {length}; expected a smaller window or stride, fewer layers, or "
                "model.pool=global"
            )
    return tuple(length // size for length, size in zip(lengths, window, strict=True))


def _short(sizes: Lengths | None) -> str:
    """Return sizes as a user would type them: one number where all are equal."""
    if sizes is None:
        return "same"
    return str(sizes[0]) if len(set(sizes)) == 1 else as_typed(list(sizes))
