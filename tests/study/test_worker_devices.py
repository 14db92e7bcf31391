"""Which GPUs each worker of a study gets, on machines of 0 to 64, none of which need be there."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, product

import psutil
import pytest
from helpers.fixture_types import Patch
from study.spaces import checked, study

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.cpu import cores
from pipeline.config.composer import Composer
from pipeline.config.options import SweepOptions, TrainerOptions
from pipeline.running.devices import (
    BYTES_PER_PROCESS,
    WORKERS_PER_GPU,
    Gpu,
    Present,
    WorkerGpus,
    placement,
    visible_devices,
    worker_devices,
)
from pipeline.study.messages import WorkerDied
from pipeline.study.planning import make_study_plan
from pipeline.study.study_check import device_problems
from pipeline.study.study_plan import StudyPlan
from pipeline.study.workers.pool import WorkerPool, worker_pool
from pipeline.study.workers.worker import WORKER

LR = "optimizer.lr=tag(log, interval(1e-3, 1e-1))"
SMALL = ("model=mlp", "data=iris", "tracking=none")
SIZES = range(65)
PLENTY = 1000


def plan_of(*words: str) -> StudyPlan:
    lines = checked(*SMALL, LR, "trainer=cpu", *words)
    return make_study_plan(Composer("sweep").tree(lines), lines, None)


def gpus(count: int, *, room: int = WORKERS_PER_GPU) -> list[Gpu]:
    """So many GPUs, each with room for so many workers of one byte."""
    return [
        Gpu(index=index, name="H100", free_bytes=room, entry=str(index)) for index in range(count)
    ]


def gpus_of_workers(
    free_gpus: Sequence[Gpu], *, workers: int | None = None, together: int = 1, most: int = 1
) -> tuple[WorkerGpus, ...]:
    """The GPUs of each worker, of one byte each."""
    return placement(
        free_gpus, bytes_each=1, workers=workers, devices_per_trial=together, most=most
    )[0]


# ── what a study may say ────────────────────────────────────────────────────────────────────────


SINGLE_RUN = (
    "trainer.devices={0} is for a single run; in a study, sweep.devices_per_trial={1} sets the "
    "devices of each trial, and CUDA_VISIBLE_DEVICES the GPUs of all trials"
)
CONTRADICTION = (
    "trainer.devices={0} and sweep.devices_per_trial=2 are in conflict; remove trainer.devices"
)
NODES = (
    "trainer.num_nodes=2 is for a single run; a trial of a study trains on one machine: "
    "trainer.num_nodes=1"
)


@pytest.mark.parametrize(
    ("words", "together", "lines"),
    [
        ("trainer.devices=2", 1, [SINGLE_RUN.format(2, 2)]),
        ("trainer.devices=[0,2]", 1, [SINGLE_RUN.format([0, 2], 2)]),
        ("trainer=choice(cpu,ddp)", 1, [SINGLE_RUN.format(2, 2)]),
        (
            "trainer.devices=choice(1,3) trainer.num_nodes=2",
            2,
            [NODES, CONTRADICTION.format(1), CONTRADICTION.format(3)],
        ),
        ("trainer.devices=[3]", 1, []),
        ("trainer.devices=2", 2, []),
        ("trainer.devices=auto", 2, []),
    ],
)
def test_single_run_devices_are_refused_in_a_study(
    words: str, together: int, lines: list[str]
) -> None:
    space, trees = study(*SMALL, LR, *words.split())
    assert device_problems(space, trees, devices_per_trial=together) == lines


# ── how many workers, and where ─────────────────────────────────────────────────────────────────


def test_cpu_workers_follow_option_or_free_cores() -> None:
    assert plan_of("sweep.workers=7").gpus == ((),) * 7
    assert plan_of().workers == cores()
    assert plan_of("sweep.devices_per_trial=2").workers == max(1, cores() // 2)
    assert plan_of(f"trainer.threads={cores()}", "sweep.devices_per_trial=2").workers == 1


@pytest.mark.parametrize(
    ("named", "parameters", "entries"),
    [
        ("auto", 10, "bdabdabdbd"),
        ("auto", 2**26, "bdbbb"),  # weights and moments of 2 GiB more leave room for fewer
        ([2, 0], 10, "aa"),
    ],
)
def test_gpus_are_chosen_by_memory_or_name(named: object, parameters: int, entries: str) -> None:
    present_gpus = tuple(
        Gpu(index=index, name="H100", free_bytes=free * BYTES_PER_PROCESS + 1000, entry=entry)
        for index, (entry, free) in enumerate(zip("abcd", (2, 80, 0, 5), strict=True))
    )
    chosen = worker_devices(
        SweepOptions.model_construct(workers=None, devices_per_trial=1, launcher="local"),
        TrainerOptions.model_construct(threads=None, devices=named),
        accelerator="gpu",
        parameters=parameters,
        present=Present(cores=80, gpus=present_gpus),
    )
    assert chosen == (tuple((entry,) for entry in entries), ())


@pytest.mark.parametrize("count", SIZES[1:])
def test_workers_share_gpus_evenly_if_too_few(count: int) -> None:
    for workers in range(1, 2 * count + 3):
        placed_gpus = gpus_of_workers(gpus(count), workers=workers, most=count)
        uses = Counter(chain(*placed_gpus))
        assert (len(placed_gpus), len(uses)) == (workers, min(workers, count))
        assert max(uses.values()) - min(uses.values()) <= 1
    for most in (1, 2, count, PLENTY):  # without a number of workers, four share one at most
        placed_gpus = gpus_of_workers(gpus(count), most=most)
        assert len(placed_gpus) == min(most, WORKERS_PER_GPU * count)
        assert max(Counter(placed_gpus).values()) <= WORKERS_PER_GPU


@pytest.mark.parametrize("together", [2, 3, 4, 8])
def test_gpu_groups_never_overlap(together: int) -> None:
    """As many are formed as there is room for."""
    for count, workers in product(range(together, 65), (None, 1, 2, 7, 64)):
        groups = gpus_of_workers(gpus(count), workers=workers, together=together, most=PLENTY)
        assert len(groups) == min(workers or PLENTY, count // together)
        assert {len(members) for members in groups} == {together}
        assert set(Counter(chain(*groups)).values()) == {1}
    for count, group in [(0, 1), *((count, together) for count in range(together))]:
        says = rf"_per_trial={group} needs {group} GPUs .* {count}"
        with pytest.raises(EnvironmentFaultError, match=says):
            gpus_of_workers(gpus(count), together=group, most=PLENTY)


def test_freest_gpus_are_used_and_neighbours_grouped() -> None:
    freest_first = [replace(gpus(1)[0], index=i, entry=f"GPU-{i}") for i in (3, 0, 2, 1)]
    assert gpus_of_workers(freest_first, workers=2) == (("GPU-3",), ("GPU-0",))
    assert gpus_of_workers(freest_first, workers=1, together=2) == (("GPU-0", "GPU-3"),)
    pairs = gpus_of_workers(freest_first, workers=2, together=2)
    assert pairs == (("GPU-0", "GPU-1"), ("GPU-2", "GPU-3"))


def test_full_gpu_is_unused_unless_all_are() -> None:
    present_gpus = [gpus(1, room=2)[0], gpus(2, room=0)[1]]
    assert gpus_of_workers(present_gpus, most=9) == (("0",), ("0",))
    assert gpus_of_workers(present_gpus, workers=1) == (("0",),)
    for together in (1, 2):
        assert gpus_of_workers(gpus(4, room=0), together=together, most=9) == (
            ("0", "1")[:together],
        )


@pytest.mark.parametrize(
    ("count", "workers", "together", "note"),
    [
        (6, 3, 2, None),
        (4, 4, 1, None),
        (
            *(6, 4, 2),
            "sweep.workers=4 with sweep.devices_per_trial=2 needs 8 GPUs; there are 6, so 3 "
            "train at a time",
        ),
        (2, 7, 1, "sweep.workers=7 share 2 of 2 GPUs, up to 4 per GPU"),
    ],
)
def test_too_few_or_shared_gpus_are_reported(
    count: int, workers: int, together: int, note: str | None
) -> None:
    options = {"workers": workers, "devices_per_trial": together}
    assert placement(gpus(count), bytes_each=1, most=1, **options)[1] == ((note,) if note else ())


# ── what a worker is shown ──────────────────────────────────────────────────────────────────────


def started(pool: WorkerPool, *, workers: int) -> list[tuple[psutil.Process, str | None]]:
    """Workers and what they are told of GPUs, the oldest first."""
    pool.start(workers)
    pairs = []
    for process in sorted(psutil.Process().children(), key=lambda child: child.create_time()):
        while not process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)  # the moment in which it becomes Python
        if WORKER in process.cmdline():
            pairs.append((process, process.environ().get("CUDA_VISIBLE_DEVICES")))
    return pairs


def visible_variables(pool: WorkerPool, *, workers: int) -> list[str | None]:
    return [variable for _, variable in started(pool, workers=workers)]


def test_workers_see_only_gpus_of_their_slot(monkeypatch: Patch) -> None:
    """A worker that replaces another sees the same ones."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    on_the_cpu = plan_of("sweep.workers=1")
    with worker_pool(replace(on_the_cpu, gpus=(("4",), ("GPU-7", "GPU-9"))), None) as pool:
        processes, variables = zip(*started(pool, workers=3), strict=True)
        assert variables == ("4", "GPU-7,GPU-9", "4")
        processes[1].kill()
        (gone,) = (worker for worker, answer in pool.listen(10) if isinstance(answer, WorkerDied))
        pool.dismiss(gone)
        assert visible_variables(pool, workers=3) == ["4", "4", "GPU-7,GPU-9"]
    with worker_pool(on_the_cpu, None) as pool:
        assert visible_variables(pool, workers=1) == [None]


# ── what CUDA shows ─────────────────────────────────────────────────────────────────────────────


def uuids(count: int) -> list[str]:
    return [f"GPU-{index * 0x9E3779B9 % 2**32:08x}-d72c-4106" for index in range(count)]


def shown_by_cuda(variable: str | None, present: Sequence[str]) -> list[int]:
    """The GPUs that a process sees: the rule of CUDA's guide, and of torch's reading of it."""
    if variable is None:
        return list(range(len(present)))
    indices: list[int] = []
    for entry in variable.split(","):
        index = _index(entry.strip(), present)
        if index is None or entry.startswith("GPU-") != variable.startswith("GPU-"):
            break
        indices.append(index)
    return indices if len(set(indices)) == len(indices) else []


def _index(entry: str, present: Sequence[str]) -> int | None:
    if entry.startswith("GPU-"):
        matches = [index for index, uuid in enumerate(present) if uuid.startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    number = re.match(r"[+]?\d+", entry)
    return int(number[0]) if number and int(number[0]) < len(present) else None


def variables(present: Sequence[str]) -> Iterator[str | None]:
    """Everything that people write into the variable on a machine with these GPUs."""
    indices = [str(index) for index in range(len(present))]
    prefixes = [uuid[:12] for uuid in present]
    yield from (None, "", "-1", "NoDevFiles", "none", "GPU-", "GPU-nobody", "0,-1,1", "0,0")
    yield from (" 1 , 0 ", "0,,1", "+1,0", "1gpu,0", "0,64,1", "64", "0,GPU-nobody,1")
    for all_of_them in (indices, list(present), prefixes):
        for some in (all_of_them, all_of_them[::-1], all_of_them[1::2], all_of_them[-1:]):
            yield ",".join(some)
        yield ",".join([*all_of_them, *all_of_them[:1]])
    yield ",".join(chain(prefixes[:1], indices[1:]))


@pytest.mark.parametrize("count", SIZES)
def test_worker_and_study_see_the_same_gpu(count: int) -> None:
    """This holds for any value of CUDA_VISIBLE_DEVICES."""
    present = uuids(count)
    for variable in variables(present):
        visible = shown_by_cuda(variable, present)
        names = visible_devices(variable, len(visible))
        assert [shown_by_cuda(name, present) for name in names] == [[index] for index in visible], (
            variable
        )
        if names:
            assert shown_by_cuda(",".join(names), present) == visible, variable


def test_mig_devices_are_used_as_named() -> None:
    # CUDA shows a process the first of them alone.
    assert visible_devices("MIG-8a3f, MIG-77b1", 1) == ("MIG-8a3f",)
