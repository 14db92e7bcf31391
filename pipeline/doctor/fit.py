"""Verdicts on the fit: what was learned of the training rows, and holds for others."""

import math
from dataclasses import replace

import numpy as np

from pipeline.bootstrap import units_of
from pipeline.doctor.evidence import NARROW, Evidence, Verdict
from pipeline.findings import Array

#: Validation error minus training error, as a share of rows or of variance.
GAP = 0.1
#: The same difference as a share of the validation error.
GAP_SHARE = 0.5
#: Half the width of a 95 % interval, in standard errors.
DEVIATIONS = 1.96
#: Variance of squared errors, as a multiple of their squared mean: 2 for normal errors.
HEAVY_TAILED = 5.0
#: Validations without a better loss after which `callbacks=early_stopping` ends the training.
PATIENCE = 10


#: Rise of the validation loss after its minimum, and fall of the training loss since then, as
#: shares of the naive loss, that count as overfitting if the kept weights also have the `GAP`.
#: Without it the loss has to rise by `FAR_RISE`: that of healthy runs rises by up to 0.3.
RISE, FALL, FAR_RISE = 0.15, 0.1, 0.5
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
    turn = rising_epoch(run)
    if held_out is None or train is None or train >= run.naive_error:
        return None
    gap = held_out - train
    noise = DEVIATIONS * _standard_error(run, held_out, part)
    has_gap = gap >= max(GAP, noise) and gap >= GAP_SHARE * held_out
    rise = RISE if gap >= GAP else FAR_RISE
    is_wrong = held_out >= UNSURE * run.naive_error and not run.is_unlearned
    is_free = not any(run.less_regularization)  # dropout and decay do not hold it down
    if not has_gap and not (is_wrong and is_free and turn and _losses_part(run, turn, least=rise)):
        return None
    loss = run.curve("val/loss")
    would_stop = len(loss) > 0 and len(loss) - 1 - int(loss.argmin()) > PATIENCE
    rises = f"the validation loss rises after epoch {turn} of {run.findings.epochs}" if turn else ""
    return Verdict(
        evidence=", and ".join(
            filter(None, [f"{_score(run, train)} train, {as_score(run, held_out)} {part}", rises])
        ),
        numbers={"training": train, part: held_out},
        cures=(
            *run.regularization,
            "keep=best" if run.findings.rows.get("validation") else "",
            "callbacks=early_stopping" if would_stop else "",
        ),
        advice="more rows, or a smaller network",
    )


def _losses_part(run: Evidence, turn: int, *, least: float) -> bool:
    """Return whether the validation loss rises by `least` after an epoch, and training's falls."""
    train, validation = run.curve("train/loss"), run.curve("val/loss")
    then = run.findings.history[turn]
    scale = run.naive_loss or then["val/loss"]
    rise, fall = validation[-1] - then["val/loss"], then.get("train/loss", 0.0) - train[-1]
    return bool(rise >= least * scale and fall >= FALL * scale)


#: Best epoch as a share of all epochs that counts as early.
EARLY = 0.25


def rising_epoch(run: Evidence) -> int | None:
    """Return the early epoch from which the validation loss rises while the training loss falls."""
    train, validation = run.curve("train/loss"), run.curve("val/loss")
    if len(train) < 2 or len(validation) < 2 or not train[-1] < train[0]:
        return None
    epochs = run.epochs_with_validation
    best, rises = epochs[validation.argmin()], validation[-1] > (1 + LEARNED) * validation.min()
    return best if rises and best <= max(epochs[0], EARLY * epochs[-1]) else None


def _standard_error(run: Evidence, wrong: float, part: str) -> float:
    """Return the standard error of a share of wrong rows or of variance."""
    rows = float(max(run.findings.rows.get(part, 0), 1))
    test = run.units
    if test.kind == "group":  # the groups of the other parts are not on record
        of_a_unit = len(test.of_row) / test.effective
    else:
        horizon, stride = run.findings.horizon, run.findings.stride
        steps = horizon if run.findings.targets else None
        of_a_unit = rows / units_of(int(rows), horizon=steps, stride=stride).count
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
    missed = None if run.is_memorizing else run.missed_classes
    if (missed is not None and missed.rare) or not _has_something_to_learn(run):
        return None
    return Verdict(
        evidence=f"{_score(run, train)} on the training rows, "
        f"{as_score(run, run.naive_error)} for a constant prediction",
        numbers={"training": train, "naive": run.naive_error},
        cures=(
            "loss.class_weights=balanced" if run.has_rare_class else "",
            *run.less_regularization,
            larger_network(run),
            run.more_epochs(3),
        ),
    )


def _has_something_to_learn(run: Evidence) -> bool:
    """Return whether the network beats the naive baseline, or loses to a line that beats it.

    A few batches can be memorized whatever they hold.
    """
    if run.is_memorizing:
        return True
    naive, linear, test = run.gain("naive"), run.gain("linear"), run.findings.test
    if (naive is not None and naive.low > 0) or (run.is_linear and run.orders_the_rows):
        return True
    if test is None or test.linear is None or linear is None:
        return False
    line = replace(run.findings, threshold=0.5, test=replace(test, outputs=test.linear))
    found = Evidence(line).gain("naive")
    return found is not None and found.low > 0 and linear.high < 0


#: Smallest width that is offered for a layer.
WIDTH = 16


def larger_network(run: Evidence) -> str:
    """Return the override for a network of four times the width, and at least `WIDTH`."""
    for key in ("channels", "hidden"):
        width = run.setting(f"model.{key}")
        if isinstance(width, int):
            return f"model.{key}={max(WIDTH, 4 * width)}"
        if isinstance(width, list | tuple) and (width or key == "hidden"):
            wider = [max(WIDTH, 4 * one) for one in width] or [64]
            return f"model.{key}=[{','.join(map(str, wider))}]"
    return ""


def larger_if_narrow(run: Evidence) -> str:
    """Return the override for a larger network if a layer has fewer than `NARROW` units."""
    widths = [run.setting(f"model.{key}") for key in ("channels", "hidden")]
    flat = [
        one for width in widths for one in (width if isinstance(width, list | tuple) else [width])
    ]
    is_narrow = any(isinstance(one, int) and one < NARROW for one in flat)
    return larger_network(run) if is_narrow else ""


#: Share of the total improvement that comes from the last quarter of the epochs.
#:
#: It is 0.03 for an exponential curve after four time constants, 0.10 after two, and 0.25 for a
#: straight line.
STILL_LEARNING = 0.1
#: Smallest relative fall of the loss for which its curve is used.
LEARNED = 0.02
#: The same for the error.
BETTER = 0.1
#: Epochs below which ten times as many are offered: they show only the start of a curve.
FEW_EPOCHS = 10


def stopped_early(run: Evidence) -> Verdict | None:
    """The training ended while the network was still learning."""
    share = share_of_last_quarter(run)
    if share is None or share < STILL_LEARNING or run.findings.end == "diverged":
        return None
    epochs, line = run.findings.epochs, run.gain("linear")
    limits = ("trainer.max_time=null", "trainer.max_steps=-1")
    return Verdict(
        evidence=f"{100 * share:.0f} % of the improvement came in the last quarter of {epochs} "
        "epochs",
        numbers={"share": share, "epochs": float(epochs)},
        cures=(
            *(limits if epochs < run.findings.planned else ()),
            larger_if_narrow(run) if line is not None and line.high < 0 else "",
            run.more_epochs(3 if run.findings.planned >= FEW_EPOCHS else 10),
        ),
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
    """The training took few steps, and a loss was still falling in the last quarter.

    A single epoch has no last quarter.
    """
    epochs = run.findings.epochs
    steps = run.findings.steps * epochs
    if not 0 < steps < FEW_STEPS or run.findings.end == "diverged":
        return None
    start = run.naive_loss or 0.0
    falls = [_late_share(run.curve(key), start, LEARNED) for key in ("train/loss", "val/loss")]
    share = max((one for one in falls if one is not None), default=0.0)
    if (share < STILL_FALLING and epochs > 1) or epochs < run.findings.planned:
        return None
    told = f"{epochs} epochs, and the loss was still falling" if epochs > 1 else "one epoch"
    enough = 10 * math.ceil(ENOUGH_STEPS / run.findings.steps / 10)
    return Verdict(
        evidence=f"only {steps} steps in {told}",
        numbers={"steps": float(steps), "share": share},
        cures=(f"trainer.max_epochs={enough}",),
    )


def share_of_last_quarter(run: Evidence) -> float | None:
    """Return the share of the total improvement that comes from the last quarter of the epochs.

    It is measured by the validation loss, or by the training loss if there is no validation or a
    few batches are memorized; if the loss has not fallen, by the validation error of a
    classification. `None` if there is no curve or no improvement.
    """
    key = "val/loss" if len(run.curve("val/loss")) and not run.is_memorizing else "train/loss"
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
    return f"{'R²' if run.is_regression else 'accuracy'} {as_score(run, error)}"


def as_score(run: Evidence, error: float) -> str:
    """Return an error as the figure of its score: `93 %`, or `0.93` for R²."""
    return f"{1 - error:.2f}" if run.is_regression else f"{100 * (1 - error):.0f} %"
