"""What this process may train on: the GPUs that it sees, the cores that it may use."""

import os
from dataclasses import dataclass

import torch

from pipeline.placement import PLACED, VARIABLE
from pipeline.ranks import launched_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A CUDA GPU as this process sees it.

    Args:
        index: Its number among those that are visible, counted from 0.
        name: Its maker's name.
        free_bytes: Memory that nobody has taken.
    """

    index: int
    name: str
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What this process may train on.

    Args:
        cores: Cores of the CPU.
        gpus: GPUs that are visible, by their indices.
        mps: Whether there is the GPU of an Apple machine.
        variable: CUDA_VISIBLE_DEVICES; `None` = it is not set.
        placed: A study has chosen the GPUs of this process, which sees no others.
        launched: torchrun or srun has started it beside others, which choose their GPUs as well.
    """

    cores: int
    gpus: tuple[Gpu, ...] = ()
    mps: bool = False
    variable: str | None = None
    placed: bool = False
    launched: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """How many devices of each kind there are, the best kind first."""
        found = {"gpu": len(self.gpus), "mps": int(self.mps), "cpu": self.cores}
        return {kind: count for kind, count in found.items() if count}

    @property
    def freest(self) -> list[Gpu]:
        """The GPUs, those with most free memory first."""
        return sorted(self.gpus, key=lambda gpu: -gpu.free_bytes)


def available() -> Present:
    """Ask torch what this process may train on."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Present(
        cores=cores(),
        gpus=tuple(
            Gpu(index=index, name=torch.cuda.get_device_name(index), free_bytes=_free(index))
            for index in range(count)
        ),
        mps=torch.backends.mps.is_available(),
        variable=os.environ.get(VARIABLE),
        placed=PLACED in os.environ,
        launched=launched_rank() is not None,
    )


def cores() -> int:
    """Return how many cores of the CPU this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(present: Present) -> str:
    """Write what `available` found in words."""
    words = []
    if present.gpus or present.variable is not None:
        whose = "" if present.variable is None else f" of {VARIABLE}={present.variable or repr('')}"
        words.append(f"{len(present.gpus)} gpu{whose}")
    if present.mps:
        words.append("1 mps")
    return ", ".join([*words, f"{present.cores} CPU cores"])


def _free(index: int) -> int:
    try:
        return torch.cuda.mem_get_info(index)[0]
    except RuntimeError:  # a GPU that others fill, or have to themselves, can't even be asked
        return 0
