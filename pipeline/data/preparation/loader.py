"""Batches of a part, from tensors or from lazy rows, and their distribution over processes."""

import hashlib
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from pipeline.base.ranks import ALONE, Rank
from pipeline.base.regular_files import lock_regular
from pipeline.data.preparation.content import LazyInputs, Part

Batch = tuple[Tensor, Tensor]

# Gathering many batches at once is faster as long as their rows fit into the processor's cache.
GATHERED_BYTES = 2**19

# A Python int takes 36 bytes, so a list of all row numbers can be larger than the data.
LISTED_ROWS = 65_536

#: File in the temporary folder of a reading process, which holds a lock on it as long as it lives.
LOCK = "pipeline.lock"


class Shared(NamedTuple):
    """One rank's share of a batch; it may be empty, since all ranks take part in every step.

    `inputs` (own, *input_shape) and `targets` (own, …) are the rank's; `batch_targets` (batch, …)
    are those of all ranks.
    """

    inputs: Tensor
    targets: Tensor
    batch_targets: Tensor


class Order(Sampler[int]):
    """Order of the rows: a pure function of seed and epoch, or as stored without `shuffle`.

    It never touches torch's global generator. Lightning calls `set_epoch` before each epoch.
    """

    def __init__(self, rows: int, *, shuffle: bool, seed: int) -> None:
        self.rows = rows
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch for which the next order is drawn."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return the order of this epoch, int64 (rows,)."""
        if not self.shuffle:
            return torch.arange(self.rows)
        mixed = hashlib.sha256(f"{self.seed} {self.epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mixed[:4], "big"))
        return torch.randperm(self.rows, generator=generator)

    def __iter__(self) -> Iterator[int]:
        for rows in torch.split(self.indices(), LISTED_ROWS):
            yield from rows.tolist()

    def __len__(self) -> int:
        return self.rows


class Batches:
    """Batches (inputs, targets) of a part that is held in memory, on the training device."""

    def __init__(
        self, inputs: Tensor, targets: Tensor, order: Order, *, batch_size: int, rank: Rank = ALONE
    ) -> None:
        self._rank = rank
        self.inputs = inputs
        self.targets = targets
        self.sampler = order
        # Lightning looks for a sampler in both attributes.
        self.batch_sampler = None
        self.batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.targets) / self.batch_size)

    def __iter__(self) -> Iterator[Batch | Shared]:
        """Yield the batches of an epoch; the order is drawn late, once the epoch is known."""
        if self._rank.world == 1 and not self.sampler.shuffle:
            yield from self._slices(self.inputs, self.targets)
            return
        order = self.sampler.indices().to(self.targets.device)
        if self._rank.world == 1:
            row_bytes = self.inputs.element_size() * self.inputs[:1].numel()
            batches = max(1, GATHERED_BYTES // max(1, row_bytes * self.batch_size))
            for rows in torch.split(order, batches * self.batch_size):
                yield from self._slices(
                    self.inputs.index_select(0, rows), self.targets.index_select(0, rows)
                )
            return
        for rows in torch.split(order, self.batch_size):
            yield _batch(partial(self.inputs.index_select, 0), self.targets, rows, self._rank)

    def _slices(self, inputs: Tensor, targets: Tensor) -> Iterator[Batch]:
        size = self.batch_size
        return zip(torch.split(inputs, size), torch.split(targets, size), strict=True)


def _batch(
    take: Callable[[Tensor], Tensor], targets: Tensor, rows: Tensor, rank: Rank
) -> Batch | Shared:
    if rank.world == 1:
        return take(rows), targets[rows]
    own = own_rows(rows, rank)
    return Shared(take(own), targets[own], targets[rows])


class _Rows(Dataset[Batch | Shared]):
    """Lazy rows, of which a DataLoader fetches a whole batch, or a rank's share, at a time."""

    def __init__(self, part: Part, rank: Rank) -> None:
        self._part = part
        self._rank = rank

    def __len__(self) -> int:
        return len(self._part)

    def __getitems__(self, rows: list[int]) -> Batch | Shared:
        return _batch(self._part.take, self._part.targets, torch.tensor(rows), self._rank)


class _Lazy(DataLoader[Batch | Shared]):
    """A DataLoader whose workers fetch nothing until the first batch is requested."""

    # When training resumes, Lightning makes the iterator before it sets the sampler's epoch.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # torch promises its own class
        yield from super().__iter__()


def loader(
    part: Part,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    num_workers: int,
    device: torch.device,
    rank: Rank = ALONE,
) -> Batches | DataLoader[Batch | Shared]:
    """Return the batches of a part, which are the same whether it is in memory or lazy.

    Args:
        part: Part to iterate over.
        batch_size: Rows per batch over all ranks; the last batch may have fewer.
        shuffle: Draw a new order each epoch, a pure function of the seed and the epoch.
        seed: Seed of the run.
        num_workers: Processes that read a lazy part; 0 = the training process reads it.
        device: Device to which a part in memory is moved; lazy batches stay on the CPU.
        rank: Rank of this process among those that share each batch.
    """
    order = Order(len(part), shuffle=shuffle, seed=seed)
    if not isinstance(part.inputs, LazyInputs):
        inputs = part.inputs.to(device)
        targets = part.targets.to(device)
        return Batches(inputs, targets, order, batch_size=batch_size, rank=rank)
    if num_workers > 0:
        remove_folders_of_killed_readers()
    return _Lazy(
        _Rows(part, rank),
        batch_sampler=BatchSampler(order, batch_size, drop_last=False),
        collate_fn=_as_fetched,
        worker_init_fn=_begin_reading,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # A DataLoader draws a seed for its workers. If it came from the global generator, all
        # following dropout masks would change.
        generator=torch.Generator(),
    )


def _begin_reading(_worker: int) -> None:
    """Prepare a worker; stop signals are ignored, since the training process ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Tracebacks at a stop are noise; errors in the data are raised in the training process.
    sys.excepthook = lambda *_: None
    # Torch passes tensors through a socket in a folder that `multiprocessing` removes at the end of
    # the worker, unless it is killed. The lock has its name only once it is held, and is held until
    # the process ends.
    folder = Path(get_temp_dir())
    with suppress(OSError):
        lock_regular(folder / f".{LOCK}", wait=0.0)
        (folder / f".{LOCK}").rename(folder / LOCK)


def remove_folders_of_killed_readers() -> None:
    """Remove what workers of this user have left in the temporary folder that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"pymp-*/{LOCK}"):
        with suppress(OSError):  # its worker lives, or another process removes it
            if lock.parent.lstat().st_uid == os.getuid():
                descriptor = lock_regular(lock, wait=0.0)
                shutil.rmtree(lock.parent, ignore_errors=True)
                os.close(descriptor)


def _as_fetched(batch: Any) -> Any:
    return batch


def own_rows(rows: Tensor, rank: Rank) -> Tensor:
    """Return a rank's share of the rows of a batch, (own,); shares differ by one row at most."""
    return torch.tensor_split(rows, rank.world)[rank.number]


def rows_of_ranks(batches: Sequence[int], world: int) -> list[Tensor]:
    """Return the row numbers of each rank, (own,), in consecutive batches of the given sizes."""
    rows = torch.arange(sum(batches))
    rows_of_batches = torch.split(rows, list(batches))
    rows_by_rank = []
    for number in range(world):
        rank = Rank(number=number, world=world)
        shares = [own_rows(batch_rows, rank) for batch_rows in rows_of_batches]
        rows_by_rank.append(torch.cat([rows[:0], *shares]))
    return rows_by_rank
