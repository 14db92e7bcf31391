"""Networks in pure torch; each constructor is the schema of its file in `conf/model/`.

Here are the kinds of input that a network can read, told apart by the shape of one sample.
"""

from typing import Literal

from pipeline.errors import ConfigError

Kind = Literal["table", "series", "images"]

SHAPES: dict[Kind, str] = {
    "table": "a table (features,)",
    "series": "a series (steps, features)",
    "images": "images (channels, height, width)",
}
#: Stands in the line about data whose kind a model can't read, and in no other.
MISFIT = ", but the data are "


def kind_of(input_shape: tuple[int, ...]) -> Kind:
    """Return the kind of input that has samples of this shape.

    Raises:
        ConfigError: A sample has no dimension, or more than three.
    """
    if not 1 <= len(input_shape) <= len(SHAPES):
        expected = ", ".join(SHAPES.values())
        raise ConfigError(f"samples of shape {input_shape} fit no network; expected {expected}")
    return list(SHAPES)[len(input_shape) - 1]


def require_kind(model_name: str, takes: tuple[str, ...], input_shape: tuple[int, ...]) -> Kind:
    """Return the kind of samples of this shape, for a model that takes some kinds.

    Raises:
        ConfigError: It is none of these.
    """
    kind = kind_of(input_shape)
    if kind not in takes:
        reads = " or ".join(text for name, text in SHAPES.items() if name in takes)
        raise ConfigError(
            f"model={model_name} reads {reads}{MISFIT}{SHAPES[kind]} of shape {input_shape}"
        )
    return kind
