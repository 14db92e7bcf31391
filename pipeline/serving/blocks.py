"""Raw rows in blocks of one size, however they came."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.data.source import Array, OnDemand


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Some rows.

    Args:
        raw: (rows, *raw_shape).
        names: (rows,) what each is called; None = they have no names.
    """

    raw: Array
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.raw)

    def part(self, start: int, end: int) -> "Block":
        """Return the rows from `start` up to `end`."""
        names = None if self.names is None else self.names[start:end]
        return Block(raw=self.raw[start:end], names=names)


def sliced(raw: Array | OnDemand, names: list[str] | None, *, size: int) -> Iterator[Block]:
    """Yield rows (rows, *raw_shape) in blocks; each is made or read when it is its turn."""
    for start in range(0, len(raw), size):
        end = start + size
        yield Block(raw=raw[start:end], names=None if names is None else names[start:end])


def regrouped(pieces: Iterable[Block], *, size: int) -> Iterator[Block]:
    """Yield the same rows in blocks of one size, the last one excepted."""
    waiting: list[Block] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) < size:
            continue
        joined = _joined(waiting)
        whole = len(joined) - len(joined) % size
        for start in range(0, whole, size):
            yield joined.part(start, start + size)
        waiting = [joined.part(whole, len(joined))]
    if sum(map(len, waiting)):
        yield _joined(waiting)


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    named = all(block.names is not None for block in blocks)
    names = [name for block in blocks for name in block.names or ()]
    return Block(
        raw=np.concatenate([block.raw for block in blocks]), names=names if named else None
    )
