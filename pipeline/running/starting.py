"""Where a training starts from, told by its first rank: the others don't look for themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from pipeline.errors import ConfigError
from pipeline.running.plan import Plan
from pipeline.running.resuming import SavedCheckpoint, Start


def said(plan: Plan) -> dict[str, Any]:
    """Return what other ranks must know of a plan beside its config, as plain values."""
    checkpoint = plan.start.checkpoint
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "adopts": plan.start.parent is not None,
        "data": plan.prepared.content_hash,
    }


def start_of(saying: Mapping[str, Any]) -> Start:
    """Return the start of another rank, from what `said` gave; the first rank has looked at it."""
    if saying["checkpoint"] is None:
        return Start()
    saved = SavedCheckpoint(path=Path(saying["checkpoint"]), shapes={}, facts={})
    return Start(saved=saved, parent=saved.path.parent if saying["adopts"] else None)


def tell_start(plan: Plan) -> None:
    """Tell the ranks that torchrun or srun has started where to begin."""
    distributed.broadcast_object_list([said(plan)], src=0)


def told_start(plan: Plan) -> Start:
    """Return where the first rank begins.

    Raises:
        ConfigError: It has read other data.
    """
    heard: list[dict[str, Any]] = [{}]
    distributed.broadcast_object_list(heard, src=0)
    require_same_data(plan.rank.number, plan.prepared.content_hash, heard[0]["data"])
    return start_of(heard[0])


def require_same_data(number: int, own: str, first: str) -> None:
    """Refuse to train on other data than the first rank.

    Raises:
        ConfigError: The hashes differ.
    """
    if own != first:
        raise ConfigError(
            f"rank {number} has read other data than the first rank (hash {own[:12]} and "
            f"{first[:12]}): they change while they are read, or their source is not the same "
            "each time"
        )
