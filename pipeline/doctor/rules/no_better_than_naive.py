"""A gain over the naive baseline that is zero or negative, on test rows that suffice to tell."""

from pipeline.doctor.evidence import Gain
from pipeline.doctor.gains import comparison, learns_from_the_inputs, least_loss, naive_gain
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.doctor.rules.noisy_metrics import vagueness


def find(run: Evidence) -> Verdict | None:
    """Return the verdict on the best baseline that is not fitted to the inputs."""
    gain = naive_gain(run)
    if gain is None or gain.low > 0 or run.has_few_rows or run.orders_the_rows:
        return None
    if gain.high < 0:
        difference = least_loss(run, gain)
    elif vagueness(run):
        return None
    elif run.is_regression:
        difference = f"MSE at most {100 * gain.high:.0f} % lower"
    else:
        difference = f"at most {100 * gain.high:.1f} points better"
    is_seasonal = gain.baseline == "seasonal"
    season = run.findings.season or 0
    horizon = run.findings.horizon
    # What lies a season back has to be known, for most training rows as well.
    can_differ = horizon <= season < run.findings.rows["train"] / 2
    # The change is all that is left to learn where the last value is better.
    is_behind = bool(run.findings.targets) and gain.baseline == "naive" and gain.high < 0
    return Verdict(
        evidence=f"{comparison(run, gain)}; {difference}",
        numbers=gain.numbers,
        cures=(
            f"data.difference={season}" if is_seasonal and can_differ else "",
            f"data.difference={horizon}" if is_behind and not run.number("data.difference") else "",
            run.larger_network if run.is_linear else "",
            run.standard_scale,
        ),
        advice=_advice(run, gain),
    )


def _advice(run: Evidence, gain: Gain) -> str:
    """Return the baseline to use; the inputs are doubted only where no baseline is good."""
    if gain.baseline == "seasonal":
        return f"use {gain.name}"
    for baseline in ("trees", "linear"):
        if learns_from_the_inputs(run, baseline):
            return f"use {run.findings.baselines[baseline]}"
    if gain.baseline == "mean":
        return "values do not follow from earlier ones: check whether the rows are in order of time"
    return "check whether the inputs can predict the target at all"


RULE = Rule(
    rank=110,
    find=find,
    needs=("test",),
    shows_little_learning=True,
    is_on_learning=True,
    is_on_other_rows=True,
    hides=("no_better_than_linear", "noisy_metrics"),
    glossary="the naive baseline is as good",
    chinese="不比朴素基线好",
    page="""\
With 95 % confidence the network is not shown to be better than the naive baseline, or it is clearly
worse. For a series, the best of the last value, the value a season before and the mean counts. If
it is the seasonal one, the advice is `data.difference=12` with the steps of that season; where the
last value is clearly better, as with a trend, it is `data.difference=1`. The inputs are doubted
only if neither boosted trees nor a linear model learns from them. There is no verdict if the
area under the ROC curve is above 0.5 with 95 % confidence. Example: a random walk:

    pipeline train model=gru data=series data.path=walk.csv data.window=8 model.hidden=8 \\
      model.readout=last trainer.max_epochs=15

> doctor  no better than naive: test RMSE 1.04 against 1.02 for the last value; MSE at most 1 % \
lower; check whether the inputs can predict the target at all

Only other inputs help. For a linear network, a hidden layer is suggested first: the sign of a
product is not linear.

    pipeline train model=mlp data=table data.path=product.csv 'model.hidden=[]' \\
      trainer.max_epochs=40

> doctor  no better than naive: balanced test accuracy 52.0 % against 50.0 % for majority class; \
at most 9.3 points better; try 'model.hidden=[64]'

With `'model.hidden=[64]'`: `healthy`.
""",
)
