"""How the rows of a batch are shared among processes that train together."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.ranks import Rank


class Shared(NamedTuple):
    """One rank's share of a batch, which may be empty: every rank takes part in every step.

    Args:
        inputs: Its rows (own, *input_shape).
        targets: (own,) or (own, outputs).
        batch_targets: Those of the whole batch, over all ranks.
    """

    inputs: Tensor
    targets: Tensor
    batch_targets: Tensor


def shares(rows: int, world: int) -> list[int]:
    """Return how many of a batch's rows each rank has: as equal as can be, none of them twice."""
    each, more = divmod(rows, world)
    return [each + (number < more) for number in range(world)]


def own_rows(rows: Tensor, rank: Rank) -> Tensor:
    """Return a rank's share of the rows of a batch, (own,)."""
    sizes = shares(len(rows), rank.world)
    end = sum(sizes[: rank.number + 1])
    return rows[end - sizes[rank.number] : end]


def joined(parts: Sequence[Tensor], batches: Sequence[int]) -> Tensor:
    """Put the shares of all ranks together, in the order of the rows.

    Args:
        parts: What each rank has of all batches, one after another; (rows of the rank, …).
        batches: How many rows each batch had.
    """
    sizes = [shares(rows, len(parts)) for rows in batches]
    pieces = [
        torch.split(part, [size[number] for size in sizes]) for number, part in enumerate(parts)
    ]
    return torch.cat([piece for batch in zip(*pieces, strict=True) for piece in batch])


def totals(batches: Sequence[int], world: int) -> list[int]:
    """Return how many rows each rank has of batches with so many rows."""
    sizes = [shares(rows, world) for rows in batches]
    return [sum(column) for column in zip(*sizes, strict=True)] if sizes else [0] * world
