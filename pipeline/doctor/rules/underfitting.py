"""Training rows that are predicted hardly better than naively, although they can be learned."""

import numpy as np

from pipeline.doctor.gains import learns_from_the_inputs, naive_gain
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Loss of a linear network, as a share of the naive loss, from which it learns nothing, even if its
#: accuracy is above that of the naive baseline by chance.
USELESS = 0.95
#: Test error of a baseline, as a share of the network's training error, up to which there is more
#: to learn.
CLEARLY = 0.9


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the score on the training rows beside that of a constant."""
    train = run.error("train")
    loss = run.curve("train/loss")
    naive = run.naive_loss
    fails = run.is_linear and naive is not None and loss.min(initial=np.inf) >= USELESS * naive
    if train is None or not (run.is_unlearned or fails):
        return None
    # If rare classes are missed, the others may still be learned well.
    missed = None if run.is_memorizing else run.missed_classes
    if (missed is not None and missed.rare) or not _has_something_to_learn(run):
        return None
    return Verdict(
        evidence=f"{run.named_score(train)} on the training rows, "
        f"{run.score(run.naive_error)} for a constant prediction",
        numbers={"training": train, "naive": run.naive_error},
        cures=(
            "loss.class_weights=balanced" if run.has_rare_class else "",
            *run.less_regularization,
            run.larger_network,
            run.more_epochs(3),
        ),
    )


def _has_something_to_learn(run: Evidence) -> bool:
    """Return whether a fitted baseline shows that the inputs hold more than was learned.

    Where no trees were fitted, a network that beats the naive baseline counts as well. A few
    batches can be memorized whatever they hold.
    """
    if run.is_memorizing or _finds_more(run, "linear"):
        return True
    naive = naive_gain(run)
    learns = (naive is not None and naive.low > 0) or (run.is_linear and run.orders_the_rows)
    # A line that learns nothing is no better than naive, which offers a hidden layer.
    if run.gain("trees") is None or (run.is_linear and not learns):
        return learns
    return _finds_more(run, "trees")


def _finds_more(run: Evidence, baseline: str) -> bool:
    """Return whether a baseline predicts test rows better than the network its training rows."""
    measure = run.error if run.is_regression else run.balanced_error
    train, error = measure("train"), measure(baseline)
    if train is None or error is None or error >= CLEARLY * train:
        return False
    return learns_from_the_inputs(run, baseline)


RULE = Rule(
    rank=150,
    find=find,
    needs=("training",),
    shows_little_learning=True,
    is_on_learning=True,
    hides=("no_better_than_naive", "no_better_than_linear"),
    glossary="poor even on the training rows",
    chinese="欠拟合",
    page="""\
Even on the training rows, less than a quarter of the possible gain over the naive baseline is
reached, although boosted trees or the linear baseline predict test rows clearly better than that.
Where they do not, noise explains it, and there is no verdict; where no trees were fitted, it is
enough that the network beats the naive baseline. For a linear network, a hidden layer is suggested.
With shuffled training labels (`data.shuffle_labels`) only memorization is possible: verdicts on
learning then say so and suggest the true labels. With `debug=overfit`, or
`trainer.overfit_batches`, the rows of these batches are the training rows, and there are no
verdicts on other rows: `healthy` means that the batches are learned.

    pipeline train model=mlp data=digits 'model.hidden=[1]' model.activation=tanh \\
      model.norm=none model.init=torch

> doctor  underfitting: accuracy 23 % on the training rows, 10 % for a constant prediction; try \
'model.hidden=[16]' or trainer.max_epochs=60

With `'model.hidden=[64]'`: `healthy`.
""",
)
