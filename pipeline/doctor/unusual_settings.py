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

    def reason(self, run: Evidence) -> str:
        """Return the setting with its present value and what that does, a clause."""
        key, _, _ = self.cure.partition("=")
        value = run.setting(key)
        shown = f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
        return f"{key}={shown} {self.effect}"


@dataclass(frozen=True, slots=True)
class _Usual:
    """Values of a number that are usual.

    Args:
        key: Key of the setting.
        verdict: Name of the rule whose verdict a value above `most` leads to.
        most: The largest usual value.
        offered: Value that is offered.
        effect: What a larger value does.
    """

    key: str
    verdict: str
    most: float
    offered: str
    effect: str


_USUAL = (
    _Usual("optimizer.momentum", "lr_too_high", 0.99, "0.9", "adds up the steps of many batches"),
    _Usual("optimizer.dampening", "lr_too_low", 0.9, "0.0", "leaves little of each gradient"),
    _Usual("optimizer.eps", "lr_too_low", 0.01, "1e-8", "is larger than most gradients"),
    _Usual("optimizer.lr_decay", "lr_too_low", 0.01, "0.0", "lowers the rate with every step"),
    _Usual("model.dropout", "underfitting", 0.5, "0.0", "zeroes most values"),
    _Usual("loss.label_smoothing", "underfitting", 0.5, "0.0", "hides most of the labels"),
)


def unusual_settings(run: Evidence) -> list[UnusualSetting]:
    """Return the settings that are far from usual; none if the training rows are learned well."""
    errors = run.error("train"), run.balanced_error("train")
    if not run.diverged and max(error or 0.0 for error in errors) < POOR:
        return []
    return [setting for find in _FINDERS for setting in find(run)]


def _numbers(run: Evidence) -> Iterator[UnusualSetting]:
    for usual in _USUAL:
        value = run.number(usual.key)
        if value > usual.most:
            yield UnusualSetting(usual.verdict, f"{usual.key}={usual.offered}", usual.effect)


def _learning_rate(run: Evidence) -> Iterator[UnusualSetting]:
    usual = HIGHEST.get(run.optimizer, HIGHEST_OF_OTHERS)
    if (run.rate or 0.0) >= FAR_TOO_HIGH * usual:
        effect = f"is far above the usual {usual:g}"
        yield UnusualSetting("lr_too_high", run.lower_learning_rate, effect)
    betas = run.setting("optimizer.betas")
    if betas and betas[0] > 0.99:
        effect = "adds up the steps of many batches"
        yield UnusualSetting("lr_too_high", "optimizer.betas=[0.9,0.999]", effect)


def _weight_decay(run: Evidence) -> Iterator[UnusualSetting]:
    # AdamW multiplies it by the learning rate, and apart from the gradient.
    most, offered = (1.0, "0.01") if run.optimizer == "AdamW" else (0.05, "0.0")
    if run.number("optimizer.weight_decay") > most:
        effect = f"holds the weights near zero with {run.optimizer}"
        yield UnusualSetting("underfitting", f"optimizer.weight_decay={offered}", effect)


def _schedule(run: Evidence) -> Iterator[UnusualSetting]:
    rates = run.curve("lr")
    moving = int(np.count_nonzero(rates >= FALLEN * rates.max(initial=0.0)))
    if len(rates) < 4 or moving > len(rates) / 2:
        return
    # A rate that ends at a tenth of its first value.
    gamma = 0.1 ** (1 / len(rates))
    for cure in (
        "scheduler.patience=10",
        f"scheduler.step_size={len(rates) // 2}",
        f"scheduler.gamma={gamma:.2g}",
    ):
        if run.applicable([cure]):
            effect = f"leaves less than a hundredth of the rate after epoch {moving}"
            yield UnusualSetting("lr_too_low", cure, effect)
            return


def _network(run: Evidence) -> Iterator[UnusualSetting]:
    hidden = run.setting("model.hidden")
    if run.setting("model.activation") == "identity" and hidden != []:
        effect = "makes all layers together a linear model"
        yield UnusualSetting("underfitting", "model.activation=relu", effect)
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
        effect = f"makes the first weights {'tiny' if gain < 1 else 'huge'}"
        yield UnusualSetting(verdict, "model.gain=null", effect)


def _data(run: Evidence) -> Iterator[UnusualSetting]:
    # Without shuffling, rows in order of their classes teach the last class alone.
    is_one_sided = run.missed_classes is not None or (run.is_unlearned and not run.is_linear)
    if run.setting("data.shuffle") is False and is_one_sided:
        effect = "trains on the same batches in the same order in every epoch"
        yield UnusualSetting("underfitting", "data.shuffle=true", effect)
    if run.setting("data.permute") is not None and run.findings.model != "MLP":
        effect = "takes values apart that lie side by side"
        yield UnusualSetting("underfitting", "data.permute=null", effect)
    lag = _lag_outside_the_window(run)
    if lag:
        effect = f"does not hold the value {lag} steps before, which the errors follow"
        yield UnusualSetting("underfitting", f"data.window={lag + 1}", effect)


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
        effect = f"leaves {findings.steps} steps in an epoch"
        yield UnusualSetting("too_few_steps", "trainer.limit_train_batches=1.0", effect)
    if findings.epochs < findings.planned and run.number("trainer.max_steps") > 0:
        effect = f"ends the training in epoch {findings.epochs}"
        yield UnusualSetting("too_few_steps", "trainer.max_steps=-1", effect)
    steps = findings.steps * findings.epochs
    rows = findings.rows.get("train", 0)
    if steps < ENOUGH_STEPS:
        effect = f"leaves {steps} steps in all"
        if run.number("trainer.accumulate_grad_batches") > 1:
            yield UnusualSetting("too_few_steps", "trainer.accumulate_grad_batches=1", effect)
        if run.number("data.batch_size") > max(32, rows / 4):
            effect = f"of {rows} training rows {effect}"
            yield UnusualSetting("too_few_steps", "data.batch_size=32", effect)
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
            effect = f"makes one class count {max(parts) / min(parts):.0f} times as much"
            yield UnusualSetting("class_collapse", "loss.class_weights=null", effect)
    threshold = run.setting("metrics.threshold")
    is_missed = run.missed_classes is not None or run.is_unlearned
    if isinstance(threshold, float) and not 0.1 <= threshold <= 0.9 and is_missed:
        effect = "is far from a probability of one half"
        yield UnusualSetting("class_collapse", "metrics.threshold=0.5", effect)


_FINDERS: tuple[Callable[[Evidence], Iterator[UnusualSetting]], ...] = (
    *(_classes, _learning_rate, _numbers, _schedule, _weight_decay, _network, _data),
    *(_number_of_steps, _early_end),
)
