"""Writes checkpoints: whole or not at all into files, or into memory."""

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from pipeline.callbacks.checkpoint_file import read_checkpoint, write_problem
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import replace_file, sync_file

#: Storage option: a second path under which the same file appears.
AS_WELL = "as_well"
#: Keys of a checkpoint that a run with another config uses.
ADOPTED = ("state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version", "pipeline")
#: Keys of a checkpoint that are kept in memory beside the weights.
KEPT = ("pytorch-lightning_version", "pipeline")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill leaves no partial file.

    The file is complete under its name when `save_checkpoint` returns. A thread waits for the disk,
    which matters only for a power cut and takes as long as several steps of a short epoch. Until
    then the second path keeps an older file.

    Args:
        adopts: Whether checkpoints that are read come from another run; then only the weights and
            the number of epochs are used.
    """

    def __init__(self, *, adopts: bool = False) -> None:
        super().__init__()
        self._adopts = adopts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._synced: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint to a path; the storage option `{AS_WELL: path}` adds a second path.

        Raises:
            EnvironmentFaultError: The disk is full or the folder can't be written.
        """
        self.finish()
        target, as_well = Path(path), (storage_options or {}).get(AS_WELL)
        try:
            replace_file(target, lambda file: torch.save(checkpoint, file), synced=False)
        except (OSError, RuntimeError) as error:
            raise EnvironmentFaultError(write_problem(target, error)) from error
        self._synced = self._thread.submit(_sync, target, as_well)

    def finish(self) -> None:
        """Wait until everything that was saved is on the disk.

        Raises:
            EnvironmentFaultError: It could not be written.
        """
        synced, self._synced = self._synced, None
        if synced is not None:
            synced.result()

    def teardown(self) -> None:
        """Wait for the disk, even after a signal has interrupted the training.

        The executor doesn't know a thread whose start was interrupted; only `shutdown` ends it.
        """
        self._thread.shutdown()
        with suppress(EnvironmentFaultError):
            self.finish()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, *_: Any, **__: Any
    ) -> dict[str, Any]:
        """Read a checkpoint of this project, whatever the caller passes as `weights_only`."""
        content = read_checkpoint(Path(path), map_location=map_location)
        if not self._adopts:
            return content
        # The states of optimizer, schedule and callbacks hold values of the old config, such as
        # the learning rate.
        taken = {key: value for key, value in content.items() if key in ADOPTED}
        return {**taken, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}}


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


def _sync(target: Path, as_well: Path | None) -> None:
    try:
        sync_file(target)
        if as_well is not None:
            link_or_copy(target, as_well)
    except OSError as error:
        raise EnvironmentFaultError(write_problem(target, error)) from error


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
