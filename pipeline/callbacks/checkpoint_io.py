"""Writing a checkpoint: the old one or the whole new one is there at any moment."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from pipeline.callbacks.adoption import adopted
from pipeline.callbacks.checkpoint_file import read_checkpoint, write_problem
from pipeline.errors import EnvironmentFaultError
from pipeline.paths import replace_file


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it, so that a kill leaves no half of it.

    Lightning's own writer copies over the target from the temporary folder, and finishes without
    a word where it may not write.

    Args:
        adopts: Whether what is read is another run's, of which only weights and epochs are taken.
    """

    def __init__(self, *, adopts: bool = False) -> None:
        super().__init__()
        self._adopts = adopts

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            EnvironmentFaultError: The disk is full or the folder can't be written.
        """
        del storage_options
        target = Path(path)
        try:
            replace_file(target, lambda file: torch.save(checkpoint, file))
        except (OSError, RuntimeError) as error:
            raise EnvironmentFaultError(write_problem(target, error)) from error

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
