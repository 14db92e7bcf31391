"""Test accuracy of the epoch that a run keeps: by the default rule and by others.

    python -m benchmarks.kept_epoch choosing     # the five sets that the rule was chosen on
    python -m benchmarks.kept_epoch reporting    # the ten sets that it is reported on

Each network is trained once per seed with its default configuration. Every epoch is tested, and
all rules choose from the same epochs. The seed also draws the rows of the parts. A cell is the mean
over the seeds and, in brackets, the worst seed, in percent of up to 1,000 test rows. CNN and LSTM
are trained on series only. The ten sets were named in the commit that added this file, and were
trained on once, after the rule was chosen. Each call takes about four minutes of one core.
"""

import argparse
import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from scipy.signal import lfilter  # type: ignore[import-untyped] # scipy brings no types
from sklearn import datasets

from pipeline.callbacks.epoch_end import EpochEnd, EpochRecord
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.plain import plain
from pipeline.data import mnist1d, rgb_patches, synthetic_control
from pipeline.networks.inspection import probabilities
from pipeline.running.decision import outputs_of
from pipeline.running.participant import Participant, build_keeper
from pipeline.running.plan import RunContext, make_plan

SEEDS = range(5)
MODELS = ("mlp", "cnn1d", "lstm")
TEST_ROWS = 1000
FEW = 100
"""Validation rows below which one of the rules follows the loss."""
Rows = tuple[np.ndarray, np.ndarray]
Epochs = Sequence[Mapping[str, float]]


def digits_by_line() -> Rows:
    """The digits as series of sixteen half lines with four pixels each."""
    inputs, targets = datasets.load_digits(return_X_y=True)
    return inputs.reshape(-1, 16, 4), targets


def charts() -> Rows:
    """Control charts of six kinds."""
    targets = np.repeat(np.arange(6), 200)
    return synthetic_control.draw(targets, seed=0)[..., None], targets


def mnist_series() -> Rows:
    """MNIST-1D."""
    samples = mnist1d.MNIST1D(shuffled_positions=False).read()
    return np.asarray(samples.inputs), samples.targets


def patches() -> Rows:
    """Colour patches of two photographs, as series of 16 lines."""
    samples = rgb_patches.RGBPatches(positive="flower", test_from=480).read()
    pixels = np.asarray(samples.inputs).astype(np.float32) / 255  # (rows, 3, 16, 16)
    return pixels.transpose(0, 2, 1, 3).reshape(len(pixels), 16, -1), samples.targets


def waveform() -> Rows:
    """Mixtures of two of three triangles with noise (Breiman et al. 1984)."""
    generator, steps = np.random.default_rng(0), np.arange(1, 22)
    triangles = np.stack([np.maximum(6 - abs(steps - peak), 0) for peak in (11, 15, 7)])
    targets = generator.integers(0, 3, 1300)
    share = generator.uniform(size=(1300, 1))
    pairs = np.array([(0, 1), (0, 2), (1, 2)])[targets]
    clean = share * triangles[pairs[:, 0]] + (1 - share) * triangles[pairs[:, 1]]
    return (clean + generator.normal(size=clean.shape))[..., None], targets


def cylinder_bell_funnel() -> Rows:
    """Plateaus, ramps up and ramps down of any place and length (Saito 1994)."""
    generator, steps = np.random.default_rng(0), np.arange(128)
    targets = generator.integers(0, 3, 1300)
    begin = generator.integers(16, 33, (1300, 1))
    end = begin + generator.integers(32, 97, (1300, 1))
    up = (steps - begin) / (end - begin)
    shapes = np.stack([np.ones_like(up), up, 1 - up])[targets, np.arange(1300)]
    height = 6 + generator.normal(size=(1300, 1))
    clean = height * shapes * ((steps >= begin) & (steps <= end))
    return (clean + generator.normal(size=clean.shape))[..., None], targets


def autoregressive() -> Rows:
    """Autoregressive processes with three coefficients."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, 1300)
    pairs = zip(targets, generator.normal(size=(1300, 90)), strict=True)
    series = [lfilter([1.0], [1.0, -(0.0, 0.45, 0.9)[k]], n) for k, n in pairs]
    return np.stack(series)[:, 50:, None], targets


@dataclass(frozen=True)
class Set:
    """Rows that networks learn from.

    Args:
        make: Returns inputs and classes.
        rows: Training and validation rows together; a fifth of them validates.
    """

    make: Callable[[], Rows]
    rows: int


def table(load: Callable[..., Rows], rows: int, **options: object) -> Set:
    """A table of scikit-learn."""
    return Set(lambda: load(**options), rows)


CHOOSING = {
    "iris": table(datasets.load_iris, 75, return_X_y=True),
    "breast_cancer": table(datasets.load_breast_cancer, 285, return_X_y=True),
    "synthetic_control": Set(charts, 200),
    "mnist1d": Set(mnist_series, 480),
    "digits": Set(digits_by_line, 1200),
}
REPORTING = {
    "wine": table(datasets.load_wine, 89, return_X_y=True),
    "moons": table(datasets.make_moons, 150, n_samples=1150, noise=0.3, random_state=0),
    "circles": table(
        datasets.make_circles, 200, n_samples=1200, noise=0.15, factor=0.5, random_state=0
    ),
    "gaussian_quantiles": table(
        datasets.make_gaussian_quantiles, 300, n_samples=1300, n_features=4, random_state=0
    ),
    "classification": table(
        datasets.make_classification,
        400,
        **{"n_samples": 1400, "n_classes": 3, "n_informative": 5, "random_state": 0},
    ),
    "hastie": table(datasets.make_hastie_10_2, 1000, n_samples=2000, random_state=0),
    "waveform": Set(waveform, 100),
    "cylinder_bell_funnel": Set(cylinder_bell_funnel, 150),
    "autoregressive": Set(autoregressive, 250),
    "rgb_patches": Set(patches, 600),
}


def write(of: Set, seed: int, path: Path) -> str:
    """Write the parts of a set that a seed draws; return the layout of the inputs."""
    inputs, targets = of.make()
    order = np.random.default_rng(seed).permutation(len(targets))
    train, test = order[: of.rows], order[of.rows : of.rows + TEST_ROWS]
    classes = np.unique(targets, return_inverse=True)[1]
    parts = {"train": train, "test": test}
    arrays: dict[str, Any] = {}
    for name, rows in parts.items():
        arrays[f"x_{name}"] = inputs[rows].astype(np.float32)
        arrays[f"y_{name}"] = classes[rows]
    np.savez(path, **arrays)
    return "table" if inputs.ndim == 2 else "series"


def trained(words: Sequence[str]) -> Epochs:
    """Train a network and return the values of each epoch, `test/accuracy` among them."""
    tree = compose([*words, "tracking=none", "verbose=0", "data.scale=standard"])
    context = RunContext(lean=True)
    plan = make_plan(check(tree), plain(tree), started_at=perf_counter(), context=context)
    epochs: list[dict[str, float]] = []

    def test(_: int, values: Mapping[str, float]) -> None:
        part = plan.prepared.test
        found = probabilities(outputs_of(plan.network, part.blocks()))
        called = found > 0.5 if found.ndim == 1 else found.argmax(1)
        right = called.long() == part.targets.flatten()
        epochs.append({**values, "test/accuracy": 100 * float(right.float().mean())})

    record = EpochRecord(DummyLogger(), test)
    Participant(plan, Path(), EpochEnd(build_keeper(plan, Path()), record=record)).fit()
    return epochs


# ── the rules ───────────────────────────────────────────────────────────────────────────────


def by_f1(one: Mapping[str, float]) -> tuple[float, ...]:
    """F1 alone; the first epoch wins a tie."""
    return (one["val/f1"],)


def ties_by_loss(one: Mapping[str, float]) -> tuple[float, ...]:
    """F1; the lower loss wins a tie."""
    return one["val/f1"], -one["val/loss"]


def by_loss(one: Mapping[str, float]) -> tuple[float, ...]:
    """The loss alone."""
    return (-one["val/loss"],)


def chosen(epochs: Epochs, validation_rows: int) -> dict[str, float]:
    """Return the test accuracy of the epoch that each rule keeps."""
    few = by_loss if validation_rows < FEW else ties_by_loss
    rules = {"F1, first of ties": by_f1, "F1, ties by loss (default)": ties_by_loss}
    rules |= {f"loss below {FEW} rows": few, "loss": by_loss}
    kept = {name: max(epochs, key=rule) for name, rule in rules.items()}
    return {name: one["test/accuracy"] for name, one in {**kept, "last": epochs[-1]}.items()}


def measured(name: str, of: Set, model: str) -> list[dict[str, float]]:
    """Return what `chosen` returns for each seed; nothing where the network has no such input."""
    runs = []
    for seed in SEEDS:
        layout = write(of, seed, Path(f"{name}.npz"))
        if layout == "table" and model != "mlp":
            return []
        words = (f"model={model}", f"seed={seed}", f"data.split_seed={seed}")
        data = ("data=arrays", f"data.path={name}.npz", f"data.layout={layout}")
        runs.append(chosen(trained([*words, *data]), of.rows // 5))
    return runs


def main() -> None:
    """Print mean and worst seed of each rule, for each set and network and over all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", choices=["choosing", "reporting"])
    sets = CHOOSING if parser.parse_args().sets == "choosing" else REPORTING
    means, worst = list[dict[str, float]](), list[dict[str, float]]()
    for name, of in sets.items():
        for model in MODELS:
            if not (runs := measured(name, of, model)):
                continue
            if not means:
                print(f"| set | validation rows | network | {' | '.join(runs[0])} |")
                print("|" + "---|" * (3 + len(runs[0])))
            means.append({rule: fmean(run[rule] for run in runs) for rule in runs[0]})
            worst.append({rule: min(run[rule] for run in runs) for rule in runs[0]})
            cells = [f"{means[-1][rule]:.1f} ({worst[-1][rule]:.1f})" for rule in runs[0]]
            print(f"| {name} | {of.rows // 5} | {model} | {' | '.join(cells)} |", flush=True)
    ends = [[fmean(one[rule] for one in part) for part in (means, worst)] for rule in means[0]]
    print(f"| mean | | | {' | '.join(f'{mean:.2f} ({low:.2f})' for mean, low in ends)} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        main()
