"""Rows in blocks of one size."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.data.reader import Block, regrouped, sliced

SIZES = [(), (0,), (3,), (4,), (5,), (1, 1, 1), (9, 0, 2), (2, 10, 1), (3, 1, 4, 1, 5, 9, 2, 6)]


def pieces(sizes: tuple[int, ...], *, named: bool) -> list[Block]:
    ends = np.cumsum((0, *sizes))
    rows = [np.arange(2 * start, 2 * end).reshape(-1, 2) for start, end in pairwise(ends)]
    return [
        Block(raw=part, names=[f"row {n}" for n in part[:, 0]] if named else None) for part in rows
    ]


@pytest.mark.parametrize("sizes", SIZES)
def test_regrouped_rows_keep_their_order_in_blocks_of_one_size(sizes: tuple[int, ...]) -> None:
    blocks = list(regrouped(pieces(sizes, named=True), size=4))
    total = sum(sizes)
    assert [len(block) for block in blocks] == [4] * (total // 4) + [total % 4] * bool(total % 4)
    numbers = [n for block in blocks for n in block.raw.reshape(-1).tolist()]
    assert numbers == list(range(2 * total))
    names = [name for block in blocks for name in block.names or ()]
    assert names == [f"row {2 * n}" for n in range(total)]


def test_rows_without_names_stay_without() -> None:
    blocks = regrouped(pieces((3, 3), named=False), size=4)
    assert [block.names for block in blocks] == [None, None]


def test_rows_are_taken_no_earlier_than_their_block() -> None:
    taken: list[int] = []

    def reading() -> "list[Block]":
        for number, piece in enumerate(pieces((2,) * 50, named=False)):
            taken.append(number)
            yield piece  # type: ignore[misc] # a generator

    next(iter(regrouped(reading(), size=6)))
    assert taken == [0, 1, 2]


def test_stored_rows_are_sliced_with_their_names() -> None:
    raw = np.arange(10).reshape(5, 2)
    blocks = list(sliced(raw, list("abcde"), size=2))
    assert [block.raw.tolist() for block in blocks] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 7]],
        [[8, 9]],
    ]
    assert [block.names for block in blocks] == [["a", "b"], ["c", "d"], ["e"]]
