"""Settings far from their usual values, which are looked at first where a run is poor."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.doctor.evidence import HIGHEST, HIGHEST_OF_OTHERS, Evidence
from pipeline.doctor.rules.too_few_steps import ENOUGH_STEPS

#: Training error, as a share of rows or of variance, from which a setting may be to blame.
POOR = 0.05
#: Learning rate that is unusual, as a multiple of the highest one that is offered.
FAR_TOO_HIGH = 30.0
#: Share of its highest value below which a learning rate moves nothing.
FALLEN = 0.01
#: How much more one class may count in the loss than another, in the mean over the training rows.
UNEVEN = 10.0
#: Updates below which a moving average of the weights is mostly one of the first ones.
FEW_UPDATES = 20
#: Correlation of the errors with an earlier value that the window does not hold, also in standard
#: errors, and the largest lag that is looked at.
FOLLOWS = 0.3
SURELY = 3.5
LARGEST_LAG = 60
#: Fewest forecasts for such a correlation.
FEWEST_FORECASTS = 60
#: What a momentum close to 1 does.
ADDS_UP = "adds up the steps of many batches"


@dataclass(frozen=True, slots=True)
class UnusualSetting:
    """A setting that is far from usual.

    Args:
        verdict: Name of the rule whose verdict it leads to.
        cure: Override with a usual value.
        effect: What the present value does.
    """

    verdict: str
    cure: str
    effect: str

    @property
    def key(self) -> str:
        """Key of the setting."""
        return self.cure.partition("=")[0]

    def reason(self, run: Evidence) -> str:
        """Return the setting with its present value and what that does, a clause."""
        value = run.setting(self.key)
        shown = f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
        return f"{self.key}={shown} {self.effect}"


#: Largest usual values of numbers, and what larger ones are.
_USUAL = (
    (0.99, UnusualSetting("lr_too_high", "optimizer.momentum=0.9", ADDS_UP)),
    (
        0.9,
        UnusualSetting("lr_too_low", "optimizer.dampening=0.0", "leaves little of each gradient"),
    ),
    (0.01, UnusualSetting("lr_too_low", "optimizer.eps=1e-8", "is larger than most gradients")),
    (
        0.01,
        UnusualSetting("lr_too_low", "optimizer.lr_decay=0.0", "lowers the rate with every step"),
    ),
    (0.5, UnusualSetting("underfitting", "model.dropout=0.0", "zeroes most values")),
    (0.5, UnusualSetting("underfitting", "loss.label_smoothing=0.0", "hides most of the labels")),
)


def unusual_settings(run: Evidence) -> list[UnusualSetting]:
    """Return the settings that are far from usual; none if the training rows are learned well."""
    errors = run.error("train"), run.balanced_error("train")
    if not run.diverged and max(error or 0.0 for error in errors) < POOR:
        return []
    return [setting for find in _FINDERS for setting in find(run)]


def _numbers(run: Evidence) -> Iterator[UnusualSetting]:
    for most, setting in _USUAL:
        if run.number(setting.key) > most:
            yield setting


def _learning_rate(run: Evidence) -> Iterator[UnusualSetting]:
    usual = HIGHEST.get(run.optimizer, HIGHEST_OF_OTHERS)
    if (run.rate or 0.0) >= FAR_TOO_HIGH * usual:
        yield UnusualSetting(
            "lr_too_high", run.lower_learning_rate, f"is far above the usual {usual:g}"
        )
    betas = run.setting("optimizer.betas")
    if betas and betas[0] > 0.99:
        yield UnusualSetting("lr_too_high", "optimizer.betas=[0.9,0.999]", ADDS_UP)


def _weight_decay(run: Evidence) -> Iterator[UnusualSetting]:
    # AdamW multiplies it by the learning rate, and apart from the gradient.
    most, offered = (1.0, "0.01") if run.optimizer == "AdamW" else (0.05, "0.0")
    if run.number("optimizer.weight_decay") > most:
        yield UnusualSetting(
            "underfitting",
            f"optimizer.weight_decay={offered}",
            f"holds the weights near zero with {run.optimizer}",
        )


def _schedule(run: Evidence) -> Iterator[UnusualSetting]:
    rates = run.curve("lr")
    moving = int(np.count_nonzero(rates >= FALLEN * rates.max(initial=0.0)))
    if len(rates) < 4 or moving > len(rates) / 2:
        return
    # A rate that ends at a tenth of its first value.
    gamma = 0.1 ** (1 / len(rates))
    cures = run.applicable(
        (
            "scheduler.patience=10",
            f"scheduler.step_size={len(rates) // 2}",
            f"scheduler.gamma={gamma:.2g}",
        )
    )
    for cure in cures[:1]:
        yield UnusualSetting(
            "lr_too_low", cure, f"leaves less than a hundredth of the rate after epoch {moving}"
        )


def _network(run: Evidence) -> Iterator[UnusualSetting]:
    hidden = run.setting("model.hidden")
    if run.setting("model.activation") == "identity" and hidden != []:
        yield UnusualSetting(
            "underfitting", "model.activation=relu", "makes all layers together a linear model"
        )
    widths = hidden if isinstance(hidden, list) else []
    if any(width <= 2 and width < before for before, width in pairwise([math.inf, *widths])):
        yield UnusualSetting("underfitting", run.larger_network, "lets at most two numbers through")
    gain = run.setting("model.gain")
    # With init=normal it is a standard deviation, and a norm undoes it.
    is_factor = run.setting("model.init") != "normal" and run.setting("model.norm") == "none"
    if gain is not None and is_factor and not 0.1 <= gain <= 5:
        saturates = run.setting("model.activation") in ("sigmoid", "tanh")
        verdict = "saturated" if saturates else "exploding_gradient"
        verdict = "vanishing_gradient" if gain < 1 else verdict
        yield UnusualSetting(
            verdict, "model.gain=null", f"makes the first weights {'tiny' if gain < 1 else 'huge'}"
        )


def _data(run: Evidence) -> Iterator[UnusualSetting]:
    # Without shuffling, rows in order of their classes teach the last class alone.
    is_one_sided = run.missed_classes is not None or (run.is_unlearned and not run.is_linear)
    if run.setting("data.shuffle") is False and is_one_sided:
        yield UnusualSetting(
            "underfitting",
            "data.shuffle=true",
            "trains on the same batches in the same order in every epoch",
        )
    if run.setting("data.permute") is not None and run.findings.model != "MLP":
        yield UnusualSetting(
            "underfitting", "data.permute=null", "takes values apart that lie side by side"
        )
    lag = _lag_outside_the_window(run)
    if lag:
        yield UnusualSetting(
            "underfitting",
            f"data.window={lag + 1}",
            f"does not hold the value {lag} steps before, which the errors follow",
        )


def _lag_outside_the_window(run: Evidence) -> int | None:
    """Return the lag with which the errors follow the values, if it is longer than the window."""
    findings = run.findings
    window = int(run.number("data.window"))
    test = findings.test
    is_forecast = findings.targets and window and findings.stride == 1
    # A window of differences holds no values.
    if test is None or not is_forecast or run.setting("data.difference"):
        return None
    values = np.asarray(test.targets[:, 0], dtype=np.float64)
    errors = values - test.outputs[:, 0]
    lags = range(window + 1, min(LARGEST_LAG, len(values) // 4))
    if len(values) < FEWEST_FORECASTS or len(lags) < 2 or values.std() == 0 or errors.std() == 0:
        return None
    correlations = [np.corrcoef(errors[lag:], values[:-lag])[0, 1] for lag in lags]
    if errors.mean() ** 2 > errors.var():
        return None  # values above or below all of the training part, which no window holds
    # A trend correlates errors and values at all lags alike.
    strengths = np.abs(np.array(correlations) - np.median(correlations))
    if strengths.max() < max(FOLLOWS, SURELY / math.sqrt(len(values))):
        return None
    # Of a season and its multiples, the shortest. A window of most of a season tells where in it
    # a forecast is.
    lag = lags[int((strengths > 0.8 * strengths.max()).argmax())]
    return lag if lag >= 2 * window else None


def _number_of_steps(run: Evidence) -> Iterator[UnusualSetting]:
    findings = run.findings
    if run.setting("trainer.limit_train_batches") not in (None, 1.0) and not run.is_memorizing:
        yield UnusualSetting(
            "too_few_steps",
            "trainer.limit_train_batches=1.0",
            f"leaves {findings.steps} steps in an epoch",
        )
    if findings.epochs < findings.planned and run.number("trainer.max_steps") > 0:
        yield UnusualSetting(
            "too_few_steps", "trainer.max_steps=-1", f"ends the training in epoch {findings.epochs}"
        )
    steps = findings.steps * findings.epochs
    rows = findings.rows.get("train", 0)
    if steps < ENOUGH_STEPS:
        if run.number("trainer.accumulate_grad_batches") > 1:
            yield UnusualSetting(
                "too_few_steps", "trainer.accumulate_grad_batches=1", f"leaves {steps} steps in all"
            )
        if run.number("data.batch_size") > max(32, rows / 4):
            yield UnusualSetting(
                "too_few_steps",
                "data.batch_size=32",
                f"of {rows} training rows leaves {steps} steps in all",
            )
    # Without `callbacks=ema`, both are 0.
    effect = f"averages few of the {steps} steps"
    first = run.number("callbacks.ema.update_starting_at_step")
    every = run.number("callbacks.ema.update_every_n_steps")
    if first > steps / 2:
        yield UnusualSetting("too_few_steps", "callbacks.ema.update_starting_at_step=null", effect)
    elif every > 1 and (steps - first) / every < FEW_UPDATES:
        yield UnusualSetting("too_few_steps", "callbacks.ema.update_every_n_steps=1", effect)


def _early_end(run: Evidence) -> Iterator[UnusualSetting]:
    section = run.setting("callbacks.early_stopping")
    if not section or run.findings.epochs >= run.findings.planned:
        return
    effect = f"ended the training after {run.findings.epochs} epochs"
    is_loss = str(section.get("monitor")).endswith("loss")
    if is_loss and section.get("mode") == "max":
        yield UnusualSetting("stopped_early", "callbacks.early_stopping.mode=min", effect)
    elif run.number("callbacks.early_stopping.min_delta") > 0:
        yield UnusualSetting("stopped_early", "callbacks.early_stopping.min_delta=0.0", effect)
    elif run.number("callbacks.early_stopping.patience") < 3:
        yield UnusualSetting("stopped_early", "callbacks.early_stopping.patience=10", effect)


def _classes(run: Evidence) -> Iterator[UnusualSetting]:
    weights = run.setting("loss.class_weights")
    shares = run.findings.shares
    if isinstance(weights, Sequence) and not isinstance(weights, str) and len(shares):
        parts = [weight * share for weight, share in zip(weights, shares, strict=True) if share]
        if max(parts) > UNEVEN * min(parts):
            yield UnusualSetting(
                "class_collapse",
                "loss.class_weights=null",
                f"makes one class count {max(parts) / min(parts):.0f} times as much",
            )
    threshold = run.setting("metrics.threshold")
    is_missed = run.missed_classes is not None or run.is_unlearned
    if isinstance(threshold, float) and not 0.1 <= threshold <= 0.9 and is_missed:
        yield UnusualSetting(
            "class_collapse", "metrics.threshold=0.5", "is far from a probability of one half"
        )


_FINDERS: tuple[Callable[[Evidence], Iterator[UnusualSetting]], ...] = (
    *(_classes, _learning_rate, _numbers, _schedule, _weight_decay, _network, _data),
    *(_number_of_steps, _early_end),
)
