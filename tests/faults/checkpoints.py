"""Checkpoints and models that someone else has changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Change = Callable[[dict[str, Any]], object]

RESUMED = ("trainer.max_epochs=4", "scheduler=none", "tracking=none", "verbose=0")


def change_file(file: Path, change: Change) -> None:
    """Change the content of a checkpoint, and no other name of it: two may be one file."""
    content = torch.load(file, weights_only=True)
    change(content)
    file.unlink()
    torch.save(content, file)


def of_model(**values: object) -> Change:
    """Change options of the network in the config of a checkpoint."""
    return lambda content: content["pipeline"]["config"]["model"].update(values)
