"""Rows in blocks that take little memory, and fingerprints that tell equal rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.source import Array, Indices, OnDemand

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 32 * 2**20
FOUND_AT_ONCE = 65_536
#: Bytes of rows that are hashed at once, which takes several copies.
MIXED_BYTES = 4 * 2**20


def rows_a_block(
    raw: Array | OnDemand | Tensor, *, features: int = 0, most_bytes: int | None = None
) -> int:
    """Return how many raw rows (rows, …) fit into a float64 block of `most_bytes` (None = 32 MiB).

    `features` is the number of values of an encoded row; 0 = rows are not encoded.
    """
    row_bytes = 8 * max(features, math.prod(raw.shape[1:]))
    return max(1, (most_bytes or BLOCK_BYTES) // max(1, row_bytes))


def count_among(sought: NDArray[np.uint64], known: NDArray[np.uint64]) -> int:
    """Count the fingerprints in `sought` that occur in `known`; sorts both in place."""
    if not len(known):
        return 0
    known.sort()
    sought.sort()
    # Both are sorted in place, so that looking up millions stays in the cache and copies nothing.
    count = 0
    for start in range(0, len(sought), FOUND_AT_ONCE):
        block = sought[start : start + FOUND_AT_ONCE]
        positions = np.minimum(np.searchsorted(known, block), len(known) - 1)
        count += int((known[positions] == block).sum())
    return count


def evenly_spaced_rows(rows: Indices, most: int) -> Indices:
    """Return the rows, or `most` of them that are evenly spaced."""
    if len(rows) <= most:
        return rows
    chosen: Indices = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return chosen


def fingerprints(raw: Array | OnDemand, rows: Indices) -> NDArray[np.uint64]:
    """Return a 64-bit fingerprint of each given row, (rows,); equal rows have equal ones."""
    if isinstance(raw, OnDemand):
        return raw.fingerprints[rows]
    width = int(np.prod(raw.shape[1:]))
    factors = np.random.default_rng(0).integers(1, 2**63, width, dtype=np.uint64) * 2 + 1
    size = rows_a_block(raw, most_bytes=MIXED_BYTES)
    prints = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), size):
        block = np.asarray(raw[rows[start : start + size]], dtype=np.float64)
        bits = np.ascontiguousarray(block).reshape(len(block), -1).view(np.uint64)
        # The high bits of a float vary most, and a product moves bits upwards only.
        mixed = (bits ^ (bits >> np.uint64(32))) * factors
        prints[start : start + len(block)] = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1)
    return prints


def blocks(raw: Array) -> Iterator[Array]:
    """Yield rows (rows, …) in order, in blocks that take little memory."""
    size = rows_a_block(raw)
    for start in range(0, len(raw), size):
        yield np.asarray(raw[start : start + size])
