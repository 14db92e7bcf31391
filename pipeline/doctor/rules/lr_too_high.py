"""Steps so long that nothing is learned, or that the final loss is above a constant answer's."""

import numpy as np

from pipeline.base.terminal import significant
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.doctor.rules.dead_relu import REPLACED
from pipeline.doctor.rules.too_few_steps import FEW_STEPS

#: Update / weight of the fastest layer in the fastest epoch; it counts if nothing was learned.
#:
#: About 1e-3 is usual (Bottou 2015); Adam's first steps reach 0.1 at its usual rates.
TOO_FAR = 0.2
#: Last training loss relative to the loss of predicting the classes' shares: steps that are too
#: long keep it above 1, whereas steps that are too short leave it at 1.
ROSE = 1.02
#: Update / weight that counts as too far if the loss has risen by `ROSE`.
TOO_FAR_AFTER_ALL = 0.05
#: Largest training loss of an epoch, as a multiple of the same loss or of the smallest one, that
#: counts as having risen, too: first weights cost twice that loss or so. Of small weights, a short
#: step is a large share.
BLOWN_UP = 5.0


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if long steps and a high loss, or long steps and no learning, coincide."""
    update = run.largest_update
    loss = run.curve("train/loss")
    naive = run.naive_loss
    rose = _has_risen(run)
    blew_up = rose or loss.max(initial=0.0) > BLOWN_UP * (naive or loss.min(initial=np.inf))
    diverged = run.diverged
    is_sick = update >= TOO_FAR and run.is_unlearned and (diverged or blew_up)
    by_dropout = run.number("model.dropout") >= 0.5  # keeps the training loss up
    if not is_sick and not (update >= TOO_FAR_AFTER_ALL and rose and not by_dropout):
        return None
    if diverged:
        end = "the loss became NaN or infinite"
    elif len(loss):
        end = f"the training loss ends at {significant(loss[-1], 3)} "
        end += f"(best {significant(loss.min(), 3)})"
    else:
        end = "the network learns nothing"
    # Optimizers other than SGD rescale gradients, which undoes clipping.
    clips = run.optimizer == "SGD" and not run.findings.clipping.threshold and update < REPLACED
    share = f"{100 * update:.0f} %" if update < 1 else f"{significant(update, 3)} times their size"
    return Verdict(
        evidence=f"a step changes the weights of a layer by up to {share}, and {end}",
        numbers={"update": update},
        cures=(run.lower_learning_rate, "trainer.gradient_clip_val=1.0" if clips else ""),
    )


def _has_risen(run: Evidence) -> bool:
    """Return whether the training loss ends above that of a constant answer."""
    loss = run.curve("train/loss")
    naive = run.naive_loss
    if naive is None or not len(loss) or not float(loss[-1]) > ROSE * naive:
        return False
    # The mean loss of few steps is mostly that of the first weights.
    lasted = run.findings.steps * run.findings.epochs >= FEW_STEPS
    return lasted or float(loss[-1]) > ROSE * float(loss[0])


RULE = Rule(
    rank=50,
    find=find,
    needs=("vitals",),
    explains_little_learning=True,
    hides=("clipping_always", "overfitting"),
    glossary="the learning rate is too large",
    chinese="学习率过大",
    page="""\
A step changes a layer's weights by a fifth or more, the training loss rises far above the naive
loss and nothing is learned, or it stays above the naive loss; within 100 steps it must also have
risen since the first epoch. At most the optimizer's default is suggested.

    pipeline train model=mlp data=diabetes model.norm=none model.init=torch optimizer=sgd \\
      optimizer.momentum=0.0 optimizer.lr=30 scheduler=none trainer.gradient_clip_val=null \\
      trainer.max_epochs=10

> doctor  lr too high: a step changes the weights of a layer by up to 18.9 times their size, and \
the loss became NaN or infinite; try optimizer.lr=0.01

Clipping is suggested only for plain gradient descent with moderate steps, since other optimizers
rescale the clipped gradient. With `optimizer.lr=0.01` it learns, and ten epochs are few:
`stopped_early`.
""",
)
