"""The devices of a study's workers: which a study may name, and what each worker is shown."""

import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from spaces import checked, study

from pipeline.config.compose import composer
from pipeline.devices import Gpu, Present
from pipeline.placement import Seat
from pipeline.study.hiring import hiring
from pipeline.study.plan import StudyPlan, make_study_plan
from pipeline.study.space.trial_devices import device_problems
from pipeline.study.workers.crew import Worker
from pipeline.study.workers_that_fit import BYTES_A_PROCESS, cards_of
from pipeline.sweep import main as sweep

LR = "optimizer.lr=tag(log, interval(1e-3, 1e-1))"
SMALL = ("model=mlp", "data=iris", "tracking=none")


def planned(*words: str) -> StudyPlan:
    lines = checked(*SMALL, LR, "trainer=cpu", *words)
    with composer("sweep", None) as source:
        return make_study_plan(source.tree(lines), lines, None)


def problems(*words: str, together: int = 1) -> list[str]:
    space, trees = study(*SMALL, *words)
    return device_problems(space, trees, devices_per_trial=together)


def single_run(devices: str, count: int) -> str:
    return (
        f"trainer.devices={devices} is for a single run; in a study "
        f"sweep.devices_per_trial={count} lets so many devices train each trial together, and "
        "CUDA_VISIBLE_DEVICES says which GPUs its trials may take"
    )


def contradiction(devices: int) -> str:
    return (
        f"trainer.devices={devices} and sweep.devices_per_trial=2 contradict each other; leave "
        "trainer.devices away"
    )


# ── what a study may say ────────────────────────────────────────────────────────────────────────


def test_a_sweep_that_names_several_devices_is_refused_before_anything_is_made(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep([*SMALL, LR, "trainer=cpu", "trainer.devices=2"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: {single_run('2', 2)}"]
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "together", "lines"),
    [
        (("trainer.devices=[0,2]",), 1, [single_run("[0, 2]", 2)]),
        (("trainer=choice(cpu, ddp)",), 1, [single_run("2", 2)]),
        (
            ("trainer.devices=choice(1, 3)", "trainer.num_nodes=2"),
            2,
            [
                "trainer.num_nodes=2 is for a single run; a trial of a study trains on one "
                "machine: trainer.num_nodes=1",
                contradiction(1),
                contradiction(3),
            ],
        ),
        (("trainer.devices=[3]",), 1, []),
        (("trainer.devices=2",), 2, []),
        (("trainer.devices=auto",), 2, []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_devices_of_a_single_run_are_refused_wherever_a_study_names_them(
    words: tuple[str, ...], together: int, lines: list[str]
) -> None:
    assert problems(LR, *words, together=together) == lines


# ── how many workers, and where ─────────────────────────────────────────────────────────────────


def test_workers_of_the_cpu_are_as_many_as_asked_or_as_its_cores_have_threads_for() -> None:
    cores = len(psutil.Process().cpu_affinity())
    assert planned("sweep.workers=7").seats == (Seat(),) * 7
    assert planned().workers == cores
    assert planned("sweep.devices_per_trial=2").workers == max(1, cores // 2)
    assert planned(f"trainer.threads={cores}", "sweep.devices_per_trial=2").workers == 1


def test_gpus_are_taken_by_free_memory_or_as_they_are_named_each_by_what_cuda_calls_it() -> None:
    gibibytes = (2, 80, 0, 5)
    gpus = tuple(
        Gpu(index=index, name="H100", free_bytes=free * BYTES_A_PROCESS + 1000)
        for index, free in enumerate(gibibytes)
    )
    present = Present(cores=8, gpus=gpus, variable="GPU-a, GPU-b, GPU-c, GPU-d, 9")
    cards = cards_of(present, None, parameters=10)
    assert [(card.index, card.name, card.room) for card in cards] == [
        (1, "GPU-b", 4),
        (3, "GPU-d", 4),
        (0, "GPU-a", 2),
        (2, "GPU-c", 0),
    ]
    large = cards_of(present, None, parameters=2**26)  # its weights and moments take 2 GiB more
    assert [card.room for card in large] == [4, 1, 0, 0]
    named = cards_of(present, [2, 0], parameters=10)
    assert [card.name for card in named] == ["GPU-c", "GPU-a"]


def shown(worker: Worker) -> str | None:
    """What a worker's process says of GPUs, once it has been started."""
    worker.start()
    process = psutil.Process(worker.pid)
    try:
        while not (environment := process.environ()):  # the moment in which it becomes Python
            time.sleep(0.01)
        return environment.get("CUDA_VISIBLE_DEVICES")
    finally:
        worker.kill()
        worker.quit()


def test_each_worker_and_its_successor_see_the_gpus_of_their_slot_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    on_the_cpu = planned("sweep.workers=1")
    seats = (Seat(cards=("4",)), Seat(cards=("GPU-7", "GPU-9")))
    hire = hiring(replace(on_the_cpu, seats=seats))
    assert [shown(hire(slot)) for slot in (0, 1, 1, 0)] == ["4", "GPU-7,GPU-9", "GPU-7,GPU-9", "4"]
    assert shown(hire(2)) == "4"
    assert shown(hiring(on_the_cpu)(0)) is None
