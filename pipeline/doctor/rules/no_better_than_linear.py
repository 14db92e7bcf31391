"""Predictions that are worse than those of the linear baseline, not merely equally good."""

from pipeline.doctor.curves import EARLY, rising_epoch
from pipeline.doctor.evidence import Evidence
from pipeline.doctor.gains import comparison, least_loss
from pipeline.doctor.rule import Rule, Verdict

#: Level of the interval: every run is compared with a linear baseline, and 1 % may be wrong.
SURE = 0.99
#: Test error as a multiple of the linear baseline's.
WORSE = 1.1
#: The least that the baseline is surely better by, as a share of the rows or of its squared error.
BY_A_POINT = 0.01
#: Training error as a share of the test error, below which regularization is offered.
BY_HEART = 0.5


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with both results; an overfitted network is named as such."""
    gain = run.gain("linear", level=SURE)
    if gain is None or gain.high > -BY_A_POINT or run.has_few_rows:
        return None
    if run.is_regression:
        is_worse = gain.ours >= WORSE * gain.theirs
    else:
        is_worse = 1 - gain.ours >= WORSE * (1 - gain.theirs)
    if not is_worse:
        return None
    turn = rising_epoch(run)
    by = f" (overfitting: the validation loss rises after epoch {turn})" if turn else ""
    return Verdict(
        evidence=f"{comparison(run, gain)}; {least_loss(run, gain)}{by}",
        numbers=gain.numbers,
        cures=(
            run.standard_scale,
            *_cures(run, turn),
            "model.hidden=[]" if run.findings.model == "MLP" else "",
        ),
        advice=f"use {gain.name}",
    )


def _cures(run: Evidence, turn: int | None) -> tuple[str, ...]:
    """Return overrides against overfitting, or for a network that learns more."""
    train = run.error("train")
    test = run.error("test")
    if train is not None and test is not None and train < BY_HEART * test:
        return run.regularization
    learns_more = (*run.less_regularization, run.larger_if_narrow)
    if turn:
        return (*learns_more, *run.regularization)
    loss = run.curve("val/loss")
    lowest = run.epochs_with_validation[loss.argmin()] if len(loss) else run.findings.epochs
    best = run.findings.kept or lowest
    # More epochs are offered if the best one was late.
    is_late = best > EARLY * run.findings.epochs
    return (*learns_more, run.more_epochs(3)) if is_late else learns_more


RULE = Rule(
    name="no_better_than_linear",
    rank=160,
    find=find,
    needs=("test",),
    shows_little_learning=True,
    is_on_learning=True,
    is_on_other_rows=True,
)
