"""Time of a training step: this pipeline with everything on, beside a bare loop of torch.

    python -m benchmarks.step_time [--rounds 5] [--epochs 20]

Ours has validation, metrics, gradient norms, checkpoints each epoch and MLflow on; both sides use
one thread. A step's time is the median epoch's, validation included, divided by its steps.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks import bare
from benchmarks.windows import windows
from pipeline.config.compose import compose
from pipeline.data.mnist1d import MNIST1D
from pipeline.run import run

COMMON = ["verbose=0", "trainer.threads=1", "test=false", "trainer.gradient_clip_val=null"]
WINDOWS = [
    "model=lstm",
    "model.readout=last",
    "data._target_=benchmarks.windows.Windows",
    "~data.shuffled_positions",
    "trust=[benchmarks]",
    "optimizer.lr=0.001",
    "scheduler=none",
]
CASES = {
    "LSTM(50) tanh": (["model.activation=tanh", *WINDOWS], 1.15),
    "LSTM(50) relu": (["model.activation=relu", *WINDOWS], 1.15),
    "MLP 64-128-64": (["model=mlp", "data.batch_size=100", "scheduler=none"], 1.35),
}


def ours(words: Sequence[str], epochs: int) -> float:
    """Milliseconds a step of the pipeline."""
    config = compose([*words, *COMMON, f"trainer.max_epochs={epochs}"])
    result = run(config)
    times = sorted(values["time/epoch"] for epoch, values in result.history.items() if epoch > 1)
    rows = 1000 if "model=lstm" in words else 3200
    steps = -(-rows // int(config.data.batch_size))
    return 1000 * times[len(times) // 2] / steps


def ours_whole(words: Sequence[str], epochs: int) -> float:
    """Milliseconds a step of the whole `fit`, checkpoints, journal and start included."""
    config = compose([*words, *COMMON, f"trainer.max_epochs={epochs}"])
    result = run(config)
    rows = 1000 if "model=lstm" in words else 3200
    return 1000 * result.metrics["time/fit"] / (epochs * -(-rows // int(config.data.batch_size)))


def bare_lstm(make: Callable[[], torch.nn.Module], epochs: int) -> bare.Timing:
    """A bare LSTM on the windows."""
    inputs, targets = (torch.from_numpy(array) for array in windows())
    train, held_out = (inputs[:1000], targets[:1000]), (inputs[1000:1250], targets[1000:1250])
    return bare.fit(make(), functional.mse_loss, train, held_out, batch_size=32, epochs=epochs)


def bare_mlp(epochs: int) -> bare.Timing:
    """A bare MLP on MNIST-1D."""
    samples = MNIST1D(shuffled_positions=False).read()
    inputs = torch.from_numpy(samples.inputs).float().flatten(1)
    targets = torch.from_numpy(samples.targets)
    train, held_out = (inputs[:3200], targets[:3200]), (inputs[3200:4000], targets[3200:4000])
    return bare.fit(
        bare.mlp(),
        functional.cross_entropy,
        train,
        held_out,
        batch_size=100,
        epochs=epochs,
        lr=0.01,
    )


def main() -> None:
    """Print a line a case: ours, bare, their ratio round by round, and the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    baselines: dict[str, Callable[[int], bare.Timing]] = {
        "LSTM(50) tanh": lambda epochs: bare_lstm(bare.TanhLSTM, epochs),
        "LSTM(50) relu": lambda epochs: bare_lstm(bare.ReluLSTM, epochs),
        "MLP 64-128-64": bare_mlp,
    }
    for name, (words, bound) in CASES.items():
        pairs = []
        for _ in range(arguments.rounds):
            timing = baselines[name](arguments.epochs)
            bare_step = 1000 * statistics.fmean(timing.epochs) / timing.steps
            pairs.append((ours_whole(words, arguments.epochs), bare_step))
        ratios = sorted(mine / theirs for mine, theirs in pairs)
        mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{name}: ours {mine:.3f} ms a step, bare {theirs:.3f} ms; ratio "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f}), bound {bound}"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(folder)):
        main()
