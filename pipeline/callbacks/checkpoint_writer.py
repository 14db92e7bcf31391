"""Writes checkpoints: whole or not at all into files, or into memory."""

import math
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import NoneType
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.paths import replace_file, sync_file
from pipeline.callbacks.checkpoint_file import read_checkpoint, write_problem

#: Storage option of an epoch's checkpoint, which may wait: whether the epoch is the best so far.
IS_BEST = "is_best"
#: Keys of a checkpoint that a run with another config uses.
ADOPTED = ("state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version", "pipeline")
#: Keys of a checkpoint that are kept in memory beside the weights.
KEPT = ("pytorch-lightning_version", "pipeline")
IMMUTABLE = (str, int, float, bool, bytes, NoneType)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochCheckpoints:
    """What the two files of a run are to hold: the checkpoints of the newest and the best epoch.

    `best` is `None` if its file holds that epoch; it is the same object as `newest` if no earlier
    epoch was better.
    """

    newest: Mapping[str, Any]
    best: Mapping[str, Any] | None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill leaves no partial file.

    The checkpoint of an epoch is written once `seconds` have passed since the one before. Until
    then a copy waits in memory, which `write_waiting` writes; only a kill loses it. The file of the
    best epoch is never older than that of the newest one says.

    A file is complete under its name when a method returns. A thread waits for the disk, which
    matters only for a power cut and takes as long as several steps of a short epoch. Until then the
    file of the best epoch, which is often the same one, keeps its older content.

    Args:
        newest: File of the newest epoch.
        best: File of the best epoch.
        seconds: Shortest time between two checkpoints of epochs; 0 = each is written at once.
        adopts: Whether checkpoints that are read come from another run; then only the weights and
            the number of epochs are used.
    """

    def __init__(self, newest: Path, best: Path, *, seconds: float, adopts: bool = False) -> None:
        super().__init__()
        self._newest = newest
        self._best = best
        self._seconds = seconds
        self._adopts = adopts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._synced: Future[None] | None = None
        self._waiting: EpochCheckpoints | None = None
        self._written_at = -math.inf

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; with the storage option `IS_BEST`, it is an epoch's and may wait.

        Raises:
            EnvironmentFaultError: The disk is full or the folder can't be written.
        """
        is_best = (storage_options or {}).get(IS_BEST)
        if is_best is None:  # saved by a callback of the user's own
            self.finish()
            _write(checkpoint, Path(path), synced=True)
            return
        now = monotonic()
        is_due = now - self._written_at >= self._seconds
        # Training goes on to change the tensors of a checkpoint that waits.
        newest = checkpoint if is_due else copy_of(checkpoint)
        best = None if self._waiting is None else self._waiting.best
        if is_best:
            best = newest
        epochs = EpochCheckpoints(newest=newest, best=best)
        if is_due:
            # If this is interrupted, the checkpoints that wait are still there.
            self._write_epochs(epochs)
            self._written_at = now
        else:
            self._waiting = epochs

    def write_waiting(self) -> None:
        """Write the checkpoints that wait in memory, and wait until all are on the disk.

        Raises:
            EnvironmentFaultError: They could not be written.
        """
        if self._waiting is not None:
            self._write_epochs(self._waiting)
        self.finish()

    def _write_epochs(self, epochs: EpochCheckpoints) -> None:
        self.finish()
        is_best = epochs.best is epochs.newest
        if epochs.best is not None and not is_best:
            # Written first: a run that is killed here repeats the epochs up to this one.
            _write(epochs.best, self._best, synced=True)
        _write(epochs.newest, self._newest, synced=False)
        self._waiting = None
        self._synced = self._thread.submit(_sync, self._newest, self._best if is_best else None)

    def finish(self) -> None:
        """Wait until everything that was saved is on the disk.

        Raises:
            EnvironmentFaultError: It could not be written.
        """
        synced = self._synced
        self._synced = None
        if synced is not None:
            synced.result()

    def teardown(self) -> None:
        """Wait for the disk, even after a signal has interrupted the training.

        The executor doesn't know a thread whose start was interrupted; only `shutdown` ends it.
        """
        self._thread.shutdown()
        with suppress(EnvironmentFaultError):
            self.finish()

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint of this project, whatever the caller passes as `weights_only`.

        Its tensors lie in the memory of the host, as in Lightning, wherever they were saved from.
        """
        content = read_checkpoint(Path(path))
        if not self._adopts:
            return content
        # The states of optimizer, schedule and callbacks hold values of the old config, such as
        # the learning rate.
        adopted = {key: value for key, value in content.items() if key in ADOPTED}
        return {**adopted, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}}


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the current file of `source`; replacing `source` later does not change it."""
    if target.exists() and target.samefile(source):
        return  # renaming one name of a file to another name of it would leave both
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        beside.unlink()
    try:
        os.link(source, beside)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, beside)
    beside.replace(target)


def _write(checkpoint: Mapping[str, Any], target: Path, *, synced: bool) -> None:
    try:
        replace_file(target, lambda file: torch.save(checkpoint, file), synced=synced)
    except (OSError, RuntimeError) as error:
        raise EnvironmentFaultError(write_problem(target, error)) from error


def _sync(target: Path, linked: Path | None) -> None:
    try:
        sync_file(target)
        if linked is not None:
            link_or_copy(target, linked)
    except OSError as error:
        raise EnvironmentFaultError(write_problem(target, error)) from error


def copy_of(value: Any) -> Any:
    """Return a copy of nested values whose tensors lie in the memory of the host."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy(value)  # keeps the class, and the versions of modules in a `state_dict`
        for key, inner in value.items():
            copied[key] = copy_of(inner)
        return copied
    if type(value) in (list, tuple):
        return type(value)(map(copy_of, value))
    return value if isinstance(value, IMMUTABLE) else deepcopy(value)


class MemoryIO(CheckpointIO):
    """Holds a copy of the newest weights that were saved."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], *_: Any, **__: Any) -> None:
        """Copy the weights; the states that are only needed to resume are left out."""
        self.content = {key: checkpoint[key] for key in KEPT}
        self.content["state_dict"] = {
            name: weight.detach().clone() for name, weight in checkpoint["state_dict"].items()
        }

    def load_checkpoint(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Return the saved content."""
        return self.content

    def remove_checkpoint(self, *_: Any) -> None:
        """Discard the saved content."""
        self.content = {}
