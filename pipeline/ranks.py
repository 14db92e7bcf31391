"""Which of the processes that train one network together this one is."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
HERE_ALONE = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
"""Variables by which ranks of one machine speak to each other without listening to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One of the processes that train together.

    Args:
        number: Its number among all of them, counted from 0.
        world: How many they are.
        local: Its number among those of its machine.
    """

    number: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether it is the one that records, prints and decides."""
        return self.number == 0


ALONE = Rank()


def launched_rank(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """Return the rank that torchrun or srun has given this process; `None` = nobody did.

    Args:
        environment: Its variables.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
    else:
        return None
    number, world, local = (int(environment[name]) for name in names)
    return Rank(number=number, world=world, local=local)
