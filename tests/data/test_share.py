"""Ranks share each batch: as equally as can be, every row once, none of them twice."""

import pytest
import torch

from pipeline.data.loader import Batches, Order, joined, own_rows, shares, totals
from pipeline.ranks import Rank


@pytest.mark.parametrize("world", range(1, 9))
def test_shares_are_as_equal_as_can_be_and_make_up_the_batch(world: int) -> None:
    for rows in range(40):
        sizes = shares(rows, world)
        assert sum(sizes) == rows
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_all_ranks_together_see_the_batches_that_one_process_sees(
    world: int, shuffle: bool
) -> None:
    inputs, targets = torch.arange(23.0).unsqueeze(1), torch.arange(23)

    def epoch(rank: Rank) -> list[tuple[torch.Tensor, ...]]:
        order = Order(23, shuffle=shuffle, seed=3)
        order.set_epoch(2)
        return [tuple(b) for b in Batches(inputs, targets, order, batch_size=7, rank=rank)]

    alone = epoch(Rank())
    ranks = [epoch(Rank(number=number, world=world)) for number in range(world)]
    for step, (whole, *parts) in enumerate(zip(alone, *ranks, strict=True)):
        assert torch.cat([part[0] for part in parts]).equal(whole[0]), step
        assert torch.cat([part[1] for part in parts]).equal(whole[1]), step
        assert all(part[2].equal(whole[1]) for part in parts), step


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_what_ranks_have_is_put_back_in_the_order_of_the_rows(world: int) -> None:
    rows = torch.arange(50)
    batches = [16, 16, 16, 2]
    split = rows.split(batches)
    parts = [
        torch.cat([own_rows(batch, Rank(number=number, world=world)) for batch in split])
        for number in range(world)
    ]
    assert [len(part) for part in parts] == totals(batches, world)
    assert joined(parts, batches).equal(rows)
