"""Metrics, beside scikit-learn's; thresholds that a rule finds on validation rows."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import f1_score, precision_recall_curve, recall_score
from torchmetrics import functional

from pipeline.metrics import Metric, of_task
from pipeline.scoring.scores import (
    FoundThreshold,
    class_scores,
    find_threshold,
    for_task,
    mean_words,
)


def random_multiclass(
    seed: int, rows: int, classes: int, *, absent: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(torch.randn(rows, classes, generator=generator), dim=1)
    targets = torch.randint(0, classes, (rows,), generator=generator)
    if absent is not None:
        targets[targets == absent] = 0
        probabilities[:, absent] = 0
    return probabilities, targets


def values_of(
    task: str,
    outputs: Any,
    targets: Any,
    *,
    classes: int = 0,
    threshold: float = 0.5,
    more: Sequence[Metric] = (),
) -> dict[str, float]:
    """The metrics of a task on some rows, given as tensors or arrays."""
    score = for_task(task, classes=classes, threshold=threshold, more=more)
    values = score(torch.as_tensor(outputs), torch.as_tensor(targets))
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("levels", [2, 7, 10**6])
@pytest.mark.parametrize("absent", [None, 3])
def test_auroc_averages_classes_and_halves_ties(levels: int, absent: int | None) -> None:
    probabilities, targets = random_multiclass(3, 300, 4, absent=absent)
    tied = (probabilities * levels).round() / levels
    values = values_of("multiclass", tied, targets, classes=4)
    there = [index for index in range(4) if index != absent]
    oracle = [sklearn_metrics.roc_auc_score(targets == index, tied[:, index]) for index in there]
    assert values["auroc"] == pytest.approx(np.mean(oracle), rel=1e-6)


@pytest.mark.parametrize(("rows", "classes"), [(1, 3), (40, 2), (60, 5), (200, 64)])
@pytest.mark.parametrize("absent", [None, 1])
def test_multiclass_metrics_equal_torchmetrics(rows: int, classes: int, absent: int | None) -> None:
    probabilities, targets = random_multiclass(4, rows, classes, absent=absent)
    values = values_of("multiclass", probabilities, targets, classes=classes)
    known: dict[str, Any] = {"task": "multiclass", "num_classes": classes}
    accuracy = functional.accuracy(probabilities, targets, average="micro", **known)
    assert values["accuracy"] == accuracy
    for name, oracle in (
        ("precision", functional.precision),
        ("recall", functional.recall),
        ("f1", functional.f1_score),
    ):
        assert values[name] == oracle(probabilities, targets, average="macro", **known)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_auroc_ranks_nan_above_every_score(task: str) -> None:
    probabilities, targets = random_multiclass(5, 80, 3)
    if task == "binary":
        probabilities, targets = probabilities[:, 1], (targets == 1).long()
    probabilities[::7] = torch.nan
    probabilities[::14] *= -1  # NaN has a sign, which must not matter
    values = values_of(task, probabilities, targets, classes=3)
    columns = probabilities.nan_to_num(2.0).reshape(80, -1).numpy()
    counted = [1] if task == "binary" else [0, 1, 2]
    oracle = [
        sklearn_metrics.roc_auc_score(targets == index, column)
        for index, column in zip(counted, columns.T, strict=True)
    ]
    assert values["auroc"] == pytest.approx(np.mean(oracle), rel=1e-6)


def test_auroc_of_one_class_is_undefined() -> None:
    ones, (probabilities, _) = torch.ones(20).long(), random_multiclass(6, 20, 3)
    for task, outputs in (("multiclass", probabilities), ("binary", probabilities[:, 1])):
        assert np.isnan(values_of(task, outputs, ones, classes=3)["auroc"])


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_binary_scores_use_positive_class_and_threshold(threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(300, generator=generator)
    probabilities[0] = threshold  # is not above it
    targets = (torch.rand(300, generator=generator) < probabilities).long()
    values = values_of("binary", probabilities, targets, classes=2, threshold=threshold)
    predicted = (probabilities > threshold).long()
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
        "precision": sklearn_metrics.precision_score(targets, predicted, zero_division=0),
        "recall": sklearn_metrics.recall_score(targets, predicted),
        "f1": sklearn_metrics.f1_score(targets, predicted),
        "auroc": sklearn_metrics.roc_auc_score(targets, probabilities),
    }
    assert values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_scores_equal_scikit_learn(outputs: int) -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=(50, outputs)) * 7 + 100
    predicted = targets + generator.normal(size=targets.shape)
    expected = {
        "rmse": sklearn_metrics.mean_squared_error(targets, predicted) ** 0.5,
        "mae": sklearn_metrics.mean_absolute_error(targets, predicted),
        "r2": sklearn_metrics.r2_score(targets, predicted),
    }
    assert values_of("regression", predicted, targets) == pytest.approx(expected, rel=1e-5)


def test_constant_target_has_rmse_but_no_r2() -> None:
    for rows in (1, 3):
        true = torch.full((rows, 1), 0.1)
        values = values_of("regression", true + 2.0, true)
        assert values["rmse"] == pytest.approx(2.0)
        assert np.isnan(values["r2"])


SEEDS = range(8)


def made(seed: int, *, rows: int = 60, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores that say something about classes; with few levels many of them are equal."""
    generator = np.random.default_rng(seed)
    classes = (generator.random(rows) < 0.3).astype(np.int64)
    classes[:2] = (0, 1)
    scores = 1 / (1 + np.exp(-generator.normal(classes * 1.5 - 1, 1.2)))
    if levels is not None:
        scores = (np.floor(scores * levels) + 0.5) / levels
    return scores.astype(np.float32), classes


def found(rule: str, scores: np.ndarray, classes: np.ndarray) -> FoundThreshold:
    return find_threshold(rule, torch.from_numpy(scores), torch.from_numpy(classes))


def called(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Decide as everything else does: by a comparison of float32 in torch."""
    return (torch.from_numpy(scores) > threshold).long().numpy()


def every_f1(scores: np.ndarray, classes: np.ndarray) -> list[float]:
    """F1 of each set of rows that a threshold can call."""
    return [f1_score(classes, scores >= lowest, zero_division=0) for lowest in np.unique(scores)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("levels", [None, 5])
def test_best_threshold_has_the_highest_f1(seed: int, levels: int | None) -> None:
    scores, classes = made(seed, levels=levels)
    best = found("best_f1", scores, classes)
    assert best.reached == pytest.approx(max(every_f1(scores, classes)))
    assert f1_score(classes, called(scores, best.threshold)) == pytest.approx(best.reached)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("least", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("levels", [None, 5])
def test_highest_threshold_with_recall_is_found(
    seed: int, least: float, levels: int | None
) -> None:
    scores, classes = made(seed, levels=levels)
    _, recall, cuts = precision_recall_curve(classes, scores)
    highest = cuts[recall[:-1] >= least].max()  # rows with this score or more are called
    chosen = found(f"recall_at_{least}", scores, classes)
    guesses = called(scores, chosen.threshold)
    assert guesses.tolist() == (scores >= highest).astype(int).tolist()
    assert recall_score(classes, guesses) == pytest.approx(chosen.reached)
    assert chosen.reached >= least


def test_equal_f1_takes_threshold_nearest_one_half() -> None:
    # The positives alone, 1 of 2: 2·1/(1+2) = 2/3; with two negatives more, 2 of 4: 4/(4+2).
    scores = np.array([0.95, 0.9, 0.85, 0.4, 0.05], dtype=np.float32)
    classes = np.array([1, 0, 0, 1, 0])
    assert every_f1(scores, classes)[::-1] == pytest.approx([2 / 3, 1 / 2, 2 / 5, 2 / 3, 4 / 7])
    best = found("best_f1", scores, classes)
    assert best.threshold == pytest.approx((0.4 + 0.05) / 2)


def test_threshold_is_midway_between_scores() -> None:
    """Scores that touch, are equal or zero have a threshold too."""
    scores, classes = np.array([0.2, 0.25, 0.75, 0.875], dtype=np.float32), np.array([0, 0, 1, 1])
    assert found("best_f1", scores, classes).threshold == 0.5
    assert found("recall_at_0.5", scores, classes).threshold == (0.75 + 0.875) / 2
    low = np.float32(0.7)
    touching = np.array([low, np.nextafter(low, np.float32(1))], dtype=np.float32)
    best = found("best_f1", touching, np.array([0, 1]))
    assert called(touching, best.threshold).tolist() == [0, 1]
    alike = np.full(10, 0.3, dtype=np.float32)
    best = found("best_f1", alike, np.array([1, 0] * 5))
    assert called(alike, best.threshold).sum() == 10
    assert (best.metric, best.rows) == ("f1", 10)
    assert best.reached == pytest.approx(2 / 3)
    zeros, classes = np.array([0.9, 0.0, 0.0], dtype=np.float32), np.array([1, 1, 0])
    chosen = found("recall_at_0.9", zeros, classes)  # a positive row is not claimed to be found
    assert recall_score(classes, called(zeros, chosen.threshold)) == chosen.reached == 0.5


MEANS = [
    ([0, 1, 2, 3, 4], [0, 1, 2, 3, 3], "mean over 5 classes", 5),
    ([0, 1, 2, 3], [0, 1, 2, 2], "mean over 4 of 5 classes", 4),
    ([0, 1, 2, 3], [0, 1, 2, 4], "mean over 5 classes (4 in these rows)", 5),
]


@pytest.mark.parametrize(("targets", "predicted", "words", "counted"), MEANS)
def test_mean_names_the_classes_it_averages(
    targets: list[int], predicted: list[int], words: str, counted: int
) -> None:
    assert mean_words(class_scores(np.array(predicted), np.array(targets), "abcde")) == words
    values = values_of("multiclass", np.eye(5)[predicted], targets, classes=5)
    each = f1_score(targets, predicted, average=None, labels=range(5), zero_division=0)
    assert values["f1"] == pytest.approx(sum(each) / counted)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("absent", [None, 1])
def test_further_class_metrics_equal_scikit_learn(task: str, absent: int | None) -> None:
    probabilities, targets = random_multiclass(7, 90, 4, absent=absent)
    probabilities[0, targets[0]] = 0.0
    probabilities /= probabilities.sum(1, keepdim=True)
    called = probabilities.argmax(dim=1)
    if task == "binary":
        probabilities = probabilities[:, 0] / probabilities[:, :2].sum(1).clamp(min=1e-3)
        targets = (targets == 0).long() * (absent is None)
        called = (probabilities > 0.5).long()
    labels = [0, 1] if task == "binary" else [0, 1, 2, 3]
    names = ("balanced_accuracy", "mcc", "log_loss")
    more = [metric for name, metric in of_task(task).items() if name in names]
    values = values_of(task, probabilities, targets, classes=len(labels), more=more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes that are in the predictions only
        expected = {
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(targets, called),
            "mcc": sklearn_metrics.matthews_corrcoef(targets, called),
            "log_loss": sklearn_metrics.log_loss(targets, probabilities.numpy(), labels=labels),
        }
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_smape_equals_its_closed_form(outputs: int) -> None:
    generator = np.random.default_rng(1)
    targets = generator.normal(size=(60, outputs))
    predicted = targets + generator.normal(size=targets.shape)
    targets[0] = predicted[0] = 0.0
    more = [of_task("regression")["smape"]]
    sizes = (np.abs(predicted) + np.abs(targets)) / 2
    mean = (np.abs(predicted - targets)[1:] / sizes[1:]).sum() / targets.size
    values = values_of("regression", predicted, targets, more=more)
    assert values["smape"] == pytest.approx(mean, rel=1e-12)
    predicted[3] = np.nan
    assert np.isnan(values_of("regression", predicted, targets, more=more)["smape"])
