"""Steps so short that little is learned, or that learning continues at the end."""

import numpy as np

from pipeline.base.terminal import significant
from pipeline.doctor.curves import share_of_last_quarter
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.doctor.rules.stopped_early import STILL_LEARNING

#: Update / weight of the fastest layer below which a network learns too slowly for any practical
#: number of epochs.
TOO_SHORT = 2e-4


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if no layer's weights move, and more could be learned."""
    if not np.isfinite(run.vitals.updates).any():
        return None
    update = run.largest_update
    share = share_of_last_quarter(run)
    goes_on = share is not None and share > STILL_LEARNING
    if update > TOO_SHORT or not (goes_on or run.is_unlearned):
        return None
    return Verdict(
        evidence=f"steps change weights by at most {significant(update)} of their size "
        "(0.001 is usual)",
        numbers={"update": update},
        cures=(run.higher_learning_rate, run.more_epochs(10)),
    )


RULE = Rule(
    rank=70,
    find=find,
    needs=("vitals",),
    explains_little_learning=True,
    glossary="the learning rate is too small",
    chinese="学习率过小",
    page="""\
No step changes any layer's weights by more than 0.0002 of their norm, and little was learned or the
loss is still falling.

    pipeline train model=mlp data=mnist1d model.norm=none model.init=torch optimizer.lr=1e-6 \\
      data.batch_size=100 trainer.max_epochs=8

> doctor  lr too low: steps change weights by at most 0.000014 of their size (0.001 is usual); \
try optimizer.lr=0.001 or trainer.max_epochs=80

With `optimizer.lr=0.003`: `healthy`.
""",
)
