"""Which accelerator a run takes, how many devices, and how many threads."""

from dataclasses import dataclass

import torch

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.machine import Present, available, cores, describe

OPERATIONS_PER_THREAD = 100_000_000
"""Multiplications and additions of a step below which a second thread costs more than it gives."""
LACKING = {"cpu": ("16-mixed", "16-true"), "mps": ("64-true",)}
"""Precisions that an accelerator does not have."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run asks for, in the words of its `trainer`.

    Args:
        accelerator: `auto` takes the GPU with most free memory, else MPS, else the CPU.
        devices: How many on each machine, which ones, or `auto` for one.
        precision: Lightning's name; `16-mixed` and `16-true` need an accelerator.
        strategy: `auto`, or Lightning's name of a kind of DDP.
        nodes: Machines that train together.
    """

    accelerator: str
    devices: int | list[int] | str
    precision: str = "32-true"
    strategy: str = "auto"
    nodes: int = 1

    @property
    def count(self) -> int:
        """How many devices that is on one machine."""
        if isinstance(self.devices, list):
            return len(self.devices)
        return self.devices if isinstance(self.devices, int) else 1


def choose(
    accelerator: str,
    devices: int | list[int] | str,
    *,
    precision: str = "32-true",
    strategy: str = "auto",
    nodes: int = 1,
) -> Devices:
    """Choose what to train on among what is here, as `chosen` does; the arguments are its words."""
    wanted = Wanted(
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        strategy=strategy,
        nodes=nodes,
    )
    return chosen(wanted, available())


def chosen(wanted: Wanted, present: Present) -> Devices:
    """Choose what to train on: one device unless more are named.

    Args:
        wanted: What the run asks for.
        present: What is there.

    Raises:
        EnvironmentFaultError: The accelerator, or so many devices, are not there.
        ConfigError: A precision that the accelerator lacks.
    """
    kind = _kind(wanted, present)
    if wanted.precision in LACKING.get(kind, ()):
        raise ConfigError(
            f"trainer.precision={wanted.precision} does not exist on {kind}; use 32-true or "
            "bf16-mixed there"
        )
    _require_enough(kind, wanted, present)
    devices = _indices(wanted, present) if kind == "gpu" else wanted.count
    taken = _words(kind, devices, wanted, present)
    several = "ddp" if wanted.strategy == "auto" else wanted.strategy
    return Devices(
        accelerator=kind,
        devices=devices,
        words=f"{taken}; here: {describe(present)}",
        nodes=wanted.nodes,
        strategy=several if wanted.count * wanted.nodes > 1 else "auto",
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


def _kind(wanted: Wanted, present: Present) -> str:
    if wanted.accelerator == "auto":
        return next(iter(present.counts))
    if wanted.accelerator in present.counts:
        return wanted.accelerator
    way = "Use trainer=cpu or trainer=auto"
    if wanted.count > 1:
        way = f"Use trainer=auto for one device, or {_among_processes(wanted)}"
    raise EnvironmentFaultError(
        f"trainer.accelerator={wanted.accelerator} is not here; this machine has "
        f"{describe(present)}. {way}"
    )


def _require_enough(kind: str, wanted: Wanted, present: Present) -> None:
    named = _named(wanted, present)
    last = wanted.count - 1 if named is None else max(named)
    # All cores are one device, unless processes are asked to share them.
    shares = wanted.accelerator == "cpu" and named is None
    there = 1 if kind == "cpu" and not shares else present.counts[kind]
    if last < there:
        return
    way = "" if named is None else ", counted from 0"
    if kind == "cpu" and wanted.count > 1 and not shares:
        way = f". The CPU can stand in for them: {_among_processes(wanted)}"
    raise EnvironmentFaultError(
        f"trainer.devices={wanted.devices} is not here; this machine has {describe(present)}{way}"
    )


def _among_processes(wanted: Wanted) -> str:
    return f"trainer.accelerator=cpu trainer.devices={wanted.count} for processes on the CPU"


def _named(wanted: Wanted, present: Present) -> list[int] | None:
    """Return the indices that are asked for; `None` = only a number, of the freest."""
    # A study has looked at the indices, and its workers see what these name, counted anew.
    return wanted.devices if isinstance(wanted.devices, list) and not present.placed else None


def _indices(wanted: Wanted, present: Present) -> list[int]:
    named = _named(wanted, present)
    if named is not None:
        return named
    # Processes that were started side by side must come to the same GPUs, one moment or another.
    order = present.gpus if present.launched else present.freest
    return sorted(gpu.index for gpu in order[: wanted.count])


def _words(kind: str, devices: int | list[int], wanted: Wanted, present: Present) -> str:
    if isinstance(devices, list):
        words = ", ".join(f"gpu {index} ({present.gpus[index].name})" for index in devices)
        is_choice = _named(wanted, present) is None and not present.launched
        if is_choice and len(devices) < len(present.gpus):
            words += f", the freest of {len(present.gpus)}"
    else:
        words = kind if devices == 1 else f"{kind} × {devices} processes"
    return words if wanted.nodes == 1 else f"{words}, on each of {wanted.nodes} machines"
