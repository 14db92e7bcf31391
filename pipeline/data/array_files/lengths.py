"""Series of several lines as one array: of one length, or made so."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.data.array_files.labelled import Labelled, Vector
from pipeline.errors import DataError


def stacked(series: Sequence[Labelled], *, length: int | None) -> NDArray[np.float64]:
    """Return the series as (rows, steps, channels).

    Args:
        series: At least one.
        length: Steps that each gets: a longer one is cut, a shorter one goes on with its last
            value; None = all have to be of one length.

    Raises:
        DataError: Numbers of channels or lengths differ; names the lines and both numbers.
    """
    _refuse_unlike_channels(series)
    if length is None:
        _refuse_unlike_lengths(series)
        length = len(series[0].channels[0])
    made = np.empty((len(series), length, len(series[0].channels)))
    for row, one in enumerate(series):
        for index, values in enumerate(one.channels):
            made[row, :, index] = fitted(values, length)
    return made


def fitted(values: Vector, length: int) -> Vector:
    """Return a channel (steps,) cut to `length`, or padded to it with its last value."""
    if len(values) >= length:
        return values[:length]
    return np.pad(values, (0, length - len(values)), mode="edge")


def length_note(series: Sequence[Labelled], length: int | None) -> list[str]:
    """Tell how many series are cut or padded."""
    if length is None:
        return []
    lengths = np.array([len(values) for one in series for values in one.channels])
    cut, padded = int((lengths > length).sum()), int((lengths < length).sum())
    if not cut and not padded:
        return []
    return [
        f"data.length={length}: {cut} series are cut, {padded} padded with their last value "
        f"(lengths from {lengths.min()} to {lengths.max()})"
    ]


def _refuse_unlike_channels(series: Sequence[Labelled]) -> None:
    first = series[0]
    for one in series:
        if len(one.channels) != len(first.channels):
            raise DataError(
                f"{one.where} has {len(one.channels)} channels, {first.where} has "
                f"{len(first.channels)}; expected as many in each line"
            )


def _refuse_unlike_lengths(series: Sequence[Labelled]) -> None:
    first, expected = series[0], len(series[0].channels[0])
    for one in series:
        for index, values in enumerate(one.channels):
            if len(values) == expected:
                continue
            lengths = [len(part) for each in series for part in each.channels]
            place = one.where if len(one.channels) == 1 else f"{one.where}, channel {index + 1}"
            raise DataError(
                f"{place} has {len(values)} values, {first.where} has {expected} (from "
                f"{min(lengths)} to {max(lengths)} in all); expected one length. data.length="
                f"{max(lengths)} goes on with the last value of shorter ones, data.length="
                f"{min(lengths)} cuts longer ones"
            )
