"""A training of few steps, in whose last quarter a loss was still falling."""

import math

from pipeline.doctor.curves import LEARNED, late_share
from pipeline.doctor.rule import Evidence, Rule, Verdict

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


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the number of steps; a single epoch has no last quarter."""
    epochs = run.findings.epochs
    steps = run.findings.steps * epochs
    if not 0 < steps < FEW_STEPS or run.diverged:
        return None
    start = run.naive_loss or 0.0
    shares = [late_share(run.curve(key), start, LEARNED) for key in ("train/loss", "val/loss")]
    share = max((share for share in shares if share is not None), default=0.0)
    if (share < STILL_FALLING and epochs > 1) or epochs < run.findings.planned:
        return None
    length = f"{epochs} epochs, and the loss was still falling" if epochs > 1 else "one epoch"
    enough = 10 * math.ceil(ENOUGH_STEPS / run.findings.steps / 10)
    return Verdict(
        evidence=f"only {steps} steps in {length}",
        numbers={"steps": steps, "share": share},
        cures=(f"trainer.max_epochs={enough}",),
    )


RULE = Rule(
    rank=130,
    find=find,
    shows_little_learning=True,
    is_on_learning=True,
    hides=("no_better_than_naive", "no_better_than_linear", "underfitting"),
    glossary="fewer than 100 steps in all, and a loss that still fell",
    chinese="步数太少",
    page="""\
The whole training took fewer than 100 steps, and a loss still fell in the last quarter of the
epochs, by 2 % of its total fall or more (a single epoch always counts); from 10 % on,
`stopped_early` is reported. A small training part has few batches in an epoch, and a schedule that
ends near zero flattens the loss. The suggested epochs take 300 steps.

    pipeline train model=lstm data=synthetic_control data.per_class=10 optimizer.lr=0.01

> doctor  too few steps: only 40 steps in 20 epochs, and the loss was still falling; try \
trainer.max_epochs=150

With `trainer.max_epochs=150`: `healthy`.
""",
)
