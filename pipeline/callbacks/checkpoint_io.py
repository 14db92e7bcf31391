"""Targets of Lightning's checkpoints: a file that is replaced atomically, or memory."""

import os
import shutil
from collections.abc import Mapping
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

AS_WELL = "as_well"
"""Storage option: a second path that is to be the same file."""
ADOPTED = ("state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version", "pipeline")
"""What a run with another config takes from a checkpoint."""
KEPT = ("pytorch-lightning_version", "pipeline")
"""What is kept in memory beside the weights."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill leaves no half of it.

    Lightning's own writer copies over the target from the temporary folder, and finishes without
    a word where it may not write. Here the file is whole under its name when `save_checkpoint`
    returns, whatever kills the process then. Only for the disk itself, which matters when the
    power fails and for which a short epoch would wait as long as for several steps, a thread
    waits; the second path keeps an older file until then.

    Args:
        adopts: Whether what is read is another run's, of which only weights and epochs are taken.
    """

    def __init__(self, *, adopts: bool = False) -> None:
        super().__init__()
        self._adopts = adopts
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._synced: Future[None] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`.

        Args:
            checkpoint: Tensors and plain values.
            path: The file to make or replace.
            storage_options: `{AS_WELL: path}` lets that path be the same file.

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
        """Wait until all that was saved is on the disk.

        Raises:
            EnvironmentFaultError: It could not be written.
        """
        synced, self._synced = self._synced, None
        if synced is not None:
            synced.result()

    def teardown(self) -> None:
        """Wait for the disk, also after a signal has interrupted the training."""
        self._thread.submit(int).result()  # one thread does one thing after the other
        with suppress(EnvironmentFaultError):
            self.finish()

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint of ours, whatever the caller says about `weights_only`."""
        del weights_only
        content = read_checkpoint(Path(path), map_location=map_location)
        return adopted(content) if self._adopts else content


def adopted(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run with another config takes from a checkpoint: weights and epochs trained.

    The optimizer's state, the schedule and the callbacks would bring the old config's learning
    rate, patience and so on with them, whatever the new one says.
    """
    taken = {key: value for key, value in checkpoint.items() if key in ADOPTED}
    return {**taken, "optimizer_states": [], "lr_schedulers": [], "callbacks": {}}


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the file that `source` is now; a later `source` is another file."""
    if target.exists() and target.samefile(source):
        return  # renaming one name of a file to another of its names would leave both
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
    """Holds a copy of the newest weights that it was given."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Copy the weights; the states that going on would need are left out."""
        del path, storage_options
        self.content = {key: checkpoint[key] for key in KEPT}
        self.content["state_dict"] = {
            name: weight.detach().clone() for name, weight in checkpoint["state_dict"].items()
        }

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Return what is held."""
        del path, map_location, weights_only
        return self.content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Forget what is held."""
        del path
        self.content = {}
