"""Writes the folder `model/` that a finished run leaves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline import __version__
from pipeline.callbacks.checkpoint_file import FORMAT
from pipeline.paths import replace_file, replace_text
from pipeline.serving.files import EXAMPLE, FILE, INTERFACE
from pipeline.serving.weights import PREFIX


def save_model(
    folder: Path,
    network: nn.Module,
    facts: Mapping[str, Any],
    *,
    interface: Mapping[str, Any],
    example: Any,
) -> None:
    """Write weights, what describes them, what goes in and comes out, and an example of it.

    Args:
        folder: Made where it is missing.
        network: Whose weights are kept.
        facts: Plain values: `config`, `schema`, `decision`, `data`, `epoch`, `name`, …
        interface: Inputs and outputs, of `pipeline.serving.answers.interface`.
        example: A few raw rows that JSON can hold.
    """
    folder.mkdir(mode=0o750, exist_ok=True)
    weights = {f"{PREFIX}{name}": value.cpu() for name, value in network.state_dict().items()}
    content = {
        "state_dict": weights,
        "pipeline": {"format": FORMAT, "version": __version__, **facts},
    }
    replace_file(folder / FILE, lambda file: torch.save(content, file))
    for name, value in ((INTERFACE, interface), (EXAMPLE, example)):
        replace_text(folder / name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
