"""Numbers of a training equal those of a loop written by hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.composed_runs import composed, tensors_of
from helpers.fixture_types import Train
from helpers.run_files import epochs, only_run
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from pipeline.modules.task import Classifier, Optimization, Regressor
from pipeline.running.task_building import build_task
from pipeline.scoring import scores as scoring

COMMON = ("data.shuffle=false", "optimizer.fused=false", "trainer.max_epochs=2")
QUIET = ("tracking=none", "verbose=0", "trainer.threads=1")


@dataclass(frozen=True)
class Epoch:
    """What a loop by hand sees of an epoch."""

    loss: float
    norm: float
    validation_loss: float


def by_hand(
    words: tuple[str, ...], loss_of: Callable[[Tensor, Tensor], Tensor], *, clip: float = 1.0
) -> list[Epoch]:
    """Train as people write it: Adam, a cosine by epochs, clipping by norm, no library around."""
    options, prepared, network = composed(words)
    count, size = options.trainer.max_epochs, options.data["batch_size"]
    inputs, targets = tensors_of(prepared.train)
    validation_inputs, validation_targets = tensors_of(prepared.validation)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=count)
    found = []
    for _ in range(count):
        network.train()
        losses, norms, rows = [], [], []
        for batch, classes in zip(inputs.split(size), targets.split(size), strict=True):
            loss = loss_of(network(batch), classes)
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), clip)))
            optimizer.step()
            losses.append(loss.item())
            rows.append(len(batch))
        schedule.step()
        network.eval()
        checked = float(loss_of(network(validation_inputs), validation_targets))
        mean = float(np.average(losses, weights=rows))
        found.append(Epoch(mean, float(np.mean(norms)), checked))
    return found


def binary_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())


@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (("model=mlp", "data=iris"), functional.cross_entropy),
        (("model=mlp", "data=diabetes"), functional.mse_loss),
        (("model=gru", "data=synthetic_control", "model.hidden=8"), functional.cross_entropy),
        (("model=mlp", "data=breast_cancer"), binary_loss),
    ],
    ids=["mlp", "mlp regression", "gru", "mlp binary"],
)
def test_losses_and_gradients_equal_a_plain_loop(
    train: Train, own_folder: Path, words: tuple[str, ...], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    assert train(*words, *COMMON, *QUIET) == 0
    recorded = epochs(only_run(own_folder / "runs"))
    for number, expected in enumerate(by_hand((*words, *COMMON), loss), start=1):
        values = recorded[number]
        assert values["train/loss"] == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
        assert values["grad/norm"] == pytest.approx(expected.norm, rel=1e-4, abs=1e-6)
        assert values["val/loss"] == pytest.approx(expected.validation_loss, rel=1e-5, abs=1e-6)


PLAIN = Optimization(optimizer=lambda p: torch.optim.SGD(p, lr=0.1), scheduler=None)


def classifier(outputs: int, **options: Any) -> Classifier:
    scores = scoring.for_task("multiclass", classes=max(outputs, 2), threshold=0.5)
    return Classifier(nn.Identity(), scores=scores, optimization=PLAIN, **options)


def expected_cross_entropy(
    logits: Tensor, targets: Tensor, weights: np.ndarray, smoothing: float
) -> float:
    """The formula, row by row: (1 - s) w_y (-log p_y) + s / C Σ_c w_c (-log p_c), over Σ w_y."""
    total, weight = 0.0, 0.0
    for row, target in zip(logits.double().numpy(), targets.tolist(), strict=True):
        minus_log = np.log(np.exp(row - row.max()).sum()) - (row - row.max())
        smoothed = smoothing / len(row) * (weights * minus_log).sum()
        total += (1 - smoothing) * weights[target] * minus_log[target] + smoothed
        weight += weights[target]
    return float(total / weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0], [0.5, 2.0]])
def test_weighted_loss_equals_its_formula(smoothing: float, weights: list[float] | None) -> None:
    generator = torch.Generator().manual_seed(1)
    given = None if weights is None else torch.tensor(weights)
    for outputs, classes in ((3, 3), (1, 2)):  # one logit equals two of which the first is 0
        if weights is not None and len(weights) != classes:
            continue
        logits = 3 * torch.randn(20, outputs, generator=generator)
        targets = torch.randint(classes, (20,), generator=generator)
        task = classifier(outputs, class_weights=given, label_smoothing=smoothing)
        each = logits if outputs > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)
        own = np.array(weights or [1.0] * classes)
        expected = expected_cross_entropy(each, targets, own, smoothing)
        assert float(task.loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("data", ["breast_cancer", "wine"])
def test_balanced_class_weights_equal_scikit_learn(data: str) -> None:
    words = ("model=mlp", f"data={data}", "loss.class_weights=balanced")
    options, prepared, network = composed(words)
    task = build_task(options, network, prepared)
    truth = prepared.train.targets.numpy()
    expected = compute_class_weight("balanced", classes=np.unique(truth), y=truth)
    assert task.get_buffer("class_weights").tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("weights", [None, [0.5, 3.0]])
def test_loss_is_summed_in_double_precision(weights: list[float] | None) -> None:
    task = classifier(1, class_weights=None if weights is None else torch.tensor(weights))
    generator = np.random.default_rng(0)
    logits = (20 * generator.normal(size=1_500_000)).astype(np.float32)
    classes = generator.integers(0, 2, len(logits))
    found = task.exact_loss(torch.from_numpy(logits)[:, None], torch.from_numpy(classes))
    signed = logits.astype(np.float64) * (1 - 2 * classes)
    own = np.ones(len(logits)) if weights is None else np.array(weights)[classes]
    expected = math.fsum(own * np.logaddexp(0, signed)) / math.fsum(own)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_regression_never_broadcasts_its_targets() -> None:
    task = Regressor(
        nn.Identity(),
        scores=scoring.for_task("regression", classes=0, threshold=0.5),
        optimization=PLAIN,
        to_units=lambda values, _: values,
        offsets={},
    )
    with pytest.raises(ValueError, match=r"outputs \(4, 1\) and targets \(4,\) differ in shape"):
        task.loss(torch.zeros(4, 1), torch.zeros(4))
    assert float(task.loss(torch.zeros(4, 1), torch.ones(4, 1))) == 1.0
