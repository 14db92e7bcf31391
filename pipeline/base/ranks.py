"""The rank of this process among those that train one network together."""

import os
import sys
from dataclasses import dataclass

from pipeline.base.errors import ConfigError

_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
#: Variables that restrict the ranks of one machine to the loopback interface.
HERE_ALONE = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
#: Variables with a rank's number, world size and local number, by `launch_variable`.
_NAMES = {
    "TORCHELASTIC_RUN_ID": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One of the processes that train together.

    Args:
        number: Number among all processes, from 0.
        world: Number of processes on all machines.
        local: Number among the processes of its machine, from 0.
    """

    number: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that records, prints and decides."""
        return self.number == 0


ALONE = Rank()


def launched_rank() -> Rank | None:
    """Return the rank that torchrun or srun gave this process; `None` if neither started it.

    Raises:
        ConfigError: A variable of the rank is missing or invalid.
    """
    variable = launch_variable()
    if variable is None:
        return None
    names = _NAMES[variable]
    texts = [os.environ.get(name, "") for name in names]
    if all(text.isdecimal() for text in texts):
        number, world, local = map(int, texts)
        if max(number, local) < world:
            return Rank(number=number, world=world, local=local)
    settings = [f"{name}={text!r}" for name, text in zip(names, texts, strict=True)]
    raise ConfigError(
        f"the environment has an incomplete rank: {', '.join(settings)}; start the command "
        f"with torchrun or srun, or unset {variable}"
    )


def launch_variable() -> str | None:
    """Return the variable that torchrun or a step of srun sets in its processes, or `None`."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "TORCHELASTIC_RUN_ID"
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return "SLURM_STEP_NUM_TASKS"
    return None
