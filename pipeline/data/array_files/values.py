"""Whether an array holds numbers that a network can take, and where the first odd one stands."""

import numpy as np

from pipeline.data.scale import rows_a_block
from pipeline.data.source import Array
from pipeline.errors import DataError

LARGEST = float(np.finfo(np.float32).max)


def require_numbers(values: Array, label: str) -> None:
    """Refuse NaN, infinity and what becomes infinite in 32 bits, a block at a time.

    Args:
        values: (rows, …); may lie on disk.
        label: Its name in the message, such as `x.npz: x_train`.

    Raises:
        DataError: Names the first such value and counts their rows.
    """
    if values.dtype.kind != "f":
        return
    size, count, first = rows_a_block(values), 0, ""
    for start in range(0, len(values), size):
        block = np.asarray(values[start : start + size])
        odd = ~(np.abs(block) <= LARGEST)  # NaN compares false
        if odd.any():
            place = np.argwhere(odd)[0]
            first = first or _place(block[tuple(place)], start, place)
            count += int(odd.reshape(len(odd), -1).any(1).sum())
    if first:
        raise DataError(
            f"{label}{first} ({count} of {len(values)} rows have such a value); expected finite "
            "numbers up to 3.4e38. Fill them in or leave these rows out"
        )


def largest(values: Array) -> float:
    """Return the largest value, a block at a time; 0 without rows."""
    size = rows_a_block(values)
    blocks = range(0, len(values), size)
    return max((float(values[start : start + size].max()) for start in blocks), default=0.0)


def _place(value: float, start: int, place: Array) -> str:
    indices = ", ".join(str(int(index)) for index in (start + place[0], *place[1:]))
    word = "missing (NaN)" if np.isnan(value) else f"{value}"
    return f"[{indices}] is {word}"
