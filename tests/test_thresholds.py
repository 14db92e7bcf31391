"""The threshold of a rule, beside scikit-learn's curve and every threshold tried by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_recall_curve, recall_score

from pipeline.metrics import FoundThreshold, find_threshold

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
def test_no_threshold_has_a_higher_f1_than_the_one_that_is_found(
    seed: int, levels: int | None
) -> None:
    scores, classes = made(seed, levels=levels)
    best = found("best_f1", scores, classes)
    assert best.reached == pytest.approx(max(every_f1(scores, classes)))
    assert f1_score(classes, called(scores, best.threshold)) == pytest.approx(best.reached)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_f1_is_that_of_the_curve_of_scikit_learn(seed: int) -> None:
    scores, classes = made(seed)
    precision, recall, _ = precision_recall_curve(classes, scores)
    with np.errstate(invalid="ignore"):
        curve = np.nan_to_num(2 * precision * recall / (precision + recall))
    assert found("best_f1", scores, classes).reached == pytest.approx(curve.max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("least", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("levels", [None, 5])
def test_the_highest_threshold_with_that_recall_is_found(
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


def test_a_threshold_lies_midway_between_the_scores_that_it_parts() -> None:
    scores = np.array([0.2, 0.25, 0.75, 0.875], dtype=np.float32)
    classes = np.array([0, 0, 1, 1])
    assert found("best_f1", scores, classes).threshold == 0.5
    assert found("recall_at_0.5", scores, classes).threshold == (0.75 + 0.875) / 2


def test_of_thresholds_with_equal_f1_the_one_nearest_to_a_half_is_taken() -> None:
    # The positives alone, 1 of 2: 2·1/(1+2) = 2/3; with two negatives more, 2 of 4: 4/(4+2).
    scores = np.array([0.95, 0.9, 0.85, 0.4, 0.05], dtype=np.float32)
    classes = np.array([1, 0, 0, 1, 0])
    assert every_f1(scores, classes)[::-1] == pytest.approx([2 / 3, 1 / 2, 2 / 5, 2 / 3, 4 / 7])
    best = found("best_f1", scores, classes)
    assert best.threshold == pytest.approx((0.4 + 0.05) / 2)


def test_neighbours_that_touch_are_still_told_apart() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([low, high], dtype=np.float32)
    best = found("best_f1", scores, np.array([0, 1]))
    assert called(scores, best.threshold).tolist() == [0, 1]


def test_a_network_that_says_the_same_of_every_row_calls_all_of_them() -> None:
    scores = np.full(10, 0.3, dtype=np.float32)
    classes = np.array([1, 0] * 5)
    best = found("best_f1", scores, classes)
    assert called(scores, best.threshold).sum() == 10
    assert best == FoundThreshold(
        threshold=best.threshold, metric="f1", reached=pytest.approx(2 / 3), rows=10
    )


def test_a_positive_row_with_the_probability_zero_is_not_claimed_to_be_found() -> None:
    scores = np.array([0.9, 0.0, 0.0], dtype=np.float32)
    classes = np.array([1, 1, 0])
    chosen = found("recall_at_0.9", scores, classes)
    assert recall_score(classes, called(scores, chosen.threshold)) == chosen.reached == 0.5
