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
        EnvironmentFaultError: The accelerator, or so many devices, are not here.
        ConfigError: A precision that the accelerator lacks, or several devices.
    """
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
    chosen = _choose_devices(kind, devices, present)
    count = chosen if isinstance(chosen, int) else len(chosen)
    taken = f"{count} × {kind}" if count > 1 else kind
    if kind == "gpu" and isinstance(chosen, list) and count == 1:
        taken = f"gpu {chosen[0]} ({torch.cuda.get_device_name(chosen[0])})"
    return Devices(accelerator=kind, devices=chosen, words=f"{taken}; here: {describe(present)}")


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


def _choose_devices(
    kind: str, devices: int | list[int] | str, present: dict[str, int]
) -> int | list[int]:
    if devices in ("auto", 1):
        return [_freest_gpu()] if kind == "gpu" else 1
    _require_devices(kind, devices, present)
    assert not isinstance(devices, str)
    return devices


def _require_devices(kind: str, devices: int | list[int] | str, present: dict[str, int]) -> None:
    # A rank on the CPU is a process: as many as asked for can run, if more than the cores slowly.
    limit = {"cpu": max(present["cpu"], 8)}.get(kind, present[kind])
    wanted = devices if isinstance(devices, int) else max(map(int, devices)) + 1
    if wanted > limit:
        raise EnvironmentFaultError(
            f"trainer.devices={devices} is more than is here ({describe(present)})"
        )


def _first(present: dict[str, int]) -> str:
    return next(kind for kind in ("gpu", "mps", "cpu") if kind in present)


def _freest_gpu() -> int:
    return max(range(torch.cuda.device_count()), key=lambda gpu: torch.cuda.mem_get_info(gpu)[0])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
