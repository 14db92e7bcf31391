"""Quantities that the rules take from a run's findings, and overrides that may help."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.base.findings import Array, Findings, Vitals
from pipeline.scoring.bootstrap import LEVEL, Units, units_of_test

#: Training error as a share of the naive error: less than a quarter of it is explained.
#:
#: In many tables, noise alone makes up half of the naive error.
UNLEARNED = 0.75
#: Fewest test rows that allow any conclusion.
FEWEST_ROWS = 10
#: Fewest test rows of a class; a smaller class may be missed by chance.
FEWEST_OF_A_CLASS = 5
#: Recall of a class that counts as missed.
FOUND = 0.25
#: Number of predictions of a missed class, right or wrong, as a share of its rows.
CALLED = 0.5
#: Share of the training rows in a rare class, times the number of classes.
RARE = 0.5
#: Number of units below which a layer is narrow: shares of so few units say little.
NARROW = 8
#: Share of the test rows with the same prediction.
ONE_FOR_ALL = 0.95
RECURRENT = ("RNN", "GRU", "LSTM")
_OF_RECURRENT = {"model.norm": ("layer",), "model.activation": ("tanh", "relu")}

#: Lowest learning rate that is offered, as a share of the present one.
SLOWEST = 3e-4
#: Highest learning rate that is offered: the defaults of `conf/optimizer/` are at most these.
HIGHEST = {"SGD": 0.05, "Adagrad": 0.03}
HIGHEST_OF_OTHERS = 0.01
#: Smallest width that is offered for a layer.
SMALLEST_WIDTH = 16


class Gain(NamedTuple):
    """How much smaller the network's error is than a baseline's, on the same test rows.

    Each class has the same weight, so that predicting the most frequent class gains nothing.

    Args:
        baseline: Name of the baseline in keys, such as `naive`.
        name: What it is, in words.
        mean: The gain, as a share of rows or of the baseline's squared error.
        low: Lower end of its interval.
        high: Upper end of its interval.
        ours: The network's share of right rows, or its RMSE.
        theirs: The baseline's share of right rows, or its RMSE.
    """

    baseline: str
    name: str
    mean: float
    low: float
    high: float
    ours: float
    theirs: float

    @property
    def numbers(self) -> dict[str, float]:
        """The gain and its interval by name."""
        return {"gain": self.mean, "low": self.low, "high": self.high}


class MissedClasses(NamedTuple):
    """Classes that are hardly ever predicted for the test rows, the largest first.

    Args:
        classes: The missed classes.
        hits: Rows of each class that are predicted as it, (all classes,).
        support: Rows of each class, (all classes,).
        rare: Whether one of the missed classes is rare in the training rows.
        is_one_for_all: Whether all test rows are predicted as one class.
    """

    classes: tuple[int, ...]
    hits: Array
    support: Array
    rare: bool
    is_one_for_all: bool


class Evidence:
    """Quantities of a run's findings that several rules use; `None` if a run lacks them."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.diverged = findings.has_diverged
        self.is_regression = findings.task == "regression"
        self.tested = 0 if findings.test is None else len(findings.test.targets)
        #: Whether there was a test, but on too few rows for any conclusion.
        self.has_few_rows = 0 < self.tested < FEWEST_ROWS

    @cached_property
    def units(self) -> Units:
        """What counts as independent among the test rows."""
        return units_of_test(self.findings)

    def setting(self, key: str) -> Any:
        """Return the value at a dotted key of the config; `None` if the key is missing."""
        value: Any = self.findings.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def number(self, key: str) -> float:
        """Return the number at a dotted key of the config; 0 if it is missing or null."""
        return self.setting(key) or 0.0

    @property
    def optimizer(self) -> str:
        """Name of the optimizer's class, such as `SGD`."""
        return str(self.setting("optimizer._target_")).rpartition(".")[2]

    @property
    def is_memorizing(self) -> bool:
        """Whether the run trains on a few batches only, to see whether it can memorize them."""
        return self.number("trainer.overfit_batches") > 0

    @property
    def is_weighted(self) -> bool:
        """Whether classes have weights in the loss."""
        return self.setting("loss.class_weights") is not None and len(self.findings.classes) > 1

    @property
    def is_linear(self) -> bool:
        """Whether the network is an MLP without a hidden layer."""
        return self.findings.model == "MLP" and self.setting("model.hidden") == []

    def curve(self, key: str) -> Array:
        """Return the values of a metric in the epochs that have it, in order, (epochs,)."""
        epochs = sorted(self.findings.history.items())
        return np.array([values[key] for _, values in epochs if key in values], dtype=np.float64)

    @property
    def epochs_with_validation(self) -> list[int]:
        """The epochs that have a validation loss, counted from 1, in order."""
        history = self.findings.history
        return sorted(epoch for epoch in history if "val/loss" in history[epoch])

    @property
    def vitals(self) -> Vitals:
        """Gradients and updates of the layers, for rules that need them."""
        assert self.findings.vitals is not None
        return self.findings.vitals

    @property
    def largest_update(self) -> float:
        """Update / weight of the fastest layer in the fastest epoch; 0 if it is unknown."""
        vitals = self.findings.vitals
        updates = np.zeros(0) if vitals is None else vitals.updates
        return float(np.max(updates[np.isfinite(updates)], initial=0.0))

    def _figure(self, key: str, part: str) -> float | None:
        """Return a score of the kept weights; `None` if it is missing or not finite."""
        findings = self.findings
        if part == "train":
            value = findings.training.get(key)
        elif part == "validation":
            last = findings.history.get(findings.kept or findings.epochs, {})
            value = findings.metrics.get(f"best/val/{key}", last.get(f"val/{key}"))
        else:
            value = findings.metrics.get(f"{part}/{key}")
        return None if value is None or not math.isfinite(value) else value

    def error(self, part: str) -> float | None:
        """Return the share of wrong rows, or of unexplained variance.

        `part` is `train`, `validation` or `test`, or the name of a baseline for its error on the
        test rows. Where classes have weights, each class counts as much as every other one.
        """
        if self.is_weighted:
            return self.balanced_error(part)
        score = self._figure("r2" if self.is_regression else "accuracy", part)
        return None if score is None else 1 - score

    def balanced_error(self, part: str) -> float | None:
        """Return the mean over the classes of the share of wrong rows."""
        recall = self._figure("recall", part)
        if self.findings.task == "binary":  # its recall is that of the positive class
            accuracy = self._figure("accuracy", part)
            shares = self.findings.shares
            if recall is None or accuracy is None or len(shares) != 2 or min(shares) == 0:
                return None if accuracy is None else 1 - accuracy
            negatives, positives = shares
            recall = (recall + (accuracy - positives * recall) / negatives) / 2
        return None if recall is None else 1 - recall

    def score(self, error: float) -> str:
        """Return an error as the figure of its score: `93 %`, or `0.93` for R²."""
        return f"{1 - error:.2f}" if self.is_regression else f"{100 * (1 - error):.0f} %"

    def named_score(self, error: float) -> str:
        """Return the score that belongs to an error with its name: `accuracy 93 %`, `R² 0.93`."""
        balanced = "balanced " if self.is_weighted else ""
        return f"{'R²' if self.is_regression else f'{balanced}accuracy'} {self.score(error)}"

    @property
    def naive_error(self) -> float:
        """Error of predicting the most frequent class or the mean."""
        if self.is_weighted:
            return 1 - 1 / len(self.findings.classes)
        return 1 - max(self.findings.shares) if self.findings.shares else 1.0

    @property
    def naive_loss(self) -> float | None:
        """Loss of predicting the classes' shares, or the mean of scaled targets.

        `None` if it is unknown.
        """
        if self.is_regression:
            return 1.0 if self.setting("data.scale") == "standard" else None
        shares = self.findings.shares
        if not shares:
            return None
        weights = self.setting("loss.class_weights")
        if weights == "balanced":  # all classes are equally frequent
            return math.log(len(shares))
        if weights is not None:
            parts = np.multiply(weights, shares)
            shares = (parts / parts.sum()).tolist()
        return -sum(share * math.log(share) for share in shares if share > 0)

    @property
    def is_unlearned(self) -> bool:
        """Whether training rows are predicted hardly better than naively; classes count equally."""
        classes = len(self.findings.classes)
        if self.diverged:
            return True
        if classes < 2:
            error = self.error("train")
            return error is not None and error >= UNLEARNED
        error = self.balanced_error("train")
        return error is not None and error >= UNLEARNED * (1 - 1 / classes)

    def gain(self, baseline: str, *, level: float = LEVEL) -> Gain | None:
        """Compare the network with a baseline row by row; `None` if there was no test.

        `level` is the probability with which the interval contains the true gain.
        """
        test = self.findings.test
        if test is None or baseline not in test.baselines or self.tested < 2:
            return None
        outputs = test.baselines[baseline]
        name = self.findings.baselines.get(baseline, f"the {baseline} baseline")
        if self.is_regression:
            losses = np.square(test.outputs - test.targets).mean(1)
            other_losses = np.square(outputs - test.targets).mean(1)
            scale = max(other_losses.mean(), 1e-12)
            ends = self._interval((other_losses - losses) / scale, level)
            roots = float(np.sqrt(losses.mean())), float(np.sqrt(other_losses.mean()))
            return Gain(baseline, name, 1 - float(losses.mean() / scale), *ends, *roots)
        # Weights with mean 1 give all classes in the test rows the same influence.
        counts = np.bincount(test.targets, minlength=len(self.findings.classes))
        weights = self.tested / (np.count_nonzero(counts) * counts[test.targets])
        hits = weights * (test.called(self.findings.threshold) == test.targets)
        other_hits = weights * (replace(test, outputs=outputs).called(0.5) == test.targets)
        means = float(hits.mean()), float(other_hits.mean())
        ends = self._interval(hits - other_hits, level)
        return Gain(baseline, name, means[0] - means[1], *ends, *means)

    def _interval(self, values: Array, level: float) -> tuple[float, float]:
        """Return both ends of the mean's interval, by Student's t over the means of the units."""
        units = self.units
        if not units.are_enough:
            return -math.inf, math.inf
        mean = float(values.mean())
        off = np.bincount(units.of_row, weights=values - mean, minlength=units.count)
        half = units.errors(level=level) * float(np.sqrt((off**2).sum())) / len(values)
        return mean - half, mean + half

    @property
    def orders_the_rows(self) -> bool:
        """Whether the probabilities order the rows better than chance does.

        If the area under the ROC curve has no interval, for example because a class has too few
        rows, its standard error under chance is used (Mann and Whitney 1947).
        """
        findings = self.findings
        if "auroc" in findings.intervals:
            return findings.intervals["auroc"][0] > 0.5
        if "test/auroc" not in findings.metrics or findings.test is None:
            return False
        fewest = int(np.unique(findings.test.targets, return_counts=True)[1].min())
        pairs = fewest * max(self.tested - fewest, 1)
        error = math.sqrt((self.tested + 1) / (12 * pairs))
        return findings.metrics["test/auroc"] - 1.96 * error > 0.5

    @property
    def has_rare_class(self) -> bool:
        """Whether a class is rare in the training rows."""
        shares = self.findings.shares
        return bool(shares) and min(shares) * len(shares) < RARE

    @cached_property
    def missed_classes(self) -> MissedClasses | None:
        """Classes that are never or hardly ever found; `None` if there are none."""
        test = self.findings.test
        shares = self.findings.shares
        classes = len(self.findings.classes)
        if test is None or classes == 0 or len(shares) != classes:
            return None
        predicted = test.called(self.findings.threshold)
        support = np.bincount(test.targets, minlength=classes)
        calls = np.bincount(predicted, minlength=classes)
        hits = np.bincount(predicted[predicted == test.targets], minlength=classes)
        is_missed = (hits <= FOUND * support) & (calls <= CALLED * support)
        is_missed &= support >= FEWEST_OF_A_CLASS
        missed = sorted(np.flatnonzero(is_missed).tolist(), key=lambda index: -int(support[index]))
        # Balanced classes that are missed may only need more training: that is no collapse.
        rare = any(shares[index] * classes < RARE for index in missed)
        if not missed or not (rare or calls.max() >= ONE_FOR_ALL * calls.sum()):
            return None
        is_one_for_all = int(np.count_nonzero(calls)) == 1
        return MissedClasses(tuple(missed), hits, support, rare, is_one_for_all)

    # ── overrides ───────────────────────────────────────────────────────────────────────────────

    @property
    def rate(self) -> float | None:
        """The learning rate; `None` if the config has no number for it."""
        rate = self.setting("optimizer.lr")
        is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
        return float(rate) if is_number else None

    def learning_rate_times(self, factor: float) -> str:
        """Return the override for a learning rate that is `factor` times the present one."""
        rate = self.rate
        return "" if rate is None else f"optimizer.lr={float(f'{rate * factor:.1g}'):g}"

    @property
    def lower_learning_rate(self) -> str:
        """Override for a rate whose steps move no layer by more than 1 % of its weights.

        It is at most a tenth and at least `SLOWEST` of the present rate: steps that grow until the
        loss is NaN do not show which rate would work. It is no higher than usual, either.
        """
        factor = max(SLOWEST, self._factor_for(0.01))
        return self.learning_rate_times(min(0.1, factor, self._usual_factor))

    @property
    def higher_learning_rate(self) -> str:
        """Override for a rate whose longest steps move a layer by 2 % of its weights, if usual."""
        return self.learning_rate_times(min(self._factor_for(0.02), self._usual_factor))

    def _factor_for(self, update: float) -> float:
        """Return the factor of the present rate for steps of a share of the weights."""
        return float(f"{update / max(self.largest_update, 1e-9):.0e}")

    @property
    def _usual_factor(self) -> float:
        """Factor of the present rate for the highest usual one."""
        return HIGHEST.get(self.optimizer, HIGHEST_OF_OTHERS) / (self.rate or 1.0)

    def clip_at(self, norm: float) -> str:
        """Return the override for a threshold of one digit that is not below a gradient norm."""
        power = 10.0 ** math.floor(math.log10(norm)) if norm > 0 else 1.0
        return f"trainer.gradient_clip_val={math.ceil(norm / power) * power:g}"

    @property
    def with_norm(self) -> str:
        """Override that normalizes the values of each layer."""
        return f"model.norm={'layer' if self.findings.model in RECURRENT else 'batch'}"

    @property
    def standard_scale(self) -> str:
        """Override that standardizes inputs; empty for images, which have one scale already."""
        return "" if self.findings.kind == "images" else "data.scale=standard"

    def more_epochs(self, factor: int) -> str:
        """Return the override for `factor` times as many epochs."""
        return f"trainer.max_epochs={factor * self.findings.planned}"

    @property
    def regularization(self) -> tuple[str, str]:
        """Overrides for weight decay and dropout, each empty if there is enough already."""
        return (
            "optimizer.weight_decay=0.01" if self.number("optimizer.weight_decay") < 0.01 else "",
            "model.dropout=0.3" if self.number("model.dropout") < 0.3 else "",
        )

    @property
    def less_regularization(self) -> tuple[str, str]:
        """Overrides without dropout and without weight decay, each empty if there is little."""
        return (
            "model.dropout=0.0" if self.number("model.dropout") >= 0.3 else "",
            "optimizer.weight_decay=0.0" if self.number("optimizer.weight_decay") > 0.05 else "",
        )

    @property
    def larger_network(self) -> str:
        """Override for a network of four times the width, and at least `SMALLEST_WIDTH`."""
        for key in ("channels", "hidden"):
            width = self.setting(f"model.{key}")
            if isinstance(width, int):
                return f"model.{key}={max(SMALLEST_WIDTH, 4 * width)}"
            if isinstance(width, list | tuple) and (width or key == "hidden"):
                widths = [str(max(SMALLEST_WIDTH, 4 * units)) for units in width] or ["64"]
                return f"model.{key}=[{','.join(widths)}]"
        return ""

    @property
    def larger_if_narrow(self) -> str:
        """Override for a larger network; empty if each layer has `NARROW` units or more."""
        widths: list[Any] = []
        for key in ("channels", "hidden"):
            width = self.setting(f"model.{key}")
            widths += width if isinstance(width, list | tuple) else [width]
        is_narrow = any(isinstance(width, int) and width < NARROW for width in widths)
        return self.larger_network if is_narrow else ""

    def applicable(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides whose key the run has, with another value, without duplicates."""
        return tuple(dict.fromkeys(word for word in overrides if word and self._applies(word)))

    def _applies(self, override: str) -> bool:
        key, _, value = override.partition("=")
        if isinstance(self.setting(key), Mapping):
            return not self.setting(key)  # a group would replace what is configured
        group, _, name = key.rpartition(".")
        section = self.setting(group) if group else self.findings.config
        if not isinstance(section, Mapping) or name not in section:
            return False
        if self.findings.model in RECURRENT and value not in _OF_RECURRENT.get(key, (value,)):
            return False
        # The parameters of the user's own networks are unknown.
        is_ours = str(self.setting("model._target_")).startswith("pipeline.networks.")
        is_known = group != "model" or is_ours
        return is_known and _comparable(section[name]) != _comparable(value)


def _comparable(value: Any) -> float | str:
    text = "null" if value is None else str(value).replace(" ", "")
    try:
        return float(text)
    except ValueError:
        return text.lower()
