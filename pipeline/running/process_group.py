"""The group of processes that train one network together, each on a device of its own.

The first of them tells the others where the training starts from; they don't look for themselves.
"""

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed
from torch._C._distributed_c10d import FileStore

from pipeline.devices import Devices
from pipeline.errors import ConfigError
from pipeline.ranks import HERE_ALONE, Rank
from pipeline.running.plan import Plan
from pipeline.running.resuming import SavedCheckpoint, Start

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others, one of which may compile its network or read its data."""


@contextmanager
def process_group(rank: Rank, devices: Devices, meeting: Path | None) -> Iterator[None]:
    """Let this process be one of those that train together while the body runs.

    Args:
        rank: Which of them.
        devices: What they train on.
        meeting: File in which ranks of this machine find each other; `None` = they were started by
            torchrun or srun, which says in the environment where they meet.
    """
    if rank.world == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if devices.accelerator == "gpu" else "gloo",
        init_method=_given_address() if meeting is None else None,
        store=None if meeting is None else FileStore(str(meeting), rank.world),
        rank=rank.number,
        world_size=rank.world,
        timeout=PATIENCE,
    )
    with ExitStack() as stack:
        # Ranks that torchrun has started stay together: they can't be sure to meet again there.
        at_the_end = atexit.register if meeting is None else stack.callback
        at_the_end(distributed.destroy_process_group)
        yield


def is_cut(error: BaseException) -> bool:
    """Tell whether an error says no more than that another rank is gone."""
    words = str(error)
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in words or "NCCL" in words)
    )


def keep_to_this_machine() -> None:
    """Let nothing listen on the network where all ranks are here."""
    for name, interface in HERE_ALONE.items():
        os.environ.setdefault(name, interface)


def _given_address() -> str:
    """Return where ranks meet that torchrun or srun has started."""
    if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return "env://"
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    # Not its constructor, which refuses a job that says --ntasks and no --ntasks-per-node.
    nodes = os.environ.get("SLURM_NODELIST", "127.0.0.1")
    address = os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
    port = os.environ.get("MASTER_PORT") or 15_000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])
    return f"tcp://{address}:{port}"


def start_message(plan: Plan) -> dict[str, Any]:
    """Return what other ranks must know of a plan beside its config, as plain values."""
    checkpoint = plan.start.checkpoint
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "adopts": plan.start.parent is not None,
        "data": plan.prepared.content_hash,
    }


def start_from(message: Mapping[str, Any]) -> Start:
    """Return the start that `start_message` told of; the first rank has read its checkpoint."""
    if message["checkpoint"] is None:
        return Start()
    saved = SavedCheckpoint(path=Path(message["checkpoint"]), shapes={}, facts={})
    return Start(saved=saved, parent=saved.path.parent if message["adopts"] else None)


def send_start(plan: Plan) -> None:
    """Tell the ranks that torchrun or srun has started where to begin."""
    distributed.broadcast_object_list([start_message(plan)], src=0)


def received_start(plan: Plan) -> Start:
    """Return where the first rank begins.

    Raises:
        ConfigError: It has read other data.
    """
    messages: list[dict[str, Any]] = [{}]
    distributed.broadcast_object_list(messages, src=0)
    require_same_data(plan.rank.number, plan.prepared.content_hash, messages[0]["data"])
    return start_from(messages[0])


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
