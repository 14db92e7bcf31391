"""Verdicts on the fit: too much learned by heart, too little learned, or not to the end."""

from dataclasses import replace

import numpy as np

from pipeline.bootstrap import units_of, units_of_test
from pipeline.doctor.evidence import (
    curve,
    error,
    gain,
    is_unlearned,
    missed_classes,
    naive_loss,
)
from pipeline.doctor.verdict import Verdict, more_epochs, number, regularization, setting
from pipeline.findings.records import Array, Findings

GAP = 0.1
"""Validation error less training error, as shares of rows or of variance."""
GAP_SHARE = 0.3
"""The same as a share of the validation error: so much of it comes from not generalising."""
DEVIATIONS = 1.96
"""Half the width of a 95 % interval, in standard errors."""
HEAVY_TAILED = 5.0
"""Variance of squared errors, as a multiple of their squared mean: 2 for normal errors."""
PATIENCE = 10
"""Validations without a better loss after which `callbacks=early_stopping` ends the training."""


def overfitting(findings: Findings) -> Verdict | None:
    """Validation rows answered much worse than training rows, by more than chance explains."""
    train, held_out, part = error(findings, "train"), error(findings, "validation"), "validation"
    if held_out is None:
        held_out, part = error(findings, "test"), "test"
    if train is None or held_out is None or train >= _naive_error(findings):
        return None
    gap = held_out - train
    noise = DEVIATIONS * _standard_error(findings, held_out, part)
    if gap < max(GAP, noise) or gap < GAP_SHARE * held_out:
        return None
    loss = curve(findings, "val/loss")
    would_stop = len(loss) > 0 and len(loss) - 1 - int(loss.argmin()) > PATIENCE
    return Verdict(
        name="overfitting",
        evidence=f"{_right(findings, train)} on training rows, "
        f"{_right(findings, held_out)} on {part} rows",
        numbers={"training": train, part: held_out},
        cures=(
            *regularization(findings),
            "keep=best" if findings.rows.get("validation") else "",
            "callbacks=early_stopping" if would_stop else "",
        ),
        advice="more rows, or a smaller network",
    )


def _standard_error(findings: Findings, wrong: float, part: str) -> float:
    """Return the standard error of a share of wrong rows, or of variance."""
    rows = float(max(findings.rows.get(part, 0), 1))
    test = units_of_test(findings)
    if test.kind == "group":  # the groups of the other parts are not on record
        of_a_unit = len(test.of_row) / test.effective
    else:
        horizon = findings.horizon if findings.targets else None
        of_a_unit = rows / units_of(int(rows), horizon=horizon).count
    units = max(1.0, rows / of_a_unit)
    if findings.task == "regression":
        return wrong * float(np.sqrt(HEAVY_TAILED / units))
    share = min(max(wrong, 1 / units), 1.0)
    return float(np.sqrt(share * max(1 - share, 1 / units) / units))


def underfitting(findings: Findings) -> Verdict | None:
    """Training rows answered hardly better than naively, though there is something to learn."""
    train = error(findings, "train")
    if train is None or not is_unlearned(findings):
        return None
    missed = missed_classes(findings)
    if missed is not None and missed.rare:
        return None  # the other classes may be learned as well as they can be
    if not _has_something_to_learn(findings):
        return None
    decay = number(findings, "optimizer.weight_decay")
    return Verdict(
        name="underfitting",
        evidence=f"{_right(findings, train)} on the training rows themselves, "
        f"{_right(findings, _naive_error(findings))} without looking",
        numbers={"training": train, "naive": _naive_error(findings)},
        cures=(
            "model.dropout=0.0" if number(findings, "model.dropout") >= 0.3 else "",
            "optimizer.weight_decay=0.0" if decay > 0.05 else "",
            _larger_network(findings),
            more_epochs(findings, 3),
        ),
    )


def _has_something_to_learn(findings: Findings) -> bool:
    """Return whether the network beats the naive baseline, or is beaten by a line that does."""
    naive, linear, test = gain(findings, "naive"), gain(findings, "linear"), findings.test
    if naive is not None and naive.low > 0:
        return True
    if test is None or test.linear is None or linear is None:
        return False
    line = replace(findings, threshold=0.5, test=replace(test, outputs=test.linear))
    found = gain(line, "naive")
    return found is not None and found.low > 0 and linear.high < 0


def _larger_network(findings: Findings) -> str:
    """Return the override for a network of four times the width."""
    for key in ("channels", "hidden"):
        width = setting(findings, f"model.{key}")
        if isinstance(width, int):
            return f"model.{key}={4 * width}"
        if isinstance(width, list | tuple) and (width or key == "hidden"):
            wider = [4 * one for one in width] or [64, 64]
            return f"model.{key}=[{','.join(map(str, wider))}]"
    return ""


STILL_LEARNING = 0.08
"""Share of all that was learned that the last quarter of the epochs brought.

A curve that nears its end exponentially is at 0.03 after four of its time constants, at 0.10 after
two, and a straight line is at 0.25."""
LEARNED = 0.02
"""Fall of the loss, as a share of it, from where on its curve says how learning went."""
BETTER = 0.1
"""The same of the error."""


def stopped_early(findings: Findings) -> Verdict | None:
    """Training that ended while the network was still learning."""
    share = share_of_last_quarter(findings)
    if share is None or share < STILL_LEARNING or findings.end == "diverged":
        return None
    ended = findings.epochs < findings.planned
    return Verdict(
        name="stopped_early",
        evidence=f"the last quarter of {findings.epochs} epochs brought {100 * share:.0f} % of all "
        "that was learned",
        numbers={"share": share, "epochs": float(findings.epochs)},
        cures=(
            *(("trainer.max_time=null", "trainer.max_steps=-1") if ended else ()),
            more_epochs(findings, 3),
        ),
    )


def share_of_last_quarter(findings: Findings) -> float | None:
    """Return the share of all that was learned that the last quarter of the epochs has brought.

    Measured by the validation loss, or the training loss where there is none; by the error where
    the loss has not fallen yet. `None` where there is no curve or nothing was learned.
    """
    key = "val/loss" if len(curve(findings, "val/loss")) else "train/loss"
    by_loss = _late_share(curve(findings, key), naive_loss(findings) or 0.0, LEARNED)
    if by_loss is not None or findings.task == "regression":
        return by_loss
    return _late_share(1 - curve(findings, "val/accuracy"), _naive_error(findings), BETTER)


def _late_share(values: Array, start: float, least: float) -> float | None:
    """Return the share of a curve's whole fall that its last quarter has brought."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    start = max(float(values[0]), start)
    quarter = max(1, round(len(values) / 4))
    before, best = float(values[:-quarter].min()), float(values.min())
    learned = start - best
    return (before - best) / learned if learned > least * abs(start) else None


def _naive_error(findings: Findings) -> float:
    """Return the error of the most frequent class, or of the mean."""
    return 1 - max(findings.shares) if findings.shares else 1.0


def _right(findings: Findings, value: float) -> str:
    """Return an error as what is right: `93 % right`, `R² 0.93`."""
    if findings.task == "regression":
        return f"R² {1 - value:.2f}"
    return f"{100 * (1 - value):.0f} % right"
