"""What this process may train on, and which accelerator, devices and threads a run takes of it."""

import os
from dataclasses import dataclass

import torch

from pipeline.config.options import TrainerOptions
from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.placement import PLACED, VARIABLE
from pipeline.ranks import launched_rank

OPERATIONS_PER_THREAD = 100_000_000
"""Multiplications and additions of a step below which a second thread costs more than it gives."""
LACKING = {"cpu": ("16-mixed", "16-true"), "mps": ("64-true",)}
"""Precisions that an accelerator does not have."""


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
    """Return what `available` found in words."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a run trains on.

    Args:
        accelerator: `cpu`, `gpu` or `mps`.
        devices: How many on each machine, or the indices of the GPUs.
        words: One line for people: what is taken, and what else is there.
        nodes: Machines that train together.
        strategy: Lightning's name of how devices share the work; `auto` = there is one.
    """

    accelerator: str
    devices: int | list[int]
    words: str
    nodes: int = 1
    strategy: str = "auto"

    @property
    def count(self) -> int:
        """How many devices that is on this machine."""
        return self.devices if isinstance(self.devices, int) else len(self.devices)

    @property
    def world(self) -> int:
        """How many devices that is on all machines together."""
        return self.count * self.nodes

    @property
    def torch_device(self) -> torch.device:
        """The device of the first process here, which holds its data."""
        return self.device_of(0)

    def device_of(self, local: int) -> torch.device:
        """Return the device of a process.

        Args:
            local: Its number among those of this machine, counted from 0.
        """
        if isinstance(self.devices, list):
            return torch.device("cuda", self.devices[local])
        return torch.device(self.accelerator)


def choose(wanted: TrainerOptions, present: Present | None = None) -> Devices:
    """Choose what to train on: one device unless more are named.

    Args:
        wanted: What the run asks for. Accelerator `auto` takes the GPU with most free memory, else
            MPS, else the CPU; devices `auto` is one.
        present: What is there; `None` = what this process sees.

    Raises:
        EnvironmentFaultError: The accelerator, or so many devices, are not there.
        ConfigError: A precision that the accelerator lacks.
    """
    present = available() if present is None else present
    kind, count = _kind(wanted, present), _count(wanted)
    if wanted.precision in LACKING.get(kind, ()):
        raise ConfigError(
            f"trainer.precision={wanted.precision} does not exist on {kind}; use 32-true or "
            "bf16-mixed there"
        )
    _require_enough(kind, wanted, present)
    devices = _indices(wanted, present) if kind == "gpu" else count
    taken = _words(kind, devices, wanted, present)
    several = "ddp" if wanted.strategy == "auto" else wanted.strategy
    return Devices(
        accelerator=kind,
        devices=devices,
        words=f"{taken}; here: {describe(present)}",
        nodes=wanted.num_nodes,
        strategy=several if count * wanted.num_nodes > 1 else "auto",
    )


def threads(*, operations: int) -> int:
    """Choose the threads of one process on the CPU.

    A function of the network and the batch on a given machine, never of its load: one and two
    threads add in another order and so train other weights.

    Args:
        operations: Multiplications and additions of one training step.
    """
    wanted = max(1, operations // OPERATIONS_PER_THREAD)
    return min(wanted, cores())


def _count(wanted: TrainerOptions) -> int:
    """Return how many devices are wanted on one machine."""
    devices = wanted.devices
    return len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices


def _kind(wanted: TrainerOptions, present: Present) -> str:
    if wanted.accelerator == "auto":
        return next(iter(present.counts))
    if wanted.accelerator in present.counts:
        return wanted.accelerator
    way = "Use trainer=cpu or trainer=auto"
    if _count(wanted) > 1:
        way = f"Use trainer=auto for one device, or {_among_processes(wanted)}"
    raise EnvironmentFaultError(
        f"trainer.accelerator={wanted.accelerator} is not here; this machine has "
        f"{describe(present)}. {way}"
    )


def _require_enough(kind: str, wanted: TrainerOptions, present: Present) -> None:
    named = _named(wanted, present)
    last = _count(wanted) - 1 if named is None else max(named)
    # All cores are one device, unless processes are asked to share them.
    shares = wanted.accelerator == "cpu" and named is None
    there = 1 if kind == "cpu" and not shares else present.counts[kind]
    if last < there:
        return
    way = "" if named is None else ", counted from 0"
    if kind == "cpu" and _count(wanted) > 1 and not shares:
        way = f". The CPU can stand in for them: {_among_processes(wanted)}"
    raise EnvironmentFaultError(
        f"trainer.devices={wanted.devices} is not here; this machine has {describe(present)}{way}"
    )


def _among_processes(wanted: TrainerOptions) -> str:
    return f"trainer.accelerator=cpu trainer.devices={_count(wanted)} for processes on the CPU"


def _named(wanted: TrainerOptions, present: Present) -> list[int] | None:
    """Return the indices that are asked for; `None` = only a number, of the freest."""
    # A study has looked at the indices, and its workers see what these name, counted anew.
    return wanted.devices if isinstance(wanted.devices, list) and not present.placed else None


def _indices(wanted: TrainerOptions, present: Present) -> list[int]:
    named = _named(wanted, present)
    if named is not None:
        return named
    # Processes that were started side by side must come to the same GPUs, one moment or another.
    order = present.gpus if present.launched else present.freest
    return sorted(gpu.index for gpu in order[: _count(wanted)])


def _words(kind: str, devices: int | list[int], wanted: TrainerOptions, present: Present) -> str:
    if isinstance(devices, list):
        words = ", ".join(f"gpu {index} ({present.gpus[index].name})" for index in devices)
        is_choice = _named(wanted, present) is None and not present.launched
        if is_choice and len(devices) < len(present.gpus):
            words += f", the freest of {len(present.gpus)}"
    else:
        words = kind if devices == 1 else f"{kind} × {devices} processes"
    return words if wanted.num_nodes == 1 else f"{words}, on each of {wanted.num_nodes} machines"
