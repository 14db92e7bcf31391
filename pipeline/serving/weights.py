"""Whether saved weights are those of a network, told by their shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.config.record import flatten

Shape = tuple[int, ...]
PREFIX = "network."
"""Stands before the name of each of the network's weights in a file."""


def own_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's weights of a file, by the names that the network gives them."""
    return {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each weight, by name."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def shape_problem(
    path: Path, saved: Mapping[str, Shape], network: nn.Module, config: Mapping[str, Any]
) -> str | None:
    """Say which saved weight does not fit a network, or `None`.

    Args:
        path: The file.
        saved: Shape of each weight that it holds, by name.
        network: That is to take them.
        config: The run's, as the file holds it.
    """
    now = shapes_of(network.state_dict())
    for name in (*now, *saved):
        here, there = now.get(name), saved.get(name)
        if here != there:
            return (
                f"{path} has {_words(there)} at {name!r} where the network has {_words(here)}; "
                f"its config says {_model(config)}."
            )
    return None


def _words(shape: Shape | None) -> str:
    return "nothing" if shape is None else f"a weight of shape {'×'.join(map(str, shape)) or '1'}"


def _model(config: Mapping[str, Any]) -> str:
    values = flatten({"model": config["model"]}).items()
    return ", ".join(f"{key}={value}" for key, value in values if not key.endswith("_target_"))
