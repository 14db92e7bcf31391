"""Quantities that several verdicts rest on, each `None` where the findings do not have it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.bootstrap import LEVEL, Units, units_of_test
from pipeline.doctor.verdict import setting
from pipeline.findings.records import Array, Findings
from pipeline.mistakes import called

UNLEARNED = 0.75
"""Error on the training rows as a share of the naive one: less than a quarter is explained.

Noise alone takes half of it in many tables."""
FEWEST_OF_A_CLASS = 5
"""Test rows of a class; that one of fewer is never answered may be chance."""
FOUND = 0.1
"""Rows of a class that are called so, as a share of it: next to none."""
CALLED = 0.5
"""Rows that are called a class, rightly or not, as a share of those that are of it."""
RARE = 0.5
"""Share of the training rows that a rare class has, times the number of classes."""
ONE_FOR_ALL = 0.95
"""Share of the test rows that are called the same."""


def curve(findings: Findings, key: str) -> Array:
    """Return a value of all epochs that have it, in order, (epochs,)."""
    values = [epoch[key] for _, epoch in sorted(findings.history.items()) if key in epoch]
    return np.array(values, dtype=np.float64)


def error(findings: Findings, part: Literal["train", "validation", "test"]) -> float | None:
    """Return the share of wrong rows, or of the variance that is not explained, of kept weights."""
    key = "r2" if findings.task == "regression" else "accuracy"
    last = findings.history.get(findings.kept or findings.epochs, {})
    value = {
        "train": findings.training.get(key),
        "validation": findings.metrics.get(f"best/val/{key}", last.get(f"val/{key}")),
        "test": findings.metrics.get(f"test/{key}"),
    }[part]
    return None if value is None or not math.isfinite(value) else 1 - value


def naive_loss(findings: Findings) -> float | None:
    """Return the loss of answering by the classes' shares; `None` where it is unknown."""
    weights = setting(findings, "loss.class_weights")
    if weights is not None or not findings.shares:
        # With balanced weights each class is as frequent as any other.
        return math.log(len(findings.shares)) if weights == "balanced" else None
    return -sum(share * math.log(share) for share in findings.shares if share > 0)


def is_unlearned(findings: Findings) -> bool:
    """Return whether the training rows themselves are answered hardly better than naively.

    Each class counts alike, since to answer the most frequent one is right for most rows where
    the others are rare.
    """
    if findings.end == "diverged":
        return True
    classes = len(findings.classes)
    if classes < 2:
        value = error(findings, "train")
        return value is not None and value >= UNLEARNED
    recall = _mean_recall(findings)
    return recall is not None and 1 - recall >= UNLEARNED * (1 - 1 / classes)


def _mean_recall(findings: Findings) -> float | None:
    """Return the mean over the classes of the share of training rows that are called right."""
    recall, accuracy = (findings.training.get(key) for key in ("recall", "accuracy"))
    if findings.task != "binary":
        return recall
    if recall is None or accuracy is None or len(findings.shares) != 2 or min(findings.shares) == 0:
        return accuracy
    negatives, positives = findings.shares
    return (recall + (accuracy - positives * recall) / negatives) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much smaller the network's error is than a baseline's, on the same test rows.

    Each class counts alike: calling every row by the most frequent class gains nothing.

    Args:
        mean: As a share of rows, or of the baseline's squared error.
        low: Lower end of its interval.
        high: Upper end.
        ours: The network's share of rows that are right, or its RMSE.
        theirs: The same of the baseline.
    """

    mean: float
    low: float
    high: float
    ours: float
    theirs: float


def gain(
    findings: Findings, baseline: Literal["naive", "linear"], *, level: float = LEVEL
) -> Gain | None:
    """Compare the network with a baseline row by row; `None` where there was no test.

    Args:
        findings: Of the run.
        baseline: Which one.
        level: How often the interval shall hold the true gain.
    """
    test = findings.test
    other = None if test is None else getattr(test, baseline)
    if test is None or other is None or len(test.targets) < 2:
        return None
    units = units_of_test(findings)
    if findings.task == "regression":
        theirs, ours = (np.square(one - test.targets).mean(1) for one in (other, test.outputs))
        scale = max(theirs.mean(), 1e-12)
        low, high = _interval((theirs - ours) / scale, units, level)
        ends = float(np.sqrt(ours.mean())), float(np.sqrt(theirs.mean()))
        mean = 1 - float(ours.mean() / scale)
    else:
        # Weights with the mean 1 let each class that is there count alike.
        counts = np.bincount(test.targets, minlength=len(findings.classes))
        weights = len(test.targets) / (np.count_nonzero(counts) * counts[test.targets])
        ours = weights * (called(test, threshold=findings.threshold) == test.targets)
        theirs = weights * (called(replace(test, outputs=other), threshold=0.5) == test.targets)
        low, high = _interval(ours - theirs, units, level)
        ends = float(ours.mean()), float(theirs.mean())
        mean = ends[0] - ends[1]
    return Gain(mean=mean, low=low, high=high, ours=ends[0], theirs=ends[1])


def _interval(values: Array, units: Units, level: float) -> tuple[float, float]:
    """Return both ends of the mean's interval by Student's t over the means of the units."""
    if not units.are_enough:
        return -math.inf, math.inf
    mean = float(values.mean())
    off = np.bincount(units.of_row, weights=values - mean, minlength=units.count)
    half = units.errors(level=level) * float(np.sqrt((off**2).sum())) / len(values)
    return mean - half, mean + half


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedClasses:
    """Classes that the test rows are hardly ever called.

    Args:
        classes: Which, the largest first.
        hits: Rows of each class that are called so, (classes,).
        support: Rows of each class, (classes,).
        rare: Whether one of them is rare in the training rows.
    """

    classes: tuple[int, ...]
    hits: Array
    support: Array
    rare: bool


def missed_classes(findings: Findings) -> MissedClasses | None:
    """Return the classes that are never found, or next to never; `None` where there are none."""
    test, classes = findings.test, len(findings.classes)
    if test is None or classes == 0 or len(findings.shares) != classes:
        return None
    chosen = called(test, threshold=findings.threshold)
    support, calls = (np.bincount(one, minlength=classes) for one in (test.targets, chosen))
    hits = np.bincount(chosen[chosen == test.targets], minlength=classes)
    missed = (hits <= FOUND * support) & (calls <= CALLED * support)
    found = np.flatnonzero(missed & (support >= FEWEST_OF_A_CLASS))
    # Balanced classes may be missed for long: that is no collapse, but too little learned.
    rare = any(findings.shares[one] * classes < RARE for one in found)
    if not len(found) or not (rare or calls.max() >= ONE_FOR_ALL * calls.sum()):
        return None
    largest_first = tuple(sorted(map(int, found), key=lambda one: -int(support[one])))
    return MissedClasses(classes=largest_first, hits=hits, support=support, rare=rare)
