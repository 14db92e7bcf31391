"""Validation rows are predicted much worse than training rows, beyond chance."""

import numpy as np

from pipeline.doctor.curves import rising_epoch
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.scoring.bootstrap import units_of

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
#: Rise of the validation loss after its minimum, as a share of the naive loss, that counts as
#: overfitting if the kept weights also have the `GAP`.
RISE = 0.15
#: Rise that counts without the gap: that of healthy runs is up to 0.3.
FAR_RISE = 0.5
#: Fall of the training loss since the minimum of the validation loss that either needs.
FALL = 0.1
#: Smallest validation error then, as a share of the naive error: a good classifier may get too sure
#: of its few mistakes.
UNSURE = 0.25


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if there is a gap between the parts, or the validation loss rises.

    The loss has to rise from an early epoch on, while the training loss falls.
    """
    part = "validation"
    train = run.error("train")
    held_out = run.error("validation")
    if held_out is None:
        part = "test"
        held_out = run.error("test")
    if held_out is None or train is None or train >= run.naive_error:
        return None
    if run.findings.targets:
        held_out = _error_in_time(run, train) or held_out
    gap = held_out - train
    noise = DEVIATIONS * _standard_error(run, held_out, part)
    has_gap = gap >= max(GAP, noise) and gap >= GAP_SHARE * held_out
    if not has_gap and not _rises(run, held_out, least=RISE if gap >= GAP else FAR_RISE):
        return None
    evidence = f"{run.named_score(train)} train, {run.score(held_out)} {part}"
    if turn := rising_epoch(run):
        evidence += f", and the validation loss rises after epoch {turn} of {run.findings.epochs}"
    loss = run.curve("val/loss")
    would_stop = len(loss) > 0 and len(loss) - 1 - int(loss.argmin()) > PATIENCE
    return Verdict(
        evidence=evidence,
        numbers={"training": train, part: held_out},
        cures=(
            *run.regularization,
            "keep=best" if run.findings.rows.get("validation") else "",
            "callbacks=early_stopping" if would_stop else "",
        ),
        advice="more rows, or a smaller network",
    )


def _error_in_time(run: Evidence, train: float) -> float | None:
    """Return the validation error of a series as a share of the variance of the training part.

    Values with a trend vary less in the short validation part, so that shares of its own variance
    are larger.
    """
    rmse = run.findings.metrics.get("best/val/rmse")
    train_rmse = run.findings.training.get("rmse")
    return train * (rmse / train_rmse) ** 2 if rmse and train_rmse else None


def _rises(run: Evidence, held_out: float, *, least: float) -> bool:
    """Return whether the validation loss rises by `least` from an early epoch on.

    The training loss falls since then, many rows are wrong, and neither dropout nor weight decay
    holds the network down.
    """
    turn = rising_epoch(run)
    is_wrong = held_out >= UNSURE * run.naive_error and not run.is_unlearned
    if turn is None or not is_wrong or any(run.less_regularization):
        return False
    at_turn = run.findings.history[turn]
    scale = run.naive_loss or at_turn["val/loss"]
    rise = run.curve("val/loss")[-1] - at_turn["val/loss"]
    fall = at_turn.get("train/loss", 0.0) - run.curve("train/loss")[-1]
    return bool(rise >= least * scale and fall >= FALL * scale)


def _standard_error(run: Evidence, error: float, part: str) -> float:
    """Return the standard error of a share of wrong rows or of variance."""
    rows = float(max(run.findings.rows.get(part, 0), 1))
    test = run.units
    if test.kind == "group":  # the groups of the other parts are not on record
        rows_of_unit = len(test.of_row) / test.effective
    else:
        steps = run.findings.horizon if run.findings.targets else None
        stride = run.findings.stride
        rows_of_unit = rows / units_of(int(rows), horizon=steps, stride=stride).count
    units = max(1.0, rows / rows_of_unit)
    if run.is_regression:
        return error * float(np.sqrt(HEAVY_TAILED / units))
    share = min(max(error, 1 / units), 1.0)
    return float(np.sqrt(share * max(1 - share, 1 / units) / units))


RULE = Rule(
    rank=120,
    find=find,
    needs=("training",),
    is_on_learning=True,
    is_on_other_rows=True,
    # A network that fits its training rows too well has living units enough.
    hides=("dead_relu",),
    glossary="clearly better on training rows than on validation rows",
    chinese="过拟合",
    page="""\
The accuracy (or R²) on validation rows is lower than on training rows by 0.1 or more, by half of
the validation error, and by more than chance explains. Or the validation loss rises from an early
epoch on, while the training loss falls and neither dropout nor weight decay holds the network down:
by 0.15 of the naive loss if the accuracies (or R²) also differ by 0.1, else by 0.5.

    pipeline train model=mlp data=mnist1d model.norm=none model.init=torch data.batch_size=100

> doctor  overfitting: accuracy 94 % train, 61 % validation; try optimizer.weight_decay=0.01 or \
model.dropout=0.3

With `'model.hidden=[32]' model.dropout=0.5 optimizer.weight_decay=0.001` the gap disappears, but
validation accuracy falls by a third: dense layers do not suit shifted signals. `model=cnn1d` is
healthy with an accuracy of 95 %.
""",
)
