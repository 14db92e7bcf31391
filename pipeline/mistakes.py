"""Predictions for the test rows, their errors, and the worst mistakes."""

import numpy as np
from numpy.typing import NDArray

from pipeline.findings import Array, TestRows


def worst(test: TestRows, *, threshold: float, count: int) -> NDArray[np.int64]:
    """Return the positions of the worst mistakes, the worst first, int64 (at most `count`,).

    In a classification, a mistake is a row with a wrong class, the worse the less probable the
    true class was predicted to be. In a regression, a row is judged by its largest error, in
    standard deviations of the targets. A row with a prediction that is NaN is the worst.

    Args:
        test: Outputs and targets.
        threshold: Probability above which a row of a binary task counts as positive.
        count: How many are wanted.
    """
    wrong = _distance(test) if test.targets.ndim == 2 else _doubt(test, threshold=threshold)
    order = np.argsort(-wrong, kind="stable")[:count]
    return order[wrong[order] > 0].astype(np.int64)


def probabilities_of(test: TestRows) -> NDArray[np.float64]:
    """Return the probability of each class, of two as of more, (rows, classes)."""
    outputs = np.asarray(test.outputs, dtype=np.float64)
    return np.column_stack([1 - outputs, outputs]) if outputs.ndim == 1 else outputs


def called(test: TestRows, *, threshold: float) -> NDArray[np.int64]:
    """Return the predicted class of each row, int64 (rows,).

    Args:
        test: Outputs of a classification.
        threshold: Probability above which a row of a binary task counts as positive.
    """
    if test.outputs.ndim == 1:
        return (test.outputs > threshold).astype(np.int64)
    return np.asarray(test.outputs.argmax(1), dtype=np.int64)


def errors(test: TestRows) -> Array:
    """Return how far the values of each row are off, the mean over its outputs, (rows,)."""
    off = np.abs(test.outputs.astype(np.float64) - test.targets)
    mean: Array = off.reshape(len(off), -1).mean(1)
    return mean


def _distance(test: TestRows) -> Array:
    """Return how far a row is off, in deviations of its target, (rows,)."""
    targets = np.asarray(test.targets, dtype=np.float64)
    known = np.where(np.isfinite(targets), targets, np.nan)
    mean = np.nanmean(known, axis=0) if len(known) else 0.0
    spread = np.sqrt(np.nanmean((known - mean) ** 2, axis=0)) if len(known) else 1.0
    off = np.abs(test.outputs - targets) / np.where(spread > 0, spread, 1.0)
    off[np.isnan(off)] = np.inf
    off[~np.isfinite(targets)] = 0.0  # an unknown target has no error
    largest: Array = off.max(axis=1, initial=0.0)
    return largest


def _doubt(test: TestRows, *, threshold: float) -> Array:
    """Return 1 − the true class's probability where the prediction is wrong, else 0, (rows,)."""
    given = probabilities_of(test)
    right = called(test, threshold=threshold) == test.targets
    # With a high threshold, a row may be wrong even where its true class has probability 1.
    smallest = np.finfo(np.float64).tiny
    doubt = np.maximum(1.0 - given[np.arange(len(given)), test.targets], smallest)
    return np.where(np.isnan(given).any(1), np.inf, np.where(right, 0.0, doubt))
