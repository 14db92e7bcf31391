"""Shapes of learning curves: a loss that rises, and how much was learned late."""

import numpy as np

from pipeline.base.findings import Array
from pipeline.doctor.evidence import Evidence

#: Best epoch as a share of all epochs that counts as early.
EARLY = 0.25
#: Smallest relative fall of the loss for which its curve is used.
LEARNED = 0.02
#: The same for the error.
BETTER = 0.1


def rising_epoch(run: Evidence) -> int | None:
    """Return the early epoch from which the validation loss rises while the training loss falls."""
    train = run.curve("train/loss")
    validation = run.curve("val/loss")
    if len(train) < 2 or len(validation) < 2 or not train[-1] < train[0]:
        return None
    epochs = run.epochs_with_validation
    best = epochs[validation.argmin()]
    rises = validation[-1] > (1 + LEARNED) * validation.min()
    return best if rises and best <= max(epochs[0], EARLY * epochs[-1]) else None


def share_of_last_quarter(run: Evidence) -> float | None:
    """Return the share of the total improvement that comes from the last quarter of the epochs.

    It is measured by the validation loss, or by the training loss if there is no validation or a
    few batches are memorized; if the loss has not fallen, by the validation error of a
    classification. `None` if there is no curve or no improvement.
    """
    key = "val/loss" if len(run.curve("val/loss")) and not run.is_memorizing else "train/loss"
    by_loss = late_share(run.curve(key), run.naive_loss or 0.0, LEARNED)
    if by_loss is not None or run.is_regression:
        return by_loss
    return late_share(1 - run.curve("val/accuracy"), run.naive_error, BETTER)


def late_share(values: Array, start: float, least: float) -> float | None:
    """Return the share of a curve's total fall that comes from its last quarter.

    Args:
        values: The curve, (epochs,).
        start: Value before the training, if it is larger than that of the first epoch.
        least: Smallest total fall, as a share of the start; of a smaller one, the share is `None`.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    start = max(float(values[0]), start)
    quarter = max(1, round(len(values) / 4))
    before = float(values[:-quarter].min())
    best = float(values.min())
    learned = start - best
    return (before - best) / learned if learned > least * abs(start) else None
