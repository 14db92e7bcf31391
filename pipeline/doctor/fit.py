"""Learning too much by heart, too little at all, or not to the end."""

from collections.abc import Iterator

import numpy as np

from pipeline.doctor import thresholds
from pipeline.doctor.figures import (
    error,
    gain,
    is_unlearned,
    losses,
    naive_error,
    naive_loss,
    of_the_line,
    rows_as_one,
    says_error,
    silence,
)
from pipeline.doctor.remedies import longer, offered, setting
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Array, Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say how what was learned compares between the parts and over the epochs."""
    yield from _overfitting(findings)
    yield from _underfitting(findings)
    yield from _stopped_early(findings)


def share_of_last_quarter(findings: Findings) -> float | None:
    """Return the share of all that was learned that the last quarter of the epochs has brought.

    Measured by the loss of the validation, the training's where there is none; by the error where
    the loss has not fallen yet. `None` where there is no curve or nothing was learned.
    """
    key = "val/loss" if len(losses(findings, "val/loss")) else "train/loss"
    by_loss = _late(losses(findings, key), naive_loss(findings) or 0.0, thresholds.LEARNED)
    if by_loss is not None or findings.task == "regression":
        return by_loss
    wrong = 1 - losses(findings, "val/accuracy")
    return _late(wrong, naive_error(findings), thresholds.BETTER)


def _overfitting(findings: Findings) -> Iterator[Verdict]:
    train, validation = error(findings, "train"), error(findings, "validation")
    part = "validation"
    if validation is None:
        validation, part = error(findings, "test"), "test"
    if train is None or validation is None or train >= naive_error(findings):
        return
    gap = validation - train
    noise = thresholds.DEVIATIONS * _noise(findings, validation, part)
    if gap < max(thresholds.GAP, noise) or gap < thresholds.GAP_SHARE * validation:
        return
    decay = setting(findings, "optimizer.weight_decay") or 0.0
    yield Verdict(
        name="overfitting",
        evidence=f"{says_error(findings, train)} on training rows, "
        f"{says_error(findings, validation)} on {part} rows",
        numbers={"training": train, part: validation},
        cures=offered(
            findings,
            "model.dropout=0.3" if (setting(findings, "model.dropout") or 0.0) < 0.3 else "",
            "optimizer.weight_decay=0.01" if decay < 0.01 else "",
            "keep=best" if findings.rows.get("validation") else "",
            "callbacks=early_stopping" if _would_stop(findings) else "",
        ),
        advice="more rows, or a smaller network",
    )


def _underfitting(findings: Findings) -> Iterator[Verdict]:
    train = error(findings, "train")
    if train is None or not is_unlearned(findings, thresholds.UNLEARNED):
        return
    silent = silence(findings)
    if silent is not None and silent.rare:
        return  # the others may be learned as well as they can be
    # Of rows in which there is nothing to find no network explains more.
    if not _has_something_to_find(findings):
        return
    yield Verdict(
        name="underfitting",
        evidence=f"{says_error(findings, train)} on the training rows themselves, "
        f"{says_error(findings, naive_error(findings))} without looking",
        numbers={"training": train, "naive": naive_error(findings)},
        cures=offered(
            findings,
            "model.dropout=0.0" if (setting(findings, "model.dropout") or 0.0) >= 0.3 else "",
            "optimizer.weight_decay=0.0"
            if (setting(findings, "optimizer.weight_decay") or 0.0) > 0.05
            else "",
            _larger(findings),
            longer(findings, 3),
        ),
    )


def _has_something_to_find(findings: Findings) -> bool:
    """Tell whether the network has found something in the test rows, or a line more than it."""
    naive, linear = gain(findings, "naive"), gain(findings, "linear")
    if naive is not None and naive.low > 0:
        return True
    found = gain(of_the_line(findings), "naive")
    return found is not None and found.low > 0 and linear is not None and linear.high < 0


def _would_stop(findings: Findings) -> bool:
    """Tell whether the validation loss has been without a better value for long enough."""
    loss = losses(findings, "val/loss")
    return len(loss) > 0 and len(loss) - 1 - int(loss.argmin()) > thresholds.PATIENCE


def _stopped_early(findings: Findings) -> Iterator[Verdict]:
    share = share_of_last_quarter(findings)
    if share is None or share < thresholds.STILL_LEARNING or findings.end == "diverged":
        return
    ended = findings.epochs < findings.planned
    yield Verdict(
        name="stopped_early",
        evidence=f"the last quarter of {findings.epochs} epochs brought {100 * share:.0f} % of all "
        "that was learned",
        numbers={"share": share, "epochs": float(findings.epochs)},
        cures=offered(
            findings,
            *(("trainer.max_time=null", "trainer.max_steps=-1") if ended else ()),
            longer(findings, 3),
        ),
    )


def _late(curve: Array, start: float, least: float) -> float | None:
    """Return the share of a curve's whole fall that its last quarter has brought."""
    if len(curve) < 2 or not np.isfinite(curve).all():
        return None
    start = max(float(curve[0]), start)
    quarter = max(1, round(len(curve) / 4))
    before, best = float(curve[:-quarter].min()), float(curve.min())
    learned = start - best
    return (before - best) / learned if learned > least * abs(start) else None


def _noise(findings: Findings, wrong: float, part: str) -> float:
    """Return the standard error of a share of wrong rows, or of variance."""
    rows: float = max(findings.rows.get(part, 0), 1)
    rows = max(1.0, rows / rows_as_one(findings, int(rows)))
    if findings.task == "regression":
        return wrong * float(np.sqrt(thresholds.HEAVY_TAILED / rows))
    share = min(max(wrong, 1 / rows), 1.0)
    return float(np.sqrt(share * max(1 - share, 1 / rows) / rows))


def _larger(findings: Findings) -> str:
    """Return the override for a network of four times the width."""
    for key in ("channels", "hidden"):
        width = setting(findings, f"model.{key}")
        if isinstance(width, int):
            return f"model.{key}={4 * width}"
        if isinstance(width, list | tuple) and (width or key == "hidden"):
            wider = [4 * one for one in width] or [64, 64]
            return f"model.{key}=[{','.join(map(str, wider))}]"
    return ""
