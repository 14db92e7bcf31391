"""Verdicts on the fit, and on the test predictions compared with those of the baselines."""

import math
import re
import shlex
from dataclasses import replace

import numpy as np

from pipeline.bootstrap import units_of
from pipeline.doctor.evidence import NARROW, Evidence, Gain, Verdict
from pipeline.findings import Array
from pipeline.markup import interval_text, metric_label
from pipeline.terminal import rounded

#: Validation error minus training error, as a share of rows or of variance.
GAP = 0.1
#: The same difference as a share of the validation error.
GAP_SHARE = 0.3
#: Half the width of a 95 % interval, in standard errors.
DEVIATIONS = 1.96
#: Variance of squared errors, as a multiple of their squared mean: 2 for normal errors.
HEAVY_TAILED = 5.0
#: Validations without a better loss after which `callbacks=early_stopping` ends the training.
PATIENCE = 10


#: Rise of the validation loss after its minimum, and fall of the training loss since then, as
#: shares of the naive loss, that count as overfitting.
RISE, FALL = 0.25, 0.1
#: Smallest validation error then, as a share of the naive error: a good classifier may get too sure
#: of its few mistakes.
UNSURE = 0.25


def overfitting(run: Evidence) -> Verdict | None:
    """Validation rows are predicted much worse than training rows, beyond chance.

    Or the validation loss rises from an early epoch on, while the training loss falls.
    """
    train, held_out, part = run.error("train"), run.error("validation"), "validation"
    if held_out is None:
        held_out, part = run.error("test"), "test"
    turn = _turn(run)
    if held_out is None or train is None or train >= run.naive_error:
        return None
    gap = held_out - train
    noise = DEVIATIONS * _standard_error(run, held_out, part)
    has_gap = gap >= max(GAP, noise) and gap >= GAP_SHARE * held_out
    is_wrong = held_out >= UNSURE * run.naive_error
    if not has_gap and not (is_wrong and turn and _rises_far(run, turn)):
        return None
    loss = run.curve("val/loss")
    would_stop = len(loss) > 0 and len(loss) - 1 - int(loss.argmin()) > PATIENCE
    rises = f"the validation loss rises after epoch {turn} of {len(loss)}" if turn else ""
    return Verdict(
        evidence=", and ".join(
            filter(None, [f"{_score(run, train)} train, {_figure(run, held_out)} {part}", rises])
        ),
        numbers={"training": train, part: held_out},
        cures=(
            *run.regularization,
            "keep=best" if run.findings.rows.get("validation") else "",
            "callbacks=early_stopping" if would_stop else "",
        ),
        advice="more rows, or a smaller network",
    )


def _rises_far(run: Evidence, turn: int) -> bool:
    """Return whether the losses part as clearly after an epoch as `RISE` and `FALL` say."""
    train, validation = run.curve("train/loss"), run.curve("val/loss")
    scale = run.naive_loss or validation[turn - 1]
    rise, fall = validation[-1] - validation[turn - 1], train[turn - 1] - train[-1]
    return bool(rise >= RISE * scale and fall >= FALL * scale)


def _standard_error(run: Evidence, wrong: float, part: str) -> float:
    """Return the standard error of a share of wrong rows or of variance."""
    rows = float(max(run.findings.rows.get(part, 0), 1))
    test = run.units
    if test.kind == "group":  # the groups of the other parts are not on record
        of_a_unit = len(test.of_row) / test.effective
    else:
        horizon = run.findings.horizon if run.findings.targets else None
        of_a_unit = rows / units_of(int(rows), horizon=horizon).count
    units = max(1.0, rows / of_a_unit)
    if run.is_regression:
        return wrong * float(np.sqrt(HEAVY_TAILED / units))
    share = min(max(wrong, 1 / units), 1.0)
    return float(np.sqrt(share * max(1 - share, 1 / units) / units))


#: Loss of a linear network, as a share of the naive loss, from which it learns nothing, even if its
#: accuracy is above that of the naive baseline by chance.
USELESS = 0.95


def underfitting(run: Evidence) -> Verdict | None:
    """Training rows are predicted hardly better than naively, although they can be learned."""
    train, loss, naive = run.error("train"), run.curve("train/loss"), run.naive_loss
    fails = run.is_linear and naive is not None and loss.min(initial=np.inf) >= USELESS * naive
    if train is None or not (run.is_unlearned or fails):
        return None
    # If rare classes are missed, the others may still be learned well.
    missed = run.missed_classes
    if (missed is not None and missed.rare) or not _has_something_to_learn(run):
        return None
    decay = run.number("optimizer.weight_decay")
    return Verdict(
        evidence=f"{_score(run, train)} on the training rows, "
        f"{_figure(run, run.naive_error)} for a constant prediction",
        numbers={"training": train, "naive": run.naive_error},
        cures=(
            "loss.class_weights=balanced" if run.has_rare_class else "",
            "model.dropout=0.0" if run.number("model.dropout") >= 0.3 else "",
            "optimizer.weight_decay=0.0" if decay > 0.05 else "",
            _larger_network(run),
            run.more_epochs(3),
        ),
    )


def _has_something_to_learn(run: Evidence) -> bool:
    """Return whether the network beats the naive baseline, or loses to a line that beats it."""
    naive, linear, test = run.gain("naive"), run.gain("linear"), run.findings.test
    if (naive is not None and naive.low > 0) or (run.is_linear and _orders_the_rows(run)):
        return True
    if test is None or test.linear is None or linear is None:
        return False
    line = replace(run.findings, threshold=0.5, test=replace(test, outputs=test.linear))
    found = Evidence(line).gain("naive")
    return found is not None and found.low > 0 and linear.high < 0


#: Smallest width that is offered for a layer.
WIDTH = 16


def _larger_network(run: Evidence) -> str:
    """Return the override for a network of four times the width, and at least `WIDTH`."""
    for key in ("channels", "hidden"):
        width = run.setting(f"model.{key}")
        if isinstance(width, int):
            return f"model.{key}={max(WIDTH, 4 * width)}"
        if isinstance(width, list | tuple) and (width or key == "hidden"):
            wider = [max(WIDTH, 4 * one) for one in width] or [64]
            return f"model.{key}=[{','.join(map(str, wider))}]"
    return ""


def _is_narrow(run: Evidence) -> bool:
    """Return whether a layer has fewer than `NARROW` units."""
    widths = [run.setting(f"model.{key}") for key in ("channels", "hidden")]
    flat = [one for width in widths for one in (width if isinstance(width, list) else [width])]
    return any(isinstance(one, int) and one < NARROW for one in flat)


#: Share of the total improvement that comes from the last quarter of the epochs.
#:
#: It is 0.03 for an exponential curve after four time constants, 0.10 after two, and 0.25 for a
#: straight line.
STILL_LEARNING = 0.08
#: Smallest relative fall of the loss for which its curve is used.
LEARNED = 0.02
#: The same for the error.
BETTER = 0.1


def stopped_early(run: Evidence) -> Verdict | None:
    """The training ended while the network was still learning."""
    share = share_of_last_quarter(run)
    if share is None or share < STILL_LEARNING or run.findings.end == "diverged":
        return None
    epochs = run.findings.epochs
    limits = ("trainer.max_time=null", "trainer.max_steps=-1")
    return Verdict(
        evidence=f"{100 * share:.0f} % of the improvement came in the last quarter of {epochs} "
        "epochs",
        numbers={"share": share, "epochs": float(epochs)},
        cures=(*(limits if epochs < run.findings.planned else ()), run.more_epochs(3)),
    )


#: Steps of the whole training below which it may be too short even if its loss is almost flat: a
#: schedule that ends near zero flattens it.
#:
#: Of 63 networks on generated data with 40 or 60 steps, the 20 above `STILL_FALLING` gained 6.3
#: points of test accuracy from eight times the epochs, the others 1.7. At 100 steps it was 0.5.
FEW_STEPS = 100
#: Steps that the suggested epochs take.
ENOUGH_STEPS = 300
#: Share of a loss's total fall that comes from the last quarter of the epochs.
STILL_FALLING = 0.02


def too_few_steps(run: Evidence) -> Verdict | None:
    """The training took few steps, and a loss was still falling in the last quarter."""
    steps = run.findings.steps * run.findings.epochs
    if not 0 < steps < FEW_STEPS or run.findings.end == "diverged":
        return None
    start = run.naive_loss or 0.0
    falls = [_late_share(run.curve(key), start, LEARNED) for key in ("train/loss", "val/loss")]
    share = max((one for one in falls if one is not None), default=0.0)
    if share < STILL_FALLING or run.findings.epochs < run.findings.planned:
        return None
    epochs = 10 * math.ceil(ENOUGH_STEPS / run.findings.steps / 10)
    return Verdict(
        evidence=f"only {steps} steps in {run.findings.epochs} epochs, and the loss was still "
        "falling",
        numbers={"steps": float(steps), "share": share},
        cures=(f"trainer.max_epochs={epochs}",),
    )


def share_of_last_quarter(run: Evidence) -> float | None:
    """Return the share of the total improvement that comes from the last quarter of the epochs.

    It is measured by the validation loss, or by the training loss if there is no validation; if the
    loss has not fallen, by the validation error of a classification. `None` if there is no curve or
    no improvement.
    """
    key = "val/loss" if len(run.curve("val/loss")) else "train/loss"
    by_loss = _late_share(run.curve(key), run.naive_loss or 0.0, LEARNED)
    if by_loss is not None or run.is_regression:
        return by_loss
    return _late_share(1 - run.curve("val/accuracy"), run.naive_error, BETTER)


def _late_share(values: Array, start: float, least: float) -> float | None:
    """Return the share of a curve's total fall that comes from its last quarter."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    start = max(float(values[0]), start)
    quarter = max(1, round(len(values) / 4))
    before, best = float(values[:-quarter].min()), float(values.min())
    learned = start - best
    return (before - best) / learned if learned > least * abs(start) else None


def _score(run: Evidence, error: float) -> str:
    """Return the score that belongs to an error: `accuracy 93 %`, `R² 0.93`."""
    return f"{'R²' if run.is_regression else 'accuracy'} {_figure(run, error)}"


def _figure(run: Evidence, error: float) -> str:
    return f"{1 - error:.2f}" if run.is_regression else f"{100 * (1 - error):.0f} %"


# ── answers for the test rows ───────────────────────────────────────────────────────────────


def class_collapse(run: Evidence) -> Verdict | None:
    """Some classes are never or hardly ever found; `doctor.evidence` has the thresholds."""
    found = run.missed_classes
    if found is None or run.has_few_rows:
        return None
    never, others = found.classes[0], len(found.classes) - 1
    rest = f", and misses {others} more class{'' if others == 1 else 'es'}" if others else ""
    finds_threshold = run.findings.task == "binary" and run.findings.rows.get("validation")
    return Verdict(
        evidence=f"the model found {found.hits[never] or 'none'} of the {found.support[never]} "
        f"{run.findings.classes[never]!r} rows in the test set{rest}",
        numbers={
            "classes": float(others + 1),
            "rows": float(found.support[[*found.classes]].sum()),
        },
        cures=(
            "loss.class_weights=balanced" if found.rare else "",
            "metrics.threshold=best_f1" if finds_threshold else "",
            run.more_epochs(3),
        ),
    )


def no_better_than_naive(run: Evidence) -> Verdict | None:
    """The gain over the naive baseline is zero or negative, and the test suffices to tell."""
    found = run.gain("naive")
    if found is None or found.low > 0 or run.has_few_rows or _orders_the_rows(run):
        return None
    if found.high < 0:
        by = _at_least(run, -found.high)
    elif _vagueness(run):
        return None
    elif run.is_regression:
        by = f"squared error at best {100 * found.high:.0f} % smaller"
    else:
        by = f"at best {100 * found.high:.1f} points better"
    return Verdict(
        evidence=f"{_against(run, found, _baseline(run, 0, 'naive'))}; {by}",
        numbers=found.numbers,
        cures=(_larger_network(run) if run.is_linear else "", run.standard_scale),
        advice="check whether the inputs can predict the target at all",
    )


def _orders_the_rows(run: Evidence) -> bool:
    """Return whether the probabilities order the rows better than chance does.

    If the area under the ROC curve has no interval, for example because a class has too few rows,
    its standard error under chance is used (Mann and Whitney 1947).
    """
    findings, rows = run.findings, run.tested
    if "auroc" in findings.intervals:
        return findings.intervals["auroc"][0] > 0.5
    if "test/auroc" not in findings.metrics or findings.test is None:
        return False
    fewest = int(np.unique(findings.test.targets, return_counts=True)[1].min())
    error = math.sqrt((rows + 1) / (12 * fewest * max(rows - fewest, 1)))
    return findings.metrics["test/auroc"] - 1.96 * error > 0.5


#: Level of the interval: every run is compared with a linear baseline, and 1 % may be wrong.
SURE = 0.99
#: Test error as a share of the linear baseline's.
WORSE = 1.1
#: Training error as a share of the test error, below which regularization is offered.
BY_HEART = 0.5
#: Best epoch as a share of all epochs that counts as early.
EARLY = 0.25


def no_better_than_linear(run: Evidence) -> Verdict | None:
    """The predictions are worse than those of the linear baseline, not merely equally good."""
    found = run.gain("linear", level=SURE)
    if found is None or found.high >= 0 or run.has_few_rows:
        return None
    ours, theirs = found.ours, WORSE * found.theirs
    if not run.is_regression:
        ours, theirs = 1 - found.ours, WORSE * (1 - found.theirs)
    if not ours >= theirs:
        return None
    name, turn = _baseline(run, 1, "linear baseline"), _turn(run)
    train, test = run.error("train"), run.error("test")
    by_heart = train is not None and test is not None and train < BY_HEART * test
    loss = run.curve("val/loss")
    best = run.findings.kept or (int(loss.argmin()) + 1 if len(loss) else run.findings.epochs)
    # More epochs are offered if the best one was late.
    against: tuple[str, ...] = (run.more_epochs(3),) if best > EARLY * run.findings.epochs else ()
    if by_heart or turn:
        against = run.regularization
    by = f" (overfitting: the validation loss rises after epoch {turn})" if turn else ""
    return Verdict(
        evidence=f"{_against(run, found, name)}; {_at_least(run, -found.high)}{by}",
        numbers=found.numbers,
        cures=(
            run.standard_scale,
            _larger_network(run) if _is_narrow(run) and not by_heart else "",
            *against,
            "model.hidden=[]" if run.findings.model == "MLP" else "",
        ),
        advice=f"use {name}",
    )


def _turn(run: Evidence) -> int | None:
    """Return the early epoch from which the validation loss rises while the training loss falls."""
    train, validation = run.curve("train/loss"), run.curve("val/loss")
    if len(train) < 2 or len(validation) < 2 or not train[-1] < train[0]:
        return None
    best = int(validation.argmin()) + 1
    rises = validation[-1] > (1 + LEARNED) * validation.min()
    return best if rises and best <= max(1, EARLY * len(validation)) else None


#: Test error that is suspiciously small, as a share of rows or of variance.
TOO_GOOD = 0.02
#: Share of the importance of all columns that one column has, or two.
TOLD = (0.8, 0.9)
#: The same, as a multiple of the next column's importance.
ABOVE_THE_NEXT = 8.0
#: Fewest columns of which two may tell the target, and largest test error of the linear baseline
#: then: other pairs may just be the only columns that matter.
FEW, LINEAR_ERROR = 5, 0.05


def leakage(run: Evidence) -> Verdict | None:
    """There is almost no error, and one or two columns have almost all of the importance."""
    left = run.error("test")
    if left is None or run.has_few_rows:
        return None
    by_line = 1 - run.findings.metrics.get(f"linear/{'r2' if run.is_regression else 'accuracy'}", 0)
    columns, share = _telling_columns(run, most=2 if by_line <= LINEAR_ERROR else 1)
    if min(left, by_line) > TOO_GOOD or not columns:
        return None
    dropped = [*(run.setting("data.drop") or ()), *columns]
    # Other names need quotes on a command line.
    are_plain = all(re.fullmatch("[A-Za-z0-9_-]*[A-Za-z0-9][A-Za-z0-9_-]*", one) for one in dropped)
    right = f"R² {1 - left:.4f}" if run.is_regression else f"accuracy {100 * (1 - left):.1f} %"
    line = f" (linear baseline {_figure(run, by_line)})" if left > TOO_GOOD else ""
    plural, has = ("", "alone has") if len(columns) == 1 else ("s", "have")
    return Verdict(
        evidence=f"test {right}{line}, and column{plural} "
        f"{' and '.join(map(repr, columns))} {has} {100 * share:.0f} % of the importance",
        numbers={"error": left, "share": share},
        cures=(f"data.drop=[{','.join(dropped)}]" if are_plain else "",),
        advice=f"drop the column{plural} unless the values are known before the target",
    )


def _telling_columns(run: Evidence, *, most: int) -> tuple[tuple[str, ...], float]:
    """Return one or two columns with nearly all of the importance, if there are, and its share."""
    found = run.findings.importances
    if found is None or len(found.columns) < 2:
        return (), 0.0
    # Some columns of a wide table were not evaluated.
    falls = np.nan_to_num(np.clip(found.falls.mean(1), 0.0, None))
    order = np.argsort(-falls, kind="stable")
    total, falls = max(float(falls.sum()), 1e-12), falls[order]
    for count in range(1, 1 + (most if len(falls) >= FEW else 1)):
        share, after = float(falls[:count].sum() / total), float(falls[count])
        if share >= TOLD[count - 1] or falls[count - 1] > ABOVE_THE_NEXT * after:
            return tuple(found.columns[place] for place in order[:count]), share
    return (), 0.0


#: Share of the test rows whose inputs are also in the training part.
OVERLAP = 0.1


def overlap(run: Evidence) -> Verdict | None:
    """Test rows have the inputs of training rows, so that the test rewards memorization."""
    repeated, rows = run.findings.repeated or 0, run.findings.rows.get("test", 0)
    if repeated < max(1, OVERLAP * rows):
        return None
    return Verdict(
        evidence=f"{repeated} of {rows} test rows have the inputs of a training row, so their "
        "results are optimistic",
        numbers={"repeated": float(repeated), "rows": float(rows)},
        advice="remove the copies, or keep those of a group together by data.group=COLUMN",
    )


#: Width of the 95 % interval of a share, such as F1, at which its first digit is unknown.
WIDE = 0.2
#: If none of n rows is wrong, the error rate is below 3 / n with 95 % confidence (the rule of
#: three: Hanley and Lippman-Hand 1983).
UNSEEN = 3.0
#: The same width for an error in units, as a share of the error.
WIDE_ERROR = 0.8
#: Width of the 95 % interval of the gain over the naive baseline. A wider interval that contains
#: zero leaves open whether there is a gain; a narrower one means that there is none.
WIDE_GAIN = 0.3


def noisy_metrics(run: Evidence) -> Verdict | None:
    """The test is too small for its metric, or for the gain over the naive baseline."""
    if not (vagueness := _vagueness(run)):
        return None
    share, rows = run.setting("data.test"), run.findings.rows
    section = run.setting("data") or {}
    # The data themselves may define the test rows; the config shows some of these cases.
    is_given = any(section.get(key) is not None for key in ("test_from", "test_path", "split"))
    is_small = False
    if isinstance(share, float) and share < 0.4 and not is_given:
        asked = round(share * sum(rows.values()))
        is_small = abs(asked - rows.get("test", 0)) <= max(2.0, 0.05 * asked)
    return Verdict(
        evidence=vagueness,
        numbers={"rows": float(rows.get("test", 0))},
        cures=("data.test=0.4" if is_small else "",),
        advice=_more_rows(run),
    )


def _more_rows(run: Evidence) -> str:
    """Return what helps a test of too few rows: for a table, the command of a cross-validation."""
    if run.findings.targets:  # folds of a short series are too short for its windows
        return "more test rows"
    words = shlex.split(run.findings.words)
    others = [word for word in words if not word.startswith(("data.fold=", "data.folds="))]
    command = shlex.join(["pipeline", "sweep", "sweeps=folds", *others])
    return f"more test rows, or cross-validation: {command}"


def _vagueness(run: Evidence) -> str:
    """Return how little the test says about its metric or the gain; empty if it says enough."""
    if run.has_few_rows:
        return f"{run.tested} test rows are too few for any conclusion"
    units, rows = run.units, max(run.findings.rows.get("test", 0), 1)
    if units.kind != "row" and len(units.of_row) > 0 and not units.are_enough:
        return f"the {run.tested} test rows are {units.words}, too few for any conclusion"
    found = run.gain("naive")
    if found is not None and found.low <= 0 < found.high and found.high - found.low > WIDE_GAIN:
        name = _baseline(run, 0, "naive baseline")
        return f"{_against(run, found, name)} on {rows} test rows; either may be better"
    return _figure_vagueness(run, rows)


def _figure_vagueness(run: Evidence, rows: int) -> str:
    # The monitored metric if possible; a metric that is exactly 1 has no interval.
    for key in (run.findings.monitor.rpartition("/")[2], "rmse" if run.is_regression else "f1"):
        figure = run.findings.metrics.get(f"test/{key}")
        if figure is not None and (key in run.findings.intervals or figure == 1):
            break
    else:
        return ""
    low, high = run.findings.intervals.get(key, (figure, figure))
    if key in ("rmse", "mae"):
        is_wide = high - low > WIDE_ERROR * max(abs(figure), 1e-12)
    else:  # a bootstrap of rows without errors finds none: the rule of three bounds them
        is_wide = max(high - low, UNSEEN / rows) > WIDE
    if not is_wide:
        return ""
    name = metric_label(key)
    if low == high:
        worst = f"up to {100 * UNSEEN / rows:.0f} % of new rows may be wrong"
        return f"test {name} is {figure:.3g} on only {rows} rows; {worst}"
    told = f"{rounded(figure, (low, high))} (95 % CI {interval_text((low, high))}, {rows} rows)"
    return f"test {name} is uncertain: {told}"


def _baseline(run: Evidence, index: int, default: str) -> str:
    names = run.findings.baselines
    return names[index] if len(names) > index else default


def _against(run: Evidence, found: Gain, name: str) -> str:
    """Return the network's result and that of a baseline in words."""
    if run.is_regression:
        return f"test RMSE {found.ours:.3g} against {found.theirs:.3g} for {name}"
    ours, theirs = 100 * found.ours, 100 * found.theirs
    return f"balanced test accuracy {ours:.1f} % against {theirs:.1f} % for {name}"


def _at_least(run: Evidence, share: float) -> str:
    if run.is_regression:
        return f"squared error at least {100 * share:.0f} % larger"
    return f"at least {100 * share:.1f} points worse"
