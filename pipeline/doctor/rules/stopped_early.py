"""A training that ended while the network was still learning."""

from pipeline.doctor.curves import share_of_last_quarter
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Share of the total improvement that comes from the last quarter of the epochs.
#:
#: It is 0.03 for an exponential curve after four time constants, 0.10 after two, and 0.25 for a
#: straight line.
STILL_LEARNING = 0.1
#: Epochs below which ten times as many are offered: they show only the start of a curve.
FEW_EPOCHS = 10


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the share of the improvement that came late."""
    share = share_of_last_quarter(run)
    if share is None or share < STILL_LEARNING or run.diverged:
        return None
    epochs = run.findings.epochs
    linear = run.gain("linear")
    limits = ("trainer.max_time=null", "trainer.max_steps=-1")
    return Verdict(
        evidence=f"{100 * share:.0f} % of the improvement came in the last quarter of {epochs} "
        "epochs",
        numbers={"share": share, "epochs": epochs},
        cures=(
            *(limits if epochs < run.findings.planned else ()),
            run.larger_if_narrow if linear is not None and linear.high < 0 else "",
            run.more_epochs(3 if run.findings.planned >= FEW_EPOCHS else 10),
        ),
    )


RULE = Rule(
    rank=140,
    find=find,
    needs=("history",),
    shows_little_learning=True,
    is_on_learning=True,
    hides=("no_better_than_naive", "no_better_than_linear", "underfitting", "too_few_steps"),
    glossary="still improving when the epochs were over",
    chinese="停得太早",
    page="""\
The last quarter of the epochs contributed 10 % or more of the total improvement.

    pipeline train model=mlp data=digits model.norm=none model.init=torch optimizer=sgd \\
      optimizer.momentum=0.0 optimizer.lr=0.05 scheduler=none trainer.max_epochs=10

> doctor  stopped early: 65 % of the improvement came in the last quarter of 10 epochs; try \
trainer.max_epochs=30

With `trainer.max_epochs=60`: `healthy`.
""",
)
