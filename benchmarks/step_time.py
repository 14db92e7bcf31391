"""Time of a training step: this pipeline with everything on, beside a bare loop of torch.

    python -m benchmarks.step_time [--rounds 5] [--epochs 20]

Ours has validation, metrics, gradient norms, checkpoints and MLflow on; the bare loop validates.
Both sides use one thread. A step's time is that of the median epoch, all that happens in it
included, divided by its steps: by the wall clock, and by the processor's, which other programs
disturb less.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional

from benchmarks import bare
from benchmarks.clock import EpochClock, Laps
from benchmarks.windows import windows
from pipeline.config.compose import compose
from pipeline.data.mnist1d import MNIST1D
from pipeline.run import run

COMMON = (
    "verbose=0",
    "test=false",
    "trainer.threads=1",
    "trainer.gradient_clip_val=null",
    "scheduler=none",
    "trust=[benchmarks]",
    "+callbacks.clock._target_=benchmarks.clock.EpochClock",
)
WINDOWS = (
    "model=lstm",
    "model.readout=last",
    "data._target_=benchmarks.windows.Windows",
    "~data.shuffled_positions",
    "optimizer.lr=0.001",
)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: What is trained.
        words: Overrides that make the pipeline train the same.
        bare: Trains it by hand for a number of epochs.
        steps: Steps an epoch.
        bound: Largest ratio that is promised.
    """

    name: str
    words: Sequence[str]
    bare: Callable[[int], Laps]
    steps: int
    bound: float


def bare_lstm(make: Callable[[], torch.nn.Module], epochs: int) -> Laps:
    """A bare LSTM on the windows."""
    inputs, targets = (torch.from_numpy(array) for array in windows())
    train, held_out = (inputs[:1000], targets[:1000]), (inputs[1000:1250], targets[1000:1250])
    return bare.fit(make(), functional.mse_loss, train, held_out, batch_size=32, epochs=epochs)


def bare_mlp(epochs: int) -> Laps:
    """A bare MLP on MNIST-1D."""
    samples = MNIST1D(shuffled_positions=False).read()
    inputs = torch.from_numpy(samples.inputs).float().flatten(1)
    targets = torch.from_numpy(samples.targets)
    train, held_out = (inputs[:3200], targets[:3200]), (inputs[3200:4000], targets[3200:4000])
    loss = functional.cross_entropy
    return bare.fit(bare.mlp(), loss, train, held_out, batch_size=100, epochs=epochs, lr=0.01)


CASES = (
    Case(
        "LSTM(50) tanh",
        (*WINDOWS, "model.activation=tanh"),
        lambda epochs: bare_lstm(bare.TanhLSTM, epochs),
        32,
        1.12,
    ),
    Case(
        "LSTM(50) relu",
        (*WINDOWS, "model.activation=relu"),
        lambda epochs: bare_lstm(bare.ReluLSTM, epochs),
        32,
        0.95,
    ),
    Case("MLP 64-128-64", ("model=mlp", "data.batch_size=100"), bare_mlp, 32, 1.12),
)


def ours(words: Sequence[str], epochs: int) -> Laps:
    """Train by the pipeline."""
    run(compose([*words, *COMMON, f"trainer.max_epochs={epochs}"]))
    return EpochClock.laps


def main() -> None:
    """Print two lines a case: by the wall clock and by the processor's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        rounds = [
            (ours(case.words, arguments.epochs).seconds(), case.bare(arguments.epochs).seconds())
            for _ in range(arguments.rounds)
        ]
        for index, clock in enumerate(("wall", "cpu")):
            pairs = [(mine[index], theirs[index]) for mine, theirs in rounds]
            ratios = sorted(mine / theirs for mine, theirs in pairs)
            mine, theirs = (1000 * median(side) / case.steps for side in zip(*pairs, strict=True))
            print(
                f"{case.name} {clock:4}: ours {mine:.3f} ms a step, bare {theirs:.3f} ms, ratio "
                f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); bound {case.bound}",
                flush=True,
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(folder)):
        main()
