"""Batches from memory and from lazy rows, and how ranks share each: every row once."""

import itertools
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.sample_data import inputs_of, labelled, prepared_of, series, shipped, valued
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.base.ranks import Rank
from pipeline.data.preparation import loader as loading
from pipeline.data.preparation.content import LazyInputs, Part
from pipeline.data.preparation.loader import Batches, Order, loader, own_rows, rows_of_ranks

CPU = torch.device("cpu")


Loader = Batches | DataLoader[Any]
Epoch = list[tuple[Tensor, ...]]


def batches_of(part: Part, **changes: Any) -> Loader:
    keys = {"batch_size": 7, "shuffle": True, "seed": 5, "num_workers": 0, "device": CPU}
    return loader(part, **{**keys, **changes})


def epochs_of(batches: Loader, count: int = 3) -> list[Epoch]:
    epochs = []
    for epoch in range(count):
        _set_sampler_epoch(batches, epoch)
        epochs.append([tuple(batch) for batch in batches])
    return epochs


def assert_equal(one: list[Epoch], other: list[Epoch]) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def numbered(rows: int = 60, **changes: Any) -> Part:
    """A training part whose inputs are the numbers of their rows."""
    content = valued(np.arange(float(rows))[:, None], np.arange(float(rows)))
    return prepared_of(content, validation=0.0, **changes).train


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("shuffle", [True, False])
def test_lazy_batches_equal_those_from_memory(shuffle: bool, num_workers: int) -> None:
    content = labelled(np.arange(50) % 3)
    lazy, whole = (
        prepared_of(content, scale="standard", memory_budget=budget).train for budget in (0, 2048)
    )
    assert isinstance(lazy.inputs, LazyInputs)
    expected = epochs_of(batches_of(whole, shuffle=shuffle))
    assert_equal(expected, epochs_of(batches_of(lazy, shuffle=shuffle, num_workers=num_workers)))


def test_folder_of_a_killed_reader_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next reading; that of a reader that lives, or of another program, stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "pymp-other").mkdir()
    lazy = prepared_of(labelled(np.arange(50) % 3), memory_budget=0).train
    killed = iter(batches_of(lazy, num_workers=1))
    next(killed)
    (reader,) = multiprocessing.active_children()
    reader.kill()
    reader.join()
    (left,) = tmp_path.glob(f"pymp-*/{loading.LOCK}")
    alive = iter(batches_of(lazy, num_workers=1))
    next(alive)
    (kept,) = tmp_path.glob(f"pymp-*/{loading.LOCK}")
    assert kept != left
    next(iter(batches_of(lazy, num_workers=1)))
    assert kept.exists()
    assert (tmp_path / "pymp-other").exists()


def test_lazy_windows_equal_those_from_memory() -> None:
    content = series(np.random.default_rng(0).normal(size=(90, 2)).cumsum(0))
    lazy, whole = (
        prepared_of(content, window=6, difference=2, scale="minmax", memory_budget=budget)
        for budget in (0, 2048)
    )
    for part, other in ((lazy.train, whole.train), (lazy.test, whole.test)):
        assert isinstance(part.inputs, LazyInputs)
        assert torch.equal(torch.cat(list(part.blocks())), inputs_of(other))
        torch.testing.assert_close(part.offsets, other.offsets, rtol=0, atol=0)


def test_epoch_yields_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    part = numbered()
    whole = epochs_of(batches_of(part))
    monkeypatch.setattr(loading, "GATHERED_BYTES", 4 * 7 * 2)  # a few batches at once
    assert_equal(whole, epochs_of(batches_of(part)))
    for order in whole:
        inputs, targets = (torch.cat(tensors) for tensors in zip(*order, strict=True))
        assert torch.equal(inputs, targets)
        assert sorted(inputs.flatten().tolist()) == sorted(part.rows.tolist())
    (epoch,) = epochs_of(batches_of(part, shuffle=False), 1)
    assert torch.cat([batch[0] for batch in epoch]).flatten().tolist() == part.rows.tolist()
    for rows in (8, 9, 10, 18, 19, 20):
        batches = batches_of(numbered(rows))
        assert len(batches) == len(list(batches))


def test_row_order_depends_on_seed_and_epoch() -> None:
    """`set_epoch` takes effect even after the iterator is made."""
    orders = set()
    for seed, epoch in itertools.product((0, 1, 2**32 - 1), range(4)):
        order, again = (Order(50, shuffle=True, seed=seed) for _ in range(2))
        order.set_epoch(epoch)
        again.set_epoch(epoch)
        torch.rand(3)
        assert torch.equal(order.indices(), again.indices())
        orders.add(tuple(order.indices().tolist()))
    assert len(orders) == 12
    batches = batches_of(numbered())
    iterator = iter(batches)
    assert isinstance(batches.sampler, Order)
    batches.sampler.set_epoch(2)
    assert torch.equal(next(iterator)[0], epochs_of(batches_of(numbered()))[2][0][0])


@pytest.mark.parametrize("budget", [0, 2048])
def test_lightning_draws_a_new_order_each_epoch(budget: int) -> None:
    from pytorch_lightning import LightningModule, Trainer

    class Recorder(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.epochs: list[list[float]] = []

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            if number == 0:
                self.epochs.append([])
            self.epochs[-1] += batch[0].flatten().tolist()
            return self.weight.sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    part = numbered(40, memory_budget=budget)
    module = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches_of(part))
    before = torch.get_rng_state()
    expected = epochs_of(batches_of(part))
    assert torch.equal(torch.get_rng_state(), before)
    assert module.epochs == [torch.cat([b[0] for b in e]).flatten().tolist() for e in expected]


def test_batch_larger_than_training_part_is_reported() -> None:
    prepared = shipped("iris", batch_size=500)
    assert prepared.notes[-1] == (
        "data.batch_size=500 is larger than the training part of 89 rows: an epoch is one step"
    )
    assert len(batches_of(prepared.train, batch_size=500)) == 1


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_the_batches_of_one_process(world: int, shuffle: bool) -> None:
    inputs, targets = torch.arange(23.0).unsqueeze(1), torch.arange(23)

    def epoch(rank: Rank) -> Epoch:
        order = Order(23, shuffle=shuffle, seed=3)
        order.set_epoch(2)
        return [tuple(b) for b in Batches(inputs, targets, order, batch_size=7, rank=rank)]

    alone = epoch(Rank())
    ranks = [epoch(Rank(number=number, world=world)) for number in range(world)]
    for step, (whole, *parts) in enumerate(zip(alone, *ranks, strict=True)):
        assert torch.cat([part[0] for part in parts]).equal(whole[0]), step
        assert torch.cat([part[1] for part in parts]).equal(whole[1]), step
        assert all(part[2].equal(whole[1]) for part in parts), step


@pytest.mark.parametrize("world", range(1, 9))
def test_rows_of_batches_are_shared_evenly_among_ranks(world: int) -> None:
    ranks = [Rank(number=number, world=world) for number in range(world)]
    for count in range(40):
        sizes = [len(own_rows(torch.arange(count), rank)) for rank in ranks]
        assert max(sizes) - min(sizes) <= 1
    rows, batches = torch.arange(50), [16, 16, 16, 2]
    parts = [torch.cat([own_rows(batch, rank) for batch in rows.split(batches)]) for rank in ranks]
    found = rows_of_ranks(batches, world)
    torch.testing.assert_close(found, parts, rtol=0, atol=0)
    assert torch.cat(found).sort().values.equal(rows)
