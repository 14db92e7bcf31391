"""Predictions that are worse than those of the linear baseline, not merely equally good."""

from pipeline.doctor.curves import EARLY, rising_epoch
from pipeline.doctor.gains import comparison, least_loss
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Level of the interval: every run is compared with a linear baseline, and 1 % may be wrong.
SURE = 0.99
#: Test error as a multiple of the linear baseline's.
WORSE = 1.1
#: The least that the baseline is surely better by, as a share of the rows or of its squared error.
BY_A_POINT = 0.01
#: Training error as a share of the test error, below which regularization is offered.
MEMORIZED = 0.5


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
    if train is not None and test is not None and train < MEMORIZED * test:
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
    rank=160,
    find=find,
    needs=("test",),
    shows_little_learning=True,
    is_on_learning=True,
    is_on_other_rows=True,
    glossary="the linear baseline is better",
    chinese="不如线性基线",
    page="""\
With 99 % confidence, the linear baseline is better on the test rows by at least one point (1 % of
the squared error of a regression), and the network's error is 1.1 times as large or more. There is
no verdict if both are about equally good. More epochs are suggested only if the best epoch was
late; if the validation loss rises from an early epoch on while the training loss falls, the verdict
names that epoch.

    pipeline train model=mlp data=table data.path=line.csv data.test=0.6 \\
      'model.hidden=[128,128]' model.norm=none model.init=torch trainer.max_epochs=30

> doctor  overfitting: R² 0.99 train, 0.87 validation; try optimizer.weight_decay=0.01 or \
model.dropout=0.3
> doctor  no better than linear: test RMSE 0.415 against 0.328 for ridge regression; MSE at least \
37 % higher; try optimizer.weight_decay=0.01 or model.dropout=0.3

With `'model.hidden=[]' optimizer.lr=0.03`, a linear model: `healthy`.
""",
)
