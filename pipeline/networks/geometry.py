"""How sizes of kernels, strides and paddings are written.

One rule reads every such parameter. A number holds for all layers and directions. A flat list of
as many numbers as there are directions is a shape (`[1,5]` in 2-D: 1 high, 5 wide) and holds for
all layers. Any other list has one entry a layer, each a number or a shape. Several kernel shapes
in one layer are written `{shapes:[[1,5],[5,1],3]}`, for all layers or as the entry of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeGuard

from annotated_types import Ge

from pipeline.errors import ConfigError
from pipeline.networks.bounds import Count, as_typed

Lengths = tuple[int, ...]

Sizes = Count | list[Count | list[Count]]
Shapes = dict[Literal["shapes"], list[Count | list[Count]]]
KernelSizes = Count | Shapes | list[Count | list[Count] | Shapes]
Margin = Annotated[int, Ge(0)]
Paddings = Literal["same"] | Margin | list[Literal["same"] | Margin | list[Margin]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSizes:
    """The sizes of one convolution layer, each with one number a direction.

    Args:
        shapes: Kernel shapes, one or several.
        stride: Step of the kernels, >= 1.
        padding: Zeros on both sides, or `None` for as many as give ceil(length / stride).
        dilation: Distance between the cells of a kernel, >= 1.
        pool: Window and step of the pooling; `None` for no pooling.
    """

    shapes: list[Lengths]
    stride: Lengths
    padding: Lengths | None
    dilation: Lengths
    pool: Lengths | None


def read_layers(
    *,
    layers: int,
    dimensions: int,
    kernel_size: KernelSizes,
    stride: Sizes,
    padding: Paddings,
    dilation: Sizes,
    pool_size: Sizes | None,
) -> list[LayerSizes]:
    """Read the sizes of a network's layers; `pool_size` is `None` where nothing is pooled.

    Raises:
        ConfigError: A list has neither one entry a layer nor the form of a shape, or holds a
            number that is too small.
    """
    kernels = _Reader("kernel_size", kernel_size, dimensions)
    paddings = _Reader("padding", padding, dimensions, minimum=0)
    strides = _Reader("stride", stride, dimensions)
    dilations = _Reader("dilation", dilation, dimensions)
    pools = _Reader("pool_size", pool_size, dimensions)
    entries = [reader.entries(layers) for reader in (kernels, strides, paddings, dilations, pools)]
    return [
        LayerSizes(
            shapes=kernels.shapes(kernel),
            stride=strides.shape(step),
            padding=None if zeros == "same" else paddings.shape(zeros),
            dilation=dilations.shape(gap),
            pool=None if window is None else pools.shape(window),
        )
        for kernel, step, zeros, gap, window in zip(*entries, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one parameter; its key and whole value stand in each message."""

    key: str
    value: object
    dimensions: int
    minimum: int = 1

    def entries(self, layers: int) -> list[object]:
        """Return one entry a layer."""
        value = self.value
        if not _is_list(value) or self._is_shape(value):
            return [value] * layers
        if len(value) != layers:
            raise ConfigError(
                f"{self._named} has {len(value)} entries for {layers} layers; expected one a "
                f"layer, or a single {self._form} for all layers"
            )
        return list(value)

    def shape(self, entry: object) -> Lengths:
        """Return an entry as a size in each direction."""
        sizes = [entry] * self.dimensions if _is_whole(entry) else entry
        if not self._is_shape(sizes):
            raise ConfigError(f"{self._named} holds {as_typed(entry)}; expected a {self._form}")
        if min(sizes) < self.minimum:
            raise ConfigError(
                f"{self._named} is too small; expected numbers of at least {self.minimum}"
            )
        return tuple(sizes)

    def shapes(self, entry: object) -> list[Lengths]:
        """Return an entry as one or several shapes."""
        if not isinstance(entry, Mapping):
            return [self.shape(entry)]
        shapes = entry.get("shapes")
        if len(entry) != 1 or not _is_list(shapes) or not shapes:
            raise ConfigError(
                f"{self._named} is unclear; several shapes in one layer are written "
                "{shapes:[3,5]}"
            )
        return [self.shape(shape) for shape in shapes]

    def _is_shape(self, value: object) -> TypeGuard[Sequence[int]]:
        return _is_list(value) and len(value) == self.dimensions and all(map(_is_whole, value))

    @property
    def _named(self) -> str:
        return f"model.{self.key}={as_typed(self.value)}"

    @property
    def _form(self) -> str:
        return "number" if self.dimensions == 1 else "number or [height,width]"


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
