"""One device, the best that is there; anything else is refused with what is there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.devices import OPERATIONS_PER_THREAD, available, choose, require_one_process, threads
from pipeline.errors import ConfigError, EnvironmentFaultError

Train = Callable[..., int]
WORDS = ("model=mlp", "data=iris", "tracking=none", "verbose=2", "trainer.max_epochs=1")

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
no_mps = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refusal(
    train: Train, capsys: pytest.CaptureFixture[str], folder: Path, *words: str
) -> tuple[int, str]:
    """The code and the only line of a command that is refused before anything is made."""
    code = train(*WORDS, *words)
    (line,) = capsys.readouterr().err.splitlines()
    assert list(folder.iterdir()) == []
    return code, line.removeprefix("error: ")


@no_gpu
@no_mps
@pytest.mark.parametrize("devices", ["auto", 1, [0]])
def test_a_machine_without_accelerator_trains_on_its_cpu(devices: str | int | list[int]) -> None:
    chosen = choose("auto", devices)
    assert (chosen.accelerator, chosen.count) == ("cpu", 1)
    assert chosen.torch_device == torch.device("cpu")
    assert chosen.words == f"cpu; here: {cores()} CPU cores"


def test_what_a_run_takes_and_what_else_is_there_is_said(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*WORDS, "trainer=cpu") == 0
    said = capsys.readouterr().out
    assert "; on cpu; here: " in said
    assert f"{cores()} CPU cores; 1 thread; seed 0" in said


@pytest.mark.parametrize(
    "trainer", [pytest.param("gpu", marks=no_gpu), pytest.param("mps", marks=no_mps)]
)
@pytest.mark.parametrize("how", ["trainer={}", "trainer.accelerator={}"])
def test_a_missing_accelerator_is_one_line_with_what_is_there(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str], trainer: str, how: str
) -> None:
    code, line = refusal(train, capsys, own_folder, how.format(trainer))
    assert code == 3
    assert line.startswith(f"trainer.accelerator={trainer} is not here; this machine has ")
    assert line.endswith(f"{cores()} CPU cores. Use trainer=cpu or trainer=auto")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("trainer.devices=2",), "2"),
        (("trainer.devices=99",), "99"),
        (("trainer.devices=[0,1]",), "[0, 1]"),
        (("trainer=ddp", "trainer.accelerator=cpu"), "2"),
        (("trainer=ddp",), "2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_several_devices_are_refused_by_this_version(
    train: Train,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    shown: str,
) -> None:
    code, line = refusal(train, capsys, own_folder, *words)
    assert code == 2
    assert line == (
        f"trainer.devices={shown} names several devices, which this version does not support; "
        "one is: trainer.devices=auto, or a list of one such as [0]."
    )


@pytest.mark.parametrize("devices", ["0", "-1", "x", "1.5", "null", "[]", "[-1]"])
def test_a_number_of_devices_that_means_nothing_is_refused(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str], devices: str
) -> None:
    code, line = refusal(train, capsys, own_folder, f"trainer.devices={devices}")
    assert code == 2
    assert line.startswith("trainer.devices")
    assert "expected" in line


@no_gpu
@no_mps
def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    words = rf"trainer.devices=\[3\] is not here; this machine has {cores()} CPU cores"
    with pytest.raises(EnvironmentFaultError, match=words):
        choose("auto", [3])


@no_gpu
@no_mps
@pytest.mark.parametrize("precision", ["16-mixed", "16-true"])
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_half_precision_on_the_cpu_is_refused(
    train: Train,
    own_folder: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    accelerator: str,
) -> None:
    words = (f"trainer.precision={precision}", f"trainer.accelerator={accelerator}")
    code, line = refusal(train, capsys, own_folder, *words)
    assert code == 2
    assert line.startswith(f"trainer.precision={precision} ")
    assert "bf16-mixed" in line


@pytest.mark.parametrize(
    ("nodes", "strategy", "words"),
    [
        (2, "auto", "trainer.num_nodes=2 is not supported by this version; one machine is"),
        (1, "ddp", "trainer.strategy=ddp is not supported by this version, which trains on one"),
        (1, "foo", "trainer.strategy=foo is not supported by this version, which trains on one"),
    ],
)
def test_several_processes_are_refused(nodes: int, strategy: str, words: str) -> None:
    require_one_process(1, "auto")
    with pytest.raises(ConfigError, match=words):
        require_one_process(nodes, strategy)


def test_threads_grow_with_the_work_of_a_step_up_to_the_cores() -> None:
    assert threads(operations=0) == 1
    assert threads(operations=OPERATIONS_PER_THREAD) == 1
    assert threads(operations=1000 * OPERATIONS_PER_THREAD) == cores()
    assert available()["cpu"] == cores()


def test_threads_are_a_function_of_network_and_batch_alone(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        try:
            assert train(*WORDS) == 0
        finally:
            torch.set_num_threads(before)
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "; seed 0" in line)
        found.append(line)
    assert found[0] == found[1]
