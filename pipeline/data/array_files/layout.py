"""What the axes of an array of inputs are: a table, a series, or pictures."""

from typing import Literal

import numpy as np

from pipeline.data.source import Array
from pipeline.errors import ConfigError, DataError

Layout = Literal["table", "series", "images", "channels_first", "channels_last"]

RANKS: dict[Layout, tuple[int, ...]] = {
    "table": (2,),
    "series": (2, 3),
    "images": (3,),
    "channels_first": (3, 4),
    "channels_last": (4,),
}
AXES: dict[tuple[Layout, int], str] = {
    ("table", 2): "a table (rows, features)",
    ("series", 2): "series of one value (rows, steps)",
    ("series", 3): "series (rows, steps, features)",
    ("channels_first", 3): "series (rows, features, steps)",
    ("images", 3): "grey pictures (rows, height, width)",
    ("channels_first", 4): "pictures (rows, channels, height, width)",
    ("channels_last", 4): "pictures (rows, height, width, channels)",
}
COLOURS = (1, 3, 4)
"""Numbers of channels of a picture in a file: grey, RGB, RGB with alpha."""


def layout_of(shape: tuple[int, ...], dtype: np.dtype[np.generic], asked: Layout | None) -> Layout:
    """Return what the axes of (rows, …) are: as asked, else by rank, type and lengths.

    Raises:
        DataError: No array of this rank can be read.
        ConfigError: What was asked does not fit the rank.
    """
    rank = len(shape)
    if rank not in (2, 3, 4):
        raise DataError(
            f"inputs of shape {shape} can't be read; expected {', '.join(AXES.values())}. "
            "Reshape them, such as x.reshape(len(x), -1)"
        )
    if asked is not None:
        if rank not in RANKS[asked]:
            fitting = ", ".join(layout for layout, ranks in RANKS.items() if rank in ranks)
            raise ConfigError(
                f"data.layout={asked} does not fit inputs of shape {shape}; expected one of "
                f"{fitting}"
            )
        return asked
    if rank == 2:
        return "table"
    if rank == 3:
        return "images" if dtype == np.uint8 or shape[1] == shape[2] else "series"
    return "channels_last" if shape[3] in COLOURS and shape[1] not in COLOURS else "channels_first"


def told(layout: Layout, shape: tuple[int, ...]) -> list[str]:
    """Say in a line what the axes were taken for, where another reading is likely as well."""
    if (layout, len(shape)) == ("table", 2):
        return []
    return [f"inputs of shape {shape} are {AXES[layout, len(shape)]}; data.layout= says otherwise"]


def arranged(values: Array, layout: Layout) -> Array:
    """Return a view of (rows, …) with the axes that a network gets."""
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
