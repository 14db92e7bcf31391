"""Where a second thread pays: training steps with one thread, with two, and with bounded spins.

    python -m benchmarks.threads [--rounds 20] [--busy 4] [--spins 1000 …] [--models mlp …]

A bare step is forward, loss, backward and fused Adam of one of the six networks, in sizes around
the threshold of `pipeline.running.devices`. `2` spins as OpenMP does by itself; `2/1000` checks
1,000 times before it sleeps. The ways take turns in short rounds, on the machine as it is and
beside busy processes. Each number says how many times as fast as one thread a way is: by the
fastest steps, which other programs disturb least, and by the median round.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import NamedTuple

from pipeline.base.processes.cpu import WAITING


class Case(NamedTuple):
    """A network, the shape of its input, and the number of rows of a batch."""

    model: str
    size: str
    shape: tuple[int, ...]
    rows: int


RECURRENT = ((50, 40, 100), (128, 100, 100), (256, 40, 200))  # units, steps, rows
CASES = (
    Case("mlp", "hidden=[64,128,64]", (40, 1), 100),
    Case("mlp", "hidden=[256,256]", (784, 1), 100),
    Case("mlp", "hidden=[512,512]", (784, 1), 100),
    Case("cnn1d", "channels=[25,25,25]", (120, 1), 100),
    Case("cnn1d", "channels=[25,25,25]", (500, 1), 100),
    Case("cnn1d", "channels=[64,64,64]", (500, 1), 100),
    Case("cnn2d", "channels=[8,16]", (1, 16, 16), 64),
    Case("cnn2d", "channels=[8,16]", (1, 28, 28), 100),
    Case("cnn2d", "channels=[16,32]", (1, 28, 28), 100),
    *(
        Case(model, f"hidden={units}", (steps, 1), rows)
        for model in ("rnn", "gru", "lstm")
        for units, steps, rows in RECURRENT
    ),
)


@cache
def prepared(case: Case) -> tuple[Callable[[], None], int]:
    """Return a training step, and the operations that the choice of threads goes by."""
    import torch
    from torch.nn import functional

    from pipeline.config.check import check
    from pipeline.config.compose import compose
    from pipeline.config.targets import build
    from pipeline.networks.inspection import layer_table, operations_at_once

    model = check(compose([f"model={case.model}", f"model.{case.size}"])).model
    network = build(model, trust=(), input_shape=case.shape, outputs=10)
    inputs, targets = torch.randn(case.rows, *case.shape), torch.arange(case.rows) % 10
    adam = torch.optim.Adam(network.parameters(), fused=True)

    def step() -> None:
        adam.zero_grad()
        functional.cross_entropy(network(inputs), targets).backward()
        adam.step()

    return step, 3 * operations_at_once(layer_table(network, case.shape)) * case.rows


def operations(case: Case) -> int:
    """Return the operations that the choice of threads goes by."""
    return prepared(case)[1]


def steps_of(case: Case, threads: int, seconds: float) -> tuple[float, float]:
    """Return the fastest and the mean step of a round, in milliseconds."""
    import torch

    step = prepared(case)[0]
    torch.set_num_threads(threads)
    step()
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        began = perf_counter()
        step()
        times.append(perf_counter() - began)
    return 1000 * min(times), 1000 * sum(times) / len(times)


@contextmanager
def process(variables: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """A process that loads torch with these variables."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        os.environ.update(variables)
        pool.submit(os.getpid).result()
        for name in variables:
            del os.environ[name]
        yield pool


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print a line for each case, as it is and beside busy processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.1, help="of a round")
    parser.add_argument("--busy", type=int, default=4, help="busy processes; 0 = not beside them")
    parser.add_argument("--spins", nargs="+", default=["1000"])
    parser.add_argument("--models", nargs="+", default=[case.model for case in CASES])
    arguments = parser.parse_args()
    for name in ("OMP_NUM_THREADS", *WAITING):
        os.environ.pop(name, None)
    with ExitStack() as stack:
        usual = stack.enter_context(process({}))
        ways = {"1": (usual, 1), "2": (usual, 2)}
        for spins in arguments.spins:
            bounded = stack.enter_context(process({"GOMP_SPINCOUNT": spins}))
            ways[f"2/{spins}"] = (bounded, 2)
        for case in CASES:
            if case.model not in arguments.models:
                continue
            work = usual.submit(operations, case).result() / 1e6
            print(f"{case.model} {case.size} {case.shape} × {case.rows}: {work:.0f} M", flush=True)
            for others in dict.fromkeys((0, arguments.busy)):
                with busy_processes(others):
                    rounds = [
                        [
                            pool.submit(steps_of, case, threads, arguments.seconds).result()
                            for pool, threads in ways.values()
                        ]
                        for _ in range(arguments.rounds)
                    ]
                told = [f"  {others} busy, load {os.getloadavg()[0]:.1f};"]
                for what, index, middle in (("fastest", 0, min), ("median", 1, median)):
                    found = [middle(one[index] for one in way) for way in zip(*rounds, strict=True)]
                    told.append(f"{what}: one {found[0]:.2f} ms,")
                    pairs = zip(list(ways)[1:], found[1:], strict=True)
                    told += [f"{way} {found[0] / one:.2f} ×" for way, one in pairs]
                print(*told, flush=True)


if __name__ == "__main__":
    main()
