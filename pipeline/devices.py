"""Which accelerator a run takes, how many devices and threads, and what else is there."""

import os
from dataclasses import dataclass

import torch

from pipeline.errors import ConfigError, EnvironmentFaultError

OPERATIONS_PER_THREAD = 100_000_000
"""Multiplications and additions of a step below which a second thread costs more than it gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a run trains on.

    Args:
        accelerator: `cpu`, `gpu` or `mps`.
        devices: How many, or the indices of the GPUs.
        words: One line for people: what is taken, and what else is there.
    """

    accelerator: str
    devices: int | list[int]
    words: str

    @property
    def count(self) -> int:
        """How many devices that is."""
        return self.devices if isinstance(self.devices, int) else len(self.devices)

    @property
    def torch_device(self) -> torch.device:
        """The device that holds the data: the first one."""
        if self.accelerator == "gpu":
            first = self.devices[0] if isinstance(self.devices, list) else 0
            return torch.device("cuda", first)
        return torch.device(self.accelerator)


def choose(
    accelerator: str, devices: int | list[int] | str, *, precision: str = "32-true"
) -> Devices:
    """Choose what to train on: one device unless more are named.

    Args:
        accelerator: `auto` takes the GPU with most free memory, else MPS, else the CPU.
        devices: How many, which ones, or `auto` for one.
        precision: Lightning's name; `16-mixed` and `16-true` need a GPU.

    Raises:
        EnvironmentFaultError: The accelerator, or the device, is not here.
        ConfigError: A precision that the accelerator lacks, or several devices.
    """
    _require_one(devices)
    present = available()
    kind = accelerator if accelerator != "auto" else _first(present)
    if kind not in present:
        raise EnvironmentFaultError(
            f"trainer.accelerator={accelerator} is not here; this machine has "
            f"{describe(present)}. Use trainer=cpu or trainer=auto"
        )
    if precision.startswith("16") and kind == "cpu":
        raise ConfigError(
            f"trainer.precision={precision} needs a GPU; on the CPU use 32-true or bf16-mixed"
        )
    chosen = _choose_one(kind, devices, present)
    taken = kind
    if isinstance(chosen, list):
        taken = f"gpu {chosen[0]} ({torch.cuda.get_device_name(chosen[0])})"
    return Devices(accelerator=kind, devices=chosen, words=f"{taken}; here: {describe(present)}")


def require_one_process(nodes: int, strategy: str) -> None:
    """Refuse to share a training among processes.

    Args:
        nodes: Machines, `trainer.num_nodes`.
        strategy: Lightning's name of how devices share the work, `trainer.strategy`.

    Raises:
        ConfigError: More than one machine, or a strategy for several devices.
    """
    if nodes != 1:
        raise ConfigError(
            f"trainer.num_nodes={nodes} is not supported by this version; one machine is: "
            "trainer.num_nodes=1."
        )
    if strategy != "auto":
        raise ConfigError(
            f"trainer.strategy={strategy} is not supported by this version, which trains on one "
            "device; expected auto."
        )


def available() -> dict[str, int]:
    """Count the devices of each kind on this machine; the CPU's are its cores."""
    present = {"cpu": _cores()}
    if torch.cuda.is_available():
        present["gpu"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        present["mps"] = 1
    return present


def describe(present: dict[str, int]) -> str:
    """Write what `available` found in words."""
    words = [f"{count} {kind}" for kind, count in present.items() if kind != "cpu"]
    return ", ".join([*words, f"{present['cpu']} CPU cores"])


def threads(*, operations: int) -> int:
    """Choose the threads of one process on the CPU.

    A function of the network and the batch on a given machine, never of its load: one and two
    threads add in another order and so train other weights.

    Args:
        operations: Multiplications and additions of one training step.
    """
    wanted = max(1, operations // OPERATIONS_PER_THREAD)
    return min(wanted, _cores())


def _require_one(devices: int | list[int] | str) -> None:
    count = len(devices) if isinstance(devices, list) else devices
    if count not in ("auto", 1):
        raise ConfigError(
            f"trainer.devices={devices} names several devices, which this version does not "
            "support; one is: trainer.devices=auto, or a list of one such as [0]."
        )


def _choose_one(
    kind: str, devices: int | list[int] | str, present: dict[str, int]
) -> int | list[int]:
    if not isinstance(devices, list):
        return [_freest_gpu()] if kind == "gpu" else 1
    # The cores of a CPU are one device.
    if devices[0] >= (1 if kind == "cpu" else present[kind]):
        raise EnvironmentFaultError(
            f"trainer.devices={devices} is not here; this machine has {describe(present)}, "
            "counted from 0"
        )
    return devices if kind == "gpu" else 1


def _first(present: dict[str, int]) -> str:
    return next(kind for kind in ("gpu", "mps", "cpu") if kind in present)


def _freest_gpu() -> int:
    return max(range(torch.cuda.device_count()), key=lambda gpu: torch.cuda.mem_get_info(gpu)[0])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
