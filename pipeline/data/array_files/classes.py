"""Classes with their names, the positive one of two at index 1."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.labels import NAMES_ANOTHER, positive_second
from pipeline.data.source import Array
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classes:
    """Indices (rows,) and what they stand for.

    Args:
        indices: int64 (rows,).
        names: In the order of the indices.
        notes: What was decided.
    """

    indices: Array
    names: tuple[str, ...]
    notes: tuple[str, ...]


def named(indices: Array, names: tuple[str, ...], *, positive: str | None) -> Classes:
    """Return the classes, of two the positive one second: the one asked for, else the rarer.

    Raises:
        ConfigError: A positive class is asked for that there is not, or among more than two.
    """
    indices = indices.astype(np.int64, copy=False)
    if len(names) != 2:
        if positive is not None:
            raise ConfigError(
                f"data.positive={positive!r} is for two classes, this data has {len(names)}: "
                f"{', '.join(names)}; leave it away"
            )
        return Classes(indices=indices, names=names, notes=())
    first, second = names
    if positive is not None:
        ordered, pair = positive_second(indices, (first, second), positive)
        return Classes(indices=ordered, names=pair, notes=())
    counts = np.bincount(indices, minlength=2)
    rarer = first if counts[0] < counts[1] else second
    ordered, pair = positive_second(indices, (first, second), rarer)
    return Classes(indices=ordered, names=pair, notes=(_told(rarer, counts),))


def whole_text(value: object) -> str:
    """Return the text that names a class: `1` for 1, 1.0 and `1.0000000e+00`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    number = float(value)
    return str(int(value)) if number.is_integer() else repr(number)


def _told(rarer: str, counts: Array) -> str:
    share = f"{counts.min()} of {counts.sum()} rows"
    why = f"the rarer one, {share}" if counts[0] != counts[1] else f"the second of two, {share}"
    return f"the positive class is {rarer!r} ({why}); {NAMES_ANOTHER}"
