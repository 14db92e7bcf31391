"""One device, the best that is there, or those that are named; else one line with what is there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.options import TrainerOptions
from pipeline.devices import (
    OPERATIONS_PER_THREAD,
    Devices,
    Gpu,
    Present,
    available,
    choose,
    threads,
)
from pipeline.errors import ConfigError, EnvironmentFaultError

Train = Callable[..., int]
WORDS = ("model=mlp", "data=iris", "tracking=none", "verbose=2", "trainer.max_epochs=1")
NAME = "NVIDIA H100"

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
no_mps = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(*free: int, **facts: object) -> Present:
    """A machine of 64 cores whose GPUs have so much free memory."""
    gpus = tuple(Gpu(index=i, name=NAME, free_bytes=bytes_) for i, bytes_ in enumerate(free))
    return Present(cores=64, gpus=gpus, **facts)  # type: ignore[arg-type] # the tests' own words


def wanted(accelerator: str, devices: int | list[int] | str, **more: object) -> TrainerOptions:
    """What a run asks for; all but the devices as `trainer=auto` has it."""
    others = {"precision": "32-true", "strategy": "auto", "num_nodes": 1, **more}
    return TrainerOptions.model_construct(accelerator=accelerator, devices=devices, **others)  # type: ignore[arg-type] # the tests' own words


def taken(
    present: Present,
    devices: int | list[int] | str = "auto",
    accelerator: str = "auto",
    **more: object,
) -> Devices:
    return choose(wanted(accelerator, devices, **more), present)


def refused(present: Present, devices: int | list[int] | str, accelerator: str = "auto") -> str:
    with pytest.raises(EnvironmentFaultError) as error:
        taken(present, devices, accelerator)
    (line,) = error.value.problems
    return line


# ── one device ──────────────────────────────────────────────────────────────────────────────────


@no_gpu
@no_mps
@pytest.mark.parametrize("devices", ["auto", 1, [0]])
def test_a_machine_without_accelerator_trains_on_its_cpu(devices: str | int | list[int]) -> None:
    device = choose(wanted("auto", devices))
    assert (device.accelerator, device.count, device.world) == ("cpu", 1, 1)
    assert device.device_of(0) == torch.device("cpu")
    assert device.words == f"cpu; here: {cores()} CPU cores"


@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
@pytest.mark.parametrize("devices", ["auto", 1])
@pytest.mark.parametrize("strategy", ["auto", "ddp"])
def test_the_one_gpu_with_most_free_memory_is_taken_and_the_others_are_told(
    accelerator: str, devices: str | int, strategy: str
) -> None:
    device = taken(machine(5, 70, 80, 70), devices, accelerator, strategy=strategy)
    assert (device.accelerator, device.devices, device.strategy) == ("gpu", [2], "auto")
    assert device.device_of(0) == torch.device("cuda", 2)
    assert device.words == f"gpu 2 ({NAME}), the freest of 4; here: 4 gpu, 64 CPU cores"


HIDDEN = "2 gpu of CUDA_VISIBLE_DEVICES=4,GPU-7f, 64 CPU cores"
PLACED = "1 gpu of CUDA_VISIBLE_DEVICES=3, 64 CPU cores"
TAKEN: dict[str, tuple[Present, tuple[Any, ...], object, str]] = {
    "a named GPU however full": (
        *(machine(80, 1, 80), ([1],), [1]),
        f"gpu 1 ({NAME}); here: 3 gpu, 64 CPU cores",
    ),
    "an Apple machine's before the CPU": (
        *(Present(cores=8, mps=True), (), 1),
        "mps; here: 1 mps, 8 CPU cores",
    ),
    "the CPU where asked": (
        *(machine(80), ("auto", "cpu"), 1),
        "cpu; here: 1 gpu, 64 CPU cores",
    ),
    "what a variable shows": (
        *(machine(80, 90, variable="4,GPU-7f"), (), [1]),
        f"gpu 1 ({NAME}), the freest of 2; here: {HIDDEN}",
    ),
    "what a study's worker sees of those that were named": (
        *(machine(80, variable="3", placed=True), ([3],), [0]),
        f"gpu 0 ({NAME}); here: {PLACED}",
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_taken_is_told_with_what_is_there(case: str) -> None:
    present, asked, devices, words = TAKEN[case]
    device = taken(present, *asked)
    assert (device.devices, device.words) == (devices, words)
    kind = {"gpu": "cuda"}.get(device.accelerator, device.accelerator)
    assert device.device_of(0).type == kind == {"g": "cuda"}.get(words[0], words[:3])


def test_a_variable_that_hides_all_gpus_is_told() -> None:
    assert str(machine(variable="")) == "0 gpu of CUDA_VISIBLE_DEVICES='', 64 CPU cores"


@no_gpu
def test_the_variable_of_this_process_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(EnvironmentFaultError, match=r"has 0 gpu of CUDA_VISIBLE_DEVICES=-1, "):
        choose(wanted("gpu", "auto"))


# ── several devices ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("devices", "indices", "freest"),
    [
        (2, [1, 3], ", the freest of 4"),
        (3, [1, 2, 3], ", the freest of 4"),
        (4, [0, 1, 2, 3], ""),
        ([2, 0], [2, 0], ""),
    ],
)
def test_several_gpus_are_the_freest_or_those_that_are_named(
    devices: int | list[int], indices: list[int], freest: str
) -> None:
    device = taken(machine(5, 80, 60, 70), devices)
    assert (device.devices, device.strategy) == (indices, "ddp")
    assert [device.device_of(local).index for local in range(device.count)] == indices
    named = ", ".join(f"gpu {index} ({NAME})" for index in indices)
    assert device.words == f"{named}{freest}; here: 4 gpu, 64 CPU cores"


@pytest.mark.parametrize("count", range(65))
def test_a_number_of_gpus_is_that_many_distinct_ones_or_a_refusal(count: int) -> None:
    present = machine(*(index * 7919 % 101 for index in range(count)))
    for number in range(1, 66):
        if number <= count:
            devices = taken(present, number, "gpu").devices
            assert isinstance(devices, list)
            assert len(set(devices)) == number
            assert max(devices) < count
        else:
            assert f"this machine has {present}" in refused(present, number, "gpu")


def test_processes_of_the_cpu_share_a_training_where_the_cpu_is_named() -> None:
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


def test_processes_that_were_launched_side_by_side_come_to_the_same_gpus() -> None:
    for free in ((5, 80, 70), (80, 5, 70)):
        assert taken(machine(*free, launched=True), 2).devices == [0, 1]


def test_in_a_worker_of_a_study_several_gpus_that_were_named_are_those_it_sees() -> None:
    assert taken(machine(80, 70, variable="2,5", placed=True), [5, 2]).devices == [0, 1]


# ── what is not here ────────────────────────────────────────────────────────────────────────────


def test_too_many_devices_are_one_line_with_those_that_are_there() -> None:
    two, apple = machine(80, 80), Present(cores=8, mps=True)
    here = "is not here; this machine has 2 gpu, 64 CPU cores"
    assert refused(two, 3) == f"trainer.devices=3 {here}"
    assert refused(two, [0, 2]) == f"trainer.devices=[0, 2] {here}, counted from 0"
    assert refused(two, 65, "cpu") == f"trainer.devices=65 {here}"
    assert refused(apple, 2) == "trainer.devices=2 is not here; this machine has 1 mps, 8 CPU cores"


@pytest.mark.parametrize("devices", [2, [0, 1]])
def test_several_devices_without_a_gpu_are_refused_with_the_way_to_share_the_cpu(
    devices: int | list[int],
) -> None:
    line = refused(machine(), devices)
    assert line.startswith(f"trainer.devices={devices} is not here; this machine has 64 CPU cores")
    assert line.endswith(
        ". The CPU can stand in for them: trainer.accelerator=cpu trainer.devices=2 for processes "
        "on the CPU"
    )
    assert refused(machine(), devices, "gpu") == (
        "trainer.accelerator=gpu is not here; this machine has 64 CPU cores. Use trainer=auto for "
        "one device, or trainer.accelerator=cpu trainer.devices=2 for processes on the CPU"
    )


HERE = f"is not here; this machine has {cores()} CPU cores"
NO_GPU_HERE = f"trainer.accelerator=gpu {HERE}. Use trainer=auto for one device, or "


@no_gpu
@no_mps
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("trainer=gpu", 3, f"trainer.accelerator=gpu {HERE}. Use trainer=cpu or trainer=auto"),
        ("trainer.accelerator=mps", 3, f"trainer.accelerator=mps {HERE}. Use trainer=cpu or "),
        ("trainer=ddp", 3, NO_GPU_HERE),
        ("trainer.devices=2", 3, f"trainer.devices=2 {HERE}"),
        ("trainer.devices=[0,2]", 3, f"trainer.devices=[0, 2] {HERE}"),
        ("trainer.devices=[3]", 3, f"trainer.devices=[3] {HERE}"),
        ("trainer=cpu trainer.devices=9999", 3, f"trainer.devices=9999 {HERE}"),
        ("trainer.precision=16-mixed", 2, "trainer.precision=16-mixed does not exist on cpu"),
        ("trainer.precision=16-true", 2, "trainer.precision=16-true does not exist on cpu"),
        (
            "trainer.strategy=dpp",
            2,
            "trainer.strategy=dpp is not offered: exact metrics and equal bits need the whole "
            "network in each process, and processes that don't replay the command; expected one "
            "of auto, ddp, ddp_find_unused_parameters_true. Did you mean 'ddp'?",
        ),
        ("trainer.strategy=fsdp", 2, "trainer.strategy=fsdp is not offered: "),
        ("trainer.strategy=ddp_spawn", 2, "trainer.strategy=ddp_spawn is not offered: "),
        ("trainer.strategy=deepspeed", 2, "trainer.strategy=deepspeed is not offered: "),
        ("trainer.num_nodes=0", 2, "trainer.num_nodes=0 is not allowed; expected a whole number"),
        (
            "trainer.use_distributed_sampler=false",
            2,
            "trainer.use_distributed_sampler can't be given here: devices share the rows by the "
            "program's own means.",
        ),
    ],
)
def test_what_is_not_here_or_can_never_be_is_one_line_before_anything_is_made(
    train: Train,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    code: int,
    says: str,
) -> None:
    assert train(*WORDS, *words.split()) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")
    assert list(own_folder.iterdir()) == []


def test_a_precision_is_refused_where_its_accelerator_lacks_it_alone() -> None:
    with pytest.raises(ConfigError, match=r"precision=64-true does not exist on mps; use 32-true"):
        taken(Present(cores=8, mps=True), precision="64-true")
    for precision in ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"):
        assert taken(machine(80), precision=precision).accelerator == "gpu"


# ── threads ─────────────────────────────────────────────────────────────────────────────────────


def test_threads_grow_with_the_work_of_a_step_up_to_the_cores() -> None:
    assert threads(operations=0) == 1
    assert threads(operations=OPERATIONS_PER_THREAD) == 1
    assert threads(operations=1000 * OPERATIONS_PER_THREAD) == cores()
    assert available().cores == cores()


def test_threads_are_a_function_of_network_and_batch_alone_and_told_with_the_device(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        try:
            assert train(*WORDS, "trainer=cpu") == 0
        finally:
            torch.set_num_threads(before)
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "; seed 0" in line)
        found.append(line)
    assert found[0] == found[1]
    assert "; on cpu; here: " in found[0]
    assert f"{cores()} CPU cores; 1 thread; seed 0" in found[0]
