"""What processes that train together tell each other: the same on every rank afterwards."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, distributed

from pipeline.data.share import joined, totals


def summed(value: Tensor) -> Tensor:
    """Return the sum of a value over all ranks."""
    total = value.clone()
    distributed.all_reduce(total)
    return total


def gathered(own: Tensor, batches: Sequence[int], ranks: int) -> Tensor:
    """Return the rows of all ranks in order.

    Args:
        own: What this rank has of all batches, one after another; (own rows, …).
        batches: How many rows each batch had over all ranks.
        ranks: How many there are.
    """
    rows = totals(batches, ranks)
    # Every rank must send as much as any other: what is added is cut off again.
    padded = own.new_zeros((max(rows), *own.shape[1:]))
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in rows]
    distributed.all_gather(parts, padded)
    return joined([part[:count] for part, count in zip(parts, rows, strict=True)], batches)


def alike(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the values of the first rank, so that no rank decides by another last bit."""
    told = torch.stack([value.double() for value in values.values()])
    distributed.broadcast(told, 0)
    return {key: told[at].to(value.dtype) for at, (key, value) in enumerate(values.items())}


def spread(values: Iterable[Tensor]) -> None:
    """Give all ranks the values of the first, in place."""
    for value in values:
        distributed.broadcast(value, 0)
