"""The numbers of a part equal scikit-learn's."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from pipeline.metrics import class_scores, confusion, direction, for_task


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


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [None, 3])
def test_several_classes_are_averaged_as_scikit_learn_averages_them(
    seed: int, absent: int | None
) -> None:
    probabilities, targets = random_multiclass(seed, 40, 5, absent=absent)
    predicted = probabilities.argmax(dim=1)
    values = for_task("multiclass", classes=5, threshold=0.5)(probabilities, targets)
    kwargs = {"average": "macro", "zero_division": 0}
    for name, oracle in (
        ("precision", sklearn_metrics.precision_score),
        ("recall", sklearn_metrics.recall_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        assert float(values[name]) == pytest.approx(oracle(targets, predicted, **kwargs), abs=1e-6)
    accuracy = sklearn_metrics.accuracy_score(targets, predicted)
    assert float(values["accuracy"]) == pytest.approx(accuracy, abs=1e-6)


def test_auroc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    probabilities, targets = random_multiclass(0, 200, 4)
    values = for_task("multiclass", classes=4, threshold=0.5)(probabilities, targets)
    oracle = sklearn_metrics.roc_auc_score(targets, probabilities, multi_class="ovr")
    assert float(values["auroc"]) == pytest.approx(oracle, abs=1e-5)


@pytest.mark.parametrize("levels", [2, 7])
def test_auroc_of_tied_probabilities_counts_half_of_each_tie(levels: int) -> None:
    probabilities, targets = random_multiclass(3, 300, 4)
    tied = (probabilities * levels).round() / levels
    values = for_task("multiclass", classes=4, threshold=0.5)(tied, targets)
    oracle = [sklearn_metrics.roc_auc_score(targets == index, tied[:, index]) for index in range(4)]
    assert float(values["auroc"]) == pytest.approx(np.mean(oracle), rel=1e-6)


def test_auroc_leaves_out_a_class_without_rows() -> None:
    probabilities, targets = random_multiclass(0, 200, 4, absent=3)
    values = for_task("multiclass", classes=4, threshold=0.5)(probabilities, targets)
    oracle = [
        sklearn_metrics.roc_auc_score(targets == index, probabilities[:, index])
        for index in range(3)
    ]
    assert float(values["auroc"]) == pytest.approx(np.mean(oracle), abs=1e-5)


def test_auroc_of_one_class_alone_is_undefined() -> None:
    values = for_task("binary", classes=2, threshold=0.5)(
        torch.tensor([0.2, 0.8]), torch.ones(2).long()
    )
    assert np.isnan(float(values["auroc"]))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_two_classes_are_scored_for_the_positive_one_at_the_threshold(threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(300, generator=generator)
    targets = (torch.rand(300, generator=generator) < probabilities).long()
    values = for_task("binary", classes=2, threshold=threshold)(probabilities, targets)
    predicted = (probabilities > threshold).long()
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
        "precision": sklearn_metrics.precision_score(targets, predicted, zero_division=0),
        "recall": sklearn_metrics.recall_score(targets, predicted),
        "f1": sklearn_metrics.f1_score(targets, predicted),
        "auroc": sklearn_metrics.roc_auc_score(targets, probabilities),
    }
    assert {key: float(value) for key, value in values.items()} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_scores_equal_scikit_learns_for_one_and_several_outputs(outputs: int) -> None:
    generator = np.random.default_rng(0)
    targets = generator.normal(size=(50, outputs)) * 7 + 100
    predicted = targets + generator.normal(size=targets.shape)
    values = for_task("regression", classes=0, threshold=0.5)(
        torch.from_numpy(predicted),
        torch.from_numpy(targets),
    )
    squared = sklearn_metrics.mean_squared_error(targets, predicted)
    assert float(values["rmse"]) == pytest.approx(squared**0.5, rel=1e-5)
    mae = sklearn_metrics.mean_absolute_error(targets, predicted)
    assert float(values["mae"]) == pytest.approx(mae, rel=1e-5)
    r2 = sklearn_metrics.r2_score(targets, predicted)
    assert float(values["r2"]) == pytest.approx(r2, abs=1e-5)


@pytest.mark.parametrize("targets", [[1.0], [0.1, 0.1, 0.1]])
def test_a_regression_whose_targets_do_not_vary_has_an_error_but_no_r2(
    targets: list[float],
) -> None:
    true = torch.tensor(targets)[:, None]
    values = for_task("regression", classes=0, threshold=0.5)(true + 2.0, true)
    assert float(values["rmse"]) == pytest.approx(2.0)
    assert np.isnan(float(values["r2"]))


def test_a_regression_beside_a_large_mean_is_scored_as_in_double_precision() -> None:
    generator = np.random.default_rng(0)
    targets = (1e6 + 100 * generator.normal(size=(1_000_000, 1))).astype(np.float32)
    predicted = (targets + 31 * generator.normal(size=targets.shape)).astype(np.float32)
    given = torch.from_numpy(predicted), torch.from_numpy(targets)
    values = for_task("regression", classes=0, threshold=0.5)(*given)
    errors = (predicted.astype(np.float64) - targets)[:, 0]
    squares, mean = math.fsum(errors**2), math.fsum(targets[:, 0]) / len(errors)
    spread = math.fsum((targets[:, 0].astype(np.float64) - mean) ** 2)
    assert float(values["r2"]) == pytest.approx(1 - squares / spread, abs=1e-12)
    assert float(values["rmse"]) == pytest.approx(math.sqrt(squares / len(errors)), rel=1e-12)
    mae = math.fsum(np.abs(errors)) / len(errors)
    assert float(values["mae"]) == pytest.approx(mae, rel=1e-12)


def test_counts_of_each_class_equal_scikit_learns_confusion_matrices() -> None:
    probabilities, targets = random_multiclass(2, 100, 4)
    predicted = probabilities.argmax(dim=1)
    scores = class_scores(confusion(predicted, targets, classes=4), ("a", "b", "c", "d"))
    oracle = sklearn_metrics.multilabel_confusion_matrix(targets, predicted)
    for one, ((tn, fp), (fn, tp)) in zip(scores, oracle, strict=True):
        assert one.counts == (tp, fp, tn, fn)
    report = sklearn_metrics.precision_recall_fscore_support(targets, predicted, zero_division=0)
    for index, one in enumerate(scores):
        expected = [column[index] for column in report]
        assert [one.precision, one.recall, one.f1, one.support] == pytest.approx(expected)


def test_a_class_that_nothing_was_called_and_nothing_is_scores_zero() -> None:
    matrix = torch.tensor([[3, 0], [0, 0]])
    absent = class_scores(matrix, ("here", "absent"))[1]
    assert (absent.precision, absent.recall, absent.f1, absent.support) == (0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("key", "better"), [("val/f1", "max"), ("val/rmse", "min"), ("val/loss", "min"), ("r2", "max")]
)
def test_which_way_is_better_is_known_from_the_metric(key: str, better: str) -> None:
    assert direction(key) == better
