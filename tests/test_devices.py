"""One device, the best that is there, or those that are named; else one line with what is there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fixture_types import Capture, Made, Patch, Train

from pipeline.base.errors import ConfigError, EnvironmentFaultError
from pipeline.base.processes.cpu import cores
from pipeline.config.options import TrainerOptions
from pipeline.running.devices import (
    OPERATIONS_PER_THREAD,
    Devices,
    Gpu,
    Present,
    available,
    choose,
    threads,
)

WORDS = ("model=mlp", "data=iris", "tracking=none", "verbose=2", "trainer.max_epochs=1")
NAME = "NVIDIA H100"
CORES = cores()

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
no_mps = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")


def machine(*free: int, **facts: Any) -> Present:
    """A machine of 64 cores whose GPUs have so much free memory."""
    gpus = tuple(Gpu(index=i, name=NAME, free_bytes=bytes_) for i, bytes_ in enumerate(free))
    return Present(cores=64, gpus=gpus, **facts)


APPLE = Present(cores=8, mps=True)


def taken(
    present: Present | None, devices: object = "auto", accelerator: str = "auto", **more: Any
) -> Devices:
    """What is taken; all but the devices as `trainer=auto` has it, `None` = of this machine."""
    usual = {"precision": "32-true", "strategy": "auto", "num_nodes": 1}
    asked = {"accelerator": accelerator, "devices": devices}
    return choose(TrainerOptions.model_construct(**{**usual, **asked, **more}), present)


def refused(present: Present | None, devices: object, accelerator: str = "auto") -> str:
    with pytest.raises(EnvironmentFaultError) as error:
        taken(present, devices, accelerator)
    (line,) = error.value.problems
    return line


# ── what is taken ───────────────────────────────────────────────────────────────────────────────


@no_gpu
@no_mps
@pytest.mark.parametrize("devices", ["auto", 1, [0]])
def test_machine_without_accelerator_trains_on_cpu(devices: object) -> None:
    device = taken(None, devices)
    assert (device.accelerator, device.count, device.world) == ("cpu", 1, 1)
    assert device.device_of(0) == torch.device("cpu")
    assert device.words == f"cpu; here: {available()}"


def named(*indices: int) -> str:
    return ", ".join(f"gpu {index} ({NAME})" for index in indices)


FOUR, HERE = machine(5, 80, 60, 70), "here: 4 gpu, 64 CPU cores"
SHOWN = "here: 2 gpu of CUDA_VISIBLE_DEVICES"
TAKEN: dict[str, tuple[Present, Sequence[object], object, str]] = {
    "the freest": (FOUR, [], [1], f"{named(1)}, the freest of 4; {HERE}"),
    "the freest where one is asked for": (
        FOUR,
        [1, "gpu"],
        [1],
        f"{named(1)}, the freest of 4; {HERE}",
    ),
    "one by name": (FOUR, [[0]], [0], f"{named(0)}; {HERE}"),
    "an Apple machine's before the CPU": (APPLE, [], 1, "mps; here: 1 mps, 8 CPU cores"),
    "the CPU where asked": (FOUR, ["auto", "cpu"], 1, f"cpu; {HERE}"),
    "what a variable shows": (
        machine(80, 90, variable="4,GPU-7f"),
        [],
        [1],
        f"{named(1)}, the freest of 2; {SHOWN}=4,GPU-7f, 64 CPU cores",
    ),
    "what a study's worker sees of those that were named": (
        machine(80, variable="3", placed=True),
        [[3]],
        [0],
        f"{named(0)}; here: 1 gpu of CUDA_VISIBLE_DEVICES=3, 64 CPU cores",
    ),
    "two in a worker of a study": (
        machine(80, 70, variable="2,5", placed=True),
        [[5, 2]],
        [0, 1],
        f"{named(0, 1)}; {SHOWN}=2,5, 64 CPU cores",
    ),
    "the freest two": (FOUR, [2], [1, 3], f"{named(1, 3)}, the freest of 4; {HERE}"),
    "the freest three": (FOUR, [3], [1, 2, 3], f"{named(1, 2, 3)}, the freest of 4; {HERE}"),
    "all": (FOUR, [4], [0, 1, 2, 3], f"{named(0, 1, 2, 3)}; {HERE}"),
    "two by name": (FOUR, [[2, 0]], [2, 0], f"{named(2, 0)}; {HERE}"),
    # Processes that were launched side by side come to the same GPUs.
    "the first two": (
        machine(5, 80, 70, launched=True),
        [2],
        [0, 1],
        f"{named(0, 1)}; here: 3 gpu, 64 CPU cores",
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_chosen_and_available_devices_are_reported(case: str) -> None:
    present, asked, devices, words = TAKEN[case]
    for strategy in ("auto", "ddp"):
        device = taken(present, *asked, strategy=strategy)  # type: ignore[arg-type] # two at most
        assert (device.devices, device.words) == (devices, words)
        assert device.strategy == ("ddp" if device.count > 1 else "auto")
    found = [str(device.device_of(local)) for local in range(device.count)]
    if isinstance(devices, list):
        assert found == [f"cuda:{index}" for index in devices]
    else:
        assert found == [words[:3]]


@no_gpu
def test_variable_that_hides_gpus_is_named(monkeypatch: Patch) -> None:
    assert str(machine(variable="")) == "0 gpu of CUDA_VISIBLE_DEVICES='', 64 CPU cores"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "has 0 gpu of CUDA_VISIBLE_DEVICES=-1, " in refused(None, "auto", "gpu")


def test_gpu_count_gives_distinct_gpus_or_refusal() -> None:
    for count in range(65):
        present = machine(*(index * 7919 % 101 for index in range(count)))
        for number in range(1, count + 1):
            devices = taken(present, number, "gpu").devices
            assert isinstance(devices, list)
            assert len(set(devices)) == number
            assert max(devices) < count
        for number in range(count + 1, 66):
            assert f"this machine has {present}" in refused(present, number, "gpu")


def test_cpu_processes_share_a_training() -> None:
    device = taken(machine(80), 3, "cpu", strategy="ddp_find_unused_parameters_true")
    assert (device.accelerator, device.devices, device.world) == ("cpu", 3, 3)
    assert device.strategy == "ddp_find_unused_parameters_true"
    assert device.device_of(2) == torch.device("cpu")
    assert device.words == "cpu × 3 processes; here: 1 gpu, 64 CPU cores"


def test_devices_of_several_machines_are_counted_together() -> None:
    device = taken(machine(80, 80), 2, num_nodes=3)
    assert (device.count, device.world, device.strategy) == (2, 6, "ddp")
    assert ", on each of 3 machines; here: 2 gpu" in device.words
    assert taken(machine(80), num_nodes=2).strategy == "ddp"


# ── what is not here ────────────────────────────────────────────────────────────────────────────


def test_too_many_devices_are_one_line_error() -> None:
    """It names the devices of this machine."""
    two, here = machine(80, 80), "is not available; this machine has"
    assert refused(two, 3) == f"trainer.devices=3 {here} 2 gpu, 64 CPU cores"
    counted = f"trainer.devices=[0, 2] {here} 2 gpu, 64 CPU cores, counted from 0"
    assert refused(two, [0, 2]) == counted
    assert refused(two, 65, "cpu") == f"trainer.devices=65 {here} 2 gpu, 64 CPU cores"
    assert refused(APPLE, 2) == f"trainer.devices=2 {here} 1 mps, 8 CPU cores"
    share = "trainer.accelerator=cpu trainer.devices=2 for processes on the CPU"
    for devices in (2, [0, 1]):  # without a GPU
        line = refused(machine(), devices)
        assert line.startswith(f"trainer.devices={devices} {here} 64 CPU cores")
        assert line.endswith(f". CPU processes can replace them: {share}")
        assert refused(machine(), devices, "gpu") == (
            f"trainer.accelerator=gpu {here} 64 CPU cores. Use trainer=auto for one device, or "
            f"{share}"
        )


ABSENT = f"is not available; this machine has {available()}"
NO_GPU_HERE = f"trainer.accelerator=gpu {ABSENT}. Use trainer="
REFUSED = {
    "trainer=gpu": f"{NO_GPU_HERE}cpu or trainer=auto",
    "trainer.accelerator=mps": f"trainer.accelerator=mps {ABSENT}. Use trainer=cpu or ",
    "trainer=ddp": f"{NO_GPU_HERE}auto for one device, or ",
    "trainer.devices=2": f"trainer.devices=2 {ABSENT}",
    "trainer.devices=[0,2]": f"trainer.devices=[0, 2] {ABSENT}",
    "trainer=cpu trainer.devices=9999": f"trainer.devices=9999 {ABSENT}",
    "trainer.precision=16-mixed": "trainer.precision=16-mixed is not supported on cpu",
    "trainer.precision=16-true": "trainer.precision=16-true is not supported on cpu",
    "trainer.strategy=dpp": "trainer.strategy=dpp is not supported: exact and reproducible "
    "metrics need the whole network in each process; expected one of auto, ddp, "
    "ddp_find_unused_parameters_true. Did you mean 'ddp'?",
}


@no_gpu
@no_mps
@pytest.mark.parametrize("words", REFUSED)
def test_unavailable_device_is_refused_before_the_run(
    train: Train, own_folder: Path, capsys: Capture, words: str
) -> None:
    says = REFUSED[words]
    assert train(*WORDS, *words.split()) == (3 if ABSENT in says else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")
    assert list(own_folder.iterdir()) == []


def test_precision_unsupported_by_accelerator_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision=64-true is not supported on mps; use 32-true"):
        taken(APPLE, precision="64-true")
    for precision in ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"):
        assert taken(machine(80), precision=precision).accelerator == "gpu"


# ── threads ─────────────────────────────────────────────────────────────────────────────────────


def test_threads_grow_with_work_per_step() -> None:
    assert threads(operations=0) == threads(operations=OPERATIONS_PER_THREAD) == 1
    assert threads(operations=1000 * OPERATIONS_PER_THREAD) == CORES
    assert threads(operations=1000 * OPERATIONS_PER_THREAD, processes=CORES) == 1


def test_threads_depend_on_network_and_batch_only(made: Made, capsys: Capture) -> None:
    before, found = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        try:
            made(*WORDS, "trainer=cpu", f"output={number}")
        finally:
            torch.set_num_threads(before)
        found += [one for one in capsys.readouterr().out.splitlines() if " · seed 0 · " in one]
    first, second = found
    assert first == second
    assert first.endswith(f" · seed 0 · cpu, 1 thread, {str(available()).replace('CPU ', '')}")
