"""Figures that several verdicts rest on, each `None` where the findings don't have it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.bootstrap import LEVEL, Units, units_of, units_of_test
from pipeline.doctor import thresholds
from pipeline.doctor.remedies import setting
from pipeline.findings.records import Array, Findings
from pipeline.mistakes import called

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much smaller the network's error is than a baseline's, on the same test rows.

    Each class counts alike: who calls every row by the most frequent one gains nothing by it.

    Args:
        mean: As a share of rows, or of the baseline's squared error.
        low: Lower end of its interval.
        high: Upper end.
        ours: What the network comes to: the share of rows that are right, or the RMSE.
        theirs: The same of the baseline.
    """

    mean: float
    low: float
    high: float
    ours: float
    theirs: float


def error(findings: Findings, part: Part) -> float | None:
    """Return the share of wrong rows, or of the variance that is not explained, of kept weights."""
    key = "r2" if findings.task == "regression" else "accuracy"
    values = {
        "train": findings.training.get(key),
        "validation": _validated(findings, key),
        "test": findings.metrics.get(f"test/{key}"),
    }
    value = values[part]
    return None if value is None or not math.isfinite(value) else 1 - value


def naive_error(findings: Findings) -> float:
    """Return the error of the most frequent class, or of the mean."""
    return 1 - max(findings.shares) if findings.shares else 1.0


def says_error(findings: Findings, value: float) -> str:
    """Say an error as what is right: `93 % right`, `R² 0.93`."""
    if findings.task == "regression":
        return f"R² {1 - value:.2f}"
    return f"{100 * (1 - value):.0f} % right"


def losses(findings: Findings, key: str) -> Array:
    """Return a value of all epochs that have it, in order."""
    values = [epoch[key] for _, epoch in sorted(findings.history.items()) if key in epoch]
    return np.array(values, dtype=np.float64)


def naive_loss(findings: Findings) -> float | None:
    """Return the loss of answering by the classes' shares; `None` where nobody can tell."""
    weights = setting(findings, "loss.class_weights")
    if weights is not None or not findings.shares:
        # With balanced weights each class is as frequent as any other.
        return math.log(len(findings.shares)) if weights == "balanced" else None
    return -sum(share * math.log(share) for share in findings.shares if share > 0)


def gain(
    findings: Findings,
    baseline: Literal["naive", "linear"],
    *,
    level: float = LEVEL,
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
        low, high = _interval((theirs - ours) / max(theirs.mean(), 1e-12), units, level)
        ends = float(np.sqrt(ours.mean())), float(np.sqrt(theirs.mean()))
        mean = 1 - float(ours.mean() / max(theirs.mean(), 1e-12))
    else:
        weights = _alike(test.targets, classes=len(findings.classes))
        ours = weights * (called(test, threshold=findings.threshold) == test.targets)
        theirs = weights * (called(replace(test, outputs=other), threshold=0.5) == test.targets)
        low, high = _interval(ours - theirs, units, level)
        ends = float(ours.mean()), float(theirs.mean())
        mean = ends[0] - ends[1]
    return Gain(mean=mean, low=low, high=high, ours=ends[0], theirs=ends[1])


def of_the_line(findings: Findings) -> Findings:
    """Return the findings with the linear baseline's answers in place of the network's."""
    test = findings.test
    if test is None or test.linear is None:
        return replace(findings, test=None)
    return replace(findings, threshold=0.5, test=replace(test, outputs=test.linear))


def beside(findings: Findings, found: Gain) -> str:
    """Say what the network comes to beside what a baseline does."""
    if findings.task == "regression":
        return f"test/rmse is {found.ours:.3g} beside {found.theirs:.3g}"
    ours, theirs = 100 * found.ours, 100 * found.theirs
    return f"{ours:.1f} % of each class's test rows are right beside {theirs:.1f} %"


def is_unlearned(findings: Findings, share: float) -> bool:
    """Tell whether the training rows themselves are answered hardly better than naively.

    Each class counts alike, since to answer the most frequent one is right of most rows where
    the others are rare.
    """
    if findings.end == "diverged":
        return True
    value = error(findings, "train")
    classes = len(findings.classes)
    if classes < 2:
        return value is not None and value >= share
    recall = _mean_recall(findings)
    return recall is not None and 1 - recall >= share * (1 - 1 / classes)


def _mean_recall(findings: Findings) -> float | None:
    """Return the mean over the classes of the share of training rows that are told right."""
    recall, accuracy = (findings.training.get(key) for key in ("recall", "accuracy"))
    if findings.task != "binary" or recall is None or accuracy is None:
        return recall if findings.task != "binary" else accuracy
    if len(findings.shares) != 2 or min(findings.shares) == 0:
        return accuracy
    negatives, positives = findings.shares
    return (recall + (accuracy - positives * recall) / negatives) / 2


def _validated(findings: Findings, key: str) -> float | None:
    if f"best/val/{key}" in findings.metrics:
        return findings.metrics[f"best/val/{key}"]
    last = findings.history.get(findings.kept or findings.epochs, {})
    return last.get(f"val/{key}")


def rows_as_one(findings: Findings, rows: int) -> float:
    """Return how many rows of a part tell as much as one that is independent of all others."""
    test = units_of_test(findings)
    if test.kind == "group":  # those of the other parts are not on record
        return len(test.of_row) / test.effective
    horizon = findings.horizon if findings.targets else None
    return rows / units_of(rows, horizon=horizon).count


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Classes that the test rows are hardly ever told to be.

    Args:
        classes: Which, the largest first.
        hits: Rows of each class that are told so, (classes,).
        there: Rows of each class, (classes,).
        rare: Whether one of them is rare in the training rows.
    """

    classes: tuple[int, ...]
    hits: Array
    there: Array
    rare: bool


def silence(findings: Findings) -> Silence | None:
    """Return the classes that are never found, or next to never; `None` where there are none."""
    test, classes = findings.test, len(findings.classes)
    if test is None or classes == 0 or len(findings.shares) != classes:
        return None
    told = called(test, threshold=findings.threshold)
    there, said = (np.bincount(one, minlength=classes) for one in (test.targets, told))
    hits = np.bincount(told[told == test.targets], minlength=classes)
    missed = (hits <= thresholds.FOUND * there) & (said <= thresholds.CALLED * there)
    silent = np.flatnonzero(missed & (there >= thresholds.FEWEST_OF_A_CLASS))
    # In balanced classes some stay silent for long: that is no collapse, but too little learned.
    rare = any(findings.shares[one] * classes < thresholds.RARE for one in silent)
    if not len(silent) or not (rare or said.max() >= thresholds.ONE_FOR_ALL * said.sum()):
        return None
    largest_first = tuple(sorted(map(int, silent), key=lambda one: -int(there[one])))
    return Silence(classes=largest_first, hits=hits, there=there, rare=rare)


def _alike(targets: Array, *, classes: int) -> Array:
    """Return weights with the mean 1 that let each class that is there count alike, (rows,)."""
    counts = np.bincount(targets, minlength=classes)
    weights: Array = len(targets) / (np.count_nonzero(counts) * counts[targets])
    return weights


def _interval(values: Array, units: Units, level: float) -> tuple[float, float]:
    """Return both ends of the mean's interval by Student's t over the means of the units."""
    if not units.are_enough:
        return -math.inf, math.inf
    mean = float(values.mean())
    off = np.bincount(units.of_row, weights=values - mean, minlength=units.count)
    reach = units.errors(level=level) * float(np.sqrt((off**2).sum())) / len(values)
    return mean - reach, mean + reach
