"""Quantities that several verdicts rest on, a verdict itself, and the overrides it can offer.

A quantity is `None` where the findings do not have it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from pipeline.bootstrap import LEVEL, Units, units_of_test
from pipeline.findings import Array, Findings

#: Error on the training rows as a share of the naive one: less than a quarter is explained.
#:
#: Noise alone takes half of it in many tables.
UNLEARNED = 0.75
#: Test rows of a class; that one of fewer is never answered may be chance.
FEWEST_OF_A_CLASS = 5
#: Rows of a class that are called so, as a share of it: next to none.
FOUND = 0.1
#: Rows that are called a class, rightly or not, as a share of those that are of it.
CALLED = 0.5
#: Share of the training rows that a rare class has, times the number of classes.
RARE = 0.5
#: Share of the test rows that are called the same.
ONE_FOR_ALL = 0.95
RECURRENT = ("RNN", "GRU", "LSTM")
_OF_RECURRENT = {"model.norm": ("layer",), "model.activation": ("tanh", "relu")}

#: Share of the present learning rate below which none is offered in its place.
SLOWEST = 3e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that is wrong with a run.

    Args:
        name: Name of the function that finds it; set by `diagnose`.
        evidence: How one sees it, with numbers, as the rest of a sentence.
        numbers: These numbers by name.
        cures: Overrides that would help, the likeliest first. A rule may name overrides that do
            not apply to the run and empty texts; `diagnose` keeps those that `applicable` does.
        advice: What would help where no override does.
    """

    name: str = ""
    evidence: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    cures: tuple[str, ...] = ()
    advice: str = ""

    @property
    def line(self) -> str:
        """The verdict as one line."""
        tried = f"try {' or '.join(self.cures[:2])}" if self.cures else self.advice
        return f"{self.name}: {self.evidence}" + (f"; {tried}" if tried else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; a number that is not finite is left out."""
        finite = {k: float(v) for k, v in self.numbers.items() if abs(v) < float("inf")}
        return {**asdict(self), "numbers": finite, "cures": list(self.cures)}


def setting(findings: Findings, key: str) -> Any:
    """Return the value of a dotted key of the config; `None` where it has none."""
    value: Any = findings.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(findings: Findings, key: str) -> float:
    """Return the number at a dotted key of the config; 0 where it is absent or null."""
    return setting(findings, key) or 0.0


def largest_update(findings: Findings) -> float:
    """Return update / weight of the fastest layer in the fastest epoch; 0 where it is unknown."""
    updates = np.zeros(0) if findings.vitals is None else findings.vitals.updates
    return float(np.max(updates[np.isfinite(updates)], initial=0.0))


def learning_rate_times(findings: Findings, factor: float) -> str:
    """Return the override for a learning rate that is `factor` times the present one."""
    rate = setting(findings, "optimizer.lr")
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        return ""
    return f"optimizer.lr={float(f'{rate * factor:.1g}'):g}"


def lower_learning_rate(findings: Findings) -> str:
    """Return the override for a rate whose steps move no layer by more than 1 % of its weights.

    It is a tenth of the present rate at most, and `SLOWEST` of it at least: steps that grow until
    the loss is not a number do not tell which rate would do.
    """
    factor = float(f"{0.01 / max(largest_update(findings), 1e-9):.0e}")
    return learning_rate_times(findings, min(0.1, max(SLOWEST, factor)))


def with_norm(findings: Findings) -> str:
    """Return the override that normalizes the values of each layer."""
    return f"model.norm={'layer' if findings.model in RECURRENT else 'batch'}"


def standard_scale(findings: Findings) -> str:
    """Return the override that standardizes inputs; pictures have one scale already."""
    return "" if findings.kind == "images" else "data.scale=standard"


def more_epochs(findings: Findings, factor: int) -> str:
    """Return the override for `factor` times as many epochs."""
    return f"trainer.max_epochs={factor * findings.planned}"


def regularization(findings: Findings) -> tuple[str, str]:
    """Return the overrides for dropout and weight decay; each empty where there is enough."""
    return (
        "model.dropout=0.3" if number(findings, "model.dropout") < 0.3 else "",
        "optimizer.weight_decay=0.01" if number(findings, "optimizer.weight_decay") < 0.01 else "",
    )


def applicable(findings: Findings, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return those overrides whose key the run has, with another value, each once."""
    return tuple(dict.fromkeys(word for word in overrides if word and _applies(findings, word)))


def _applies(findings: Findings, override: str) -> bool:
    key, _, value = override.partition("=")
    if isinstance(setting(findings, key), Mapping):
        return not setting(findings, key)  # a group takes the place of what is there
    group, _, name = key.rpartition(".")
    section = setting(findings, group) if group else findings.config
    if not isinstance(section, Mapping) or name not in section:
        return False
    if findings.model in RECURRENT and value not in _OF_RECURRENT.get(key, (value,)):
        return False
    # What the user's own networks know is unknown.
    is_ours = str(setting(findings, "model._target_")).startswith("pipeline.networks.")
    is_known = group != "model" or is_ours
    return is_known and _comparable(section[name]) != _comparable(value)


def _comparable(value: Any) -> float | str:
    text = "null" if value is None else str(value).replace(" ", "")
    try:
        return float(text)
    except ValueError:
        return text.lower()


# ── quantities ──────────────────────────────────────────────────────────────────────────────


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
        ours = weights * (test.called(findings.threshold) == test.targets)
        theirs = weights * (replace(test, outputs=other).called(0.5) == test.targets)
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
    chosen = test.called(findings.threshold)
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
