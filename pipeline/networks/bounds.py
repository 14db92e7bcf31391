"""The bounds that networks share, as types for a checker and as checks for a direct caller."""

from collections.abc import Sequence
from typing import Annotated, get_args

from annotated_types import Ge, Gt, Lt

from pipeline.errors import ConfigError, did_you_mean

Count = Annotated[int, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Gain = Annotated[float, Gt(0)]


def require_counts(key: str, counts: Sequence[int]) -> None:
    """Refuse a list of sizes that holds something below 1; an empty list is right.

    Raises:
        ConfigError: Names the key, the list and the layer.
    """
    for number, count in enumerate(counts, start=1):
        if count < 1:
            raise ConfigError(
                f"model.{key}={as_typed(list(counts))} has {count} in layer {number}; "
                "expected whole numbers of at least 1"
            )


def require_count(key: str, count: int) -> None:
    """Refuse a size below 1.

    Raises:
        ConfigError: Names the key and the value.
    """
    if count < 1:
        raise ConfigError(f"model.{key}={count} is too small; expected at least 1")


def require_dropout(dropout: float) -> None:
    """Refuse a share of dropped values outside [0, 1).

    Raises:
        ConfigError: Names the value.
    """
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout={dropout} is out of range; expected 0 <= dropout < 1")


def require_choice(key: str, value: str, literal: object) -> None:
    """Refuse a name that is not among those of a `Literal`.

    Raises:
        ConfigError: Names the key, the value, the choices and the nearest of them.
    """
    choices = get_args(literal)
    if value not in choices:
        raise ConfigError(
            f"model.{key}={value} is unknown; expected one of {', '.join(choices)}."
            f"{did_you_mean(str(value), choices)}"
        )


def as_typed(value: object) -> str:
    """Return a value as a user types it on the command line, without spaces and quotes."""
    return str(value).replace(" ", "").replace("'", "")
