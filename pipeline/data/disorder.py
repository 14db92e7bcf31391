"""Order taken away on purpose: of the values within each row, and of the labels that train."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.config.options import DataOptions
from pipeline.data.source import Array, Indices, Samples
from pipeline.errors import ConfigError


def permutation_of(samples: Samples, options: DataOptions) -> tuple[int, ...]:
    """Draw the one order in which the network gets the positions of every row.

    Positions are the steps of a series, the pixels of an image (all channels of one move together)
    and the values of a row without names.

    Returns:
        For each place the position that comes there; empty = they stay as they lie.

    Raises:
        ConfigError: The rows are a table's, whose columns go by their names.
    """
    if options.permute is None:
        return ()
    shape = samples.input_shape
    if len(shape) == 1 and (samples.columns or samples.features):
        raise ConfigError(
            f"data.permute={options.permute} is for steps, pixels and values without names, but "
            "this data is a table, whose columns go by their names; expected null"
        )
    positions = prod(shape[1:]) if len(shape) == 3 else shape[0]
    drawn = np.random.default_rng(options.permute).permutation(positions)
    return tuple(drawn.tolist())


def permuted(rows: Tensor, permutation: Sequence[int]) -> Tensor:
    """Return rows (rows, *input_shape) with their positions in another order; empty = as it is."""
    if not permutation:
        return rows
    order = torch.tensor(permutation, device=rows.device)
    if rows.ndim == 4:
        return rows.flatten(2)[:, :, order].reshape(rows.shape)
    return rows[:, order]


def with_shuffled_labels(targets: Array, trained: Indices, options: DataOptions) -> Array:
    """Return targets (rows, …) of which those of the training rows have changed places."""
    if options.shuffle_labels is None:
        return targets
    shuffled = targets.copy()
    shuffled[trained] = np.random.default_rng(options.shuffle_labels).permutation(targets[trained])
    return shuffled


def disorder_notes(options: DataOptions) -> list[str]:
    """Say what was taken away, so that nobody takes the figures for those of the data."""
    notes = []
    if options.permute is not None:
        notes.append(f"data.permute={options.permute}: the positions of every row are permuted")
    if options.shuffle_labels is not None:
        notes.append(
            f"data.shuffle_labels={options.shuffle_labels}: the labels of the training rows are "
            "shuffled; what is learned of them is learned by heart"
        )
    return notes


def refuse_disorder(options: DataOptions) -> None:
    """Refuse both for values in time.

    Raises:
        ConfigError: Names those that are set.
    """
    why = {
        "permute": "a window's last step is what a forecast goes on from",
        "shuffle_labels": "what a series predicts is the series itself",
    }
    problems = [
        f"data.{key}={value} is for independent rows, but this data is values in time: {reason}; "
        "expected null"
        for key, reason in why.items()
        if (value := getattr(options, key)) is not None
    ]
    if problems:
        raise ConfigError(*problems)
