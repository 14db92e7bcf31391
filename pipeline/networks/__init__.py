"""Networks in pure torch; each constructor is the schema of its file in `conf/model/`.

This module defines the kinds of input, which are told apart by the shape of one sample.
"""

from typing import Literal

from pipeline.base.errors import ConfigError

Kind = Literal["table", "series", "images"]

SHAPES: dict[Kind, str] = {
    "table": "a table (features,)",
    "series": "a series (steps, features)",
    "images": "images (channels, height, width)",
}
#: Only the message about data of a kind that a model can't read contains these words.
MISFIT = ", but the data are "


def kind_of(input_shape: tuple[int, ...]) -> Kind:
    """Return the kind of input that has samples of this shape.

    Raises:
        ConfigError: A sample has no dimension, or more than three.
    """
    if not 1 <= len(input_shape) <= len(SHAPES):
        expected = ", ".join(SHAPES.values())
        raise ConfigError(f"no network takes samples of shape {input_shape}; expected {expected}")
    return list(SHAPES)[len(input_shape) - 1]


def require_kind(model_name: str, takes: tuple[str, ...], input_shape: tuple[int, ...]) -> Kind:
    """Return the kind of input of samples with this shape, after checking that a model reads it.

    Args:
        model_name: The word that the user types after `model=`.
        takes: Kinds of input that the model reads.
        input_shape: Shape of one sample, without the batch.

    Raises:
        ConfigError: The model does not read this kind.
    """
    kind = kind_of(input_shape)
    if kind not in takes:
        reads = " or ".join(text for name, text in SHAPES.items() if name in takes)
        raise ConfigError(
            f"model={model_name} reads {reads}{MISFIT}{SHAPES[kind]} of shape {input_shape}"
        )
    return kind
