"""Layouts of arrays: what their axes are, and their order in the inputs of a network."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np

from pipeline.base.errors import ConfigError, DataError
from pipeline.data.source import Array

ArrayLayout = Literal["table", "series", "images", "channels_first", "channels_last"]
#: Description of the arrays of each layout and rank.
AXES: Mapping[tuple[ArrayLayout, int], str] = {
    ("table", 2): "a table (rows, features)",
    ("series", 2): "series of one value (rows, steps)",
    ("series", 3): "series (rows, steps, features)",
    ("channels_first", 3): "series (rows, features, steps)",
    ("images", 3): "grey pictures (rows, height, width)",
    ("channels_first", 4): "pictures (rows, channels, height, width)",
    ("channels_last", 4): "pictures (rows, height, width, channels)",
}
#: Numbers of channels of a picture in a file: grey, RGB, RGB with alpha.
COLOURS = (1, 3, 4)


def find_layout(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], layout: ArrayLayout | None
) -> ArrayLayout:
    """Return the layout of (rows, …): `layout` if it is set, else by rank, type and lengths."""
    rank = len(shape)
    if rank not in (2, 3, 4):
        raise DataError(
            f"inputs of shape {shape} can't be read; expected {', '.join(AXES.values())}. "
            "Reshape them, such as x.reshape(len(x), -1)"
        )
    if layout is not None:
        if (layout, rank) not in AXES:
            fitting = [name for name in get_args(ArrayLayout) if (name, rank) in AXES]
            raise ConfigError(
                f"data.layout={layout} does not fit inputs of shape {shape}; expected one of "
                f"{', '.join(fitting)}"
            )
        return layout
    if rank == 2:
        return "table"
    if rank == 3:
        return "images" if dtype == np.uint8 or shape[1] == shape[2] else "series"
    return "channels_last" if shape[3] in COLOURS and shape[1] not in COLOURS else "channels_first"


def array_reading(
    form: str, layout: ArrayLayout, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> dict[str, Any]:
    """Return how arrays (rows, …) like these are read, as plain values for `Schema.reading`."""
    axes = len(shape)
    return {"kind": "array", "format": form, "layout": layout, "axes": axes, "dtype": dtype.name}


def arrange(values: Array, layout: ArrayLayout) -> Array:
    """Return a view of (rows, …) with the axes in the order of the network's inputs."""
    rank = values.ndim
    if layout == "series" and rank == 2:
        return values[:, :, None]  # (rows, steps, 1)
    if layout == "images":
        return values[:, None]  # (rows, 1, height, width)
    if layout == "channels_first" and rank == 3:
        return values.transpose(0, 2, 1)  # (rows, steps, features)
    if layout == "channels_last":
        return values.transpose(0, 3, 1, 2)  # (rows, channels, height, width)
    return values
