"""Values of sigmoid or tanh that are mostly close to a bound."""

from pipeline.doctor.evidence import NARROW
from pipeline.doctor.layers import short_name
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Share of a layer's values within 1 % of a bound. Healthy layers stay below a tenth.
SATURATED = 0.5


def find(run: Evidence) -> Verdict | None:
    """Return the verdict on the layer with the largest share of such values."""
    wide = (activity for activity in run.findings.activity if activity.units >= NARROW)
    worst = max(wide, key=lambda activity: activity.saturated, default=None)
    if worst is None or worst.saturated < SATURATED:
        return None
    at_input = worst.layer == run.findings.activity[0].layer
    return Verdict(
        evidence=f"{100 * worst.saturated:.0f} % of the outputs of {short_name(worst.layer)} are "
        "within 1 % of a bound, where gradients are near zero",
        numbers={"saturated": worst.saturated},
        cures=(
            run.standard_scale if at_input else "",
            "model.gain=null",
            "model.init=default",
            run.with_norm,
            run.learning_rate_times(0.1),
            "model.activation=relu",
        ),
    )


RULE = Rule(
    rank=40,
    find=find,
    needs=("activity",),
    explains_little_learning=True,
    hides=("vanishing_gradient", "lr_too_low"),
    glossary="sigmoid or tanh values at their bounds, where the gradient is almost zero",
    chinese="饱和",
    page="""\
At least half of a layer's sigmoid or tanh values are within 1 % of a bound. Here the inputs go up
to 4,254:

    pipeline train model=mlp data=breast_cancer data.scale=none model.activation=tanh \\
      model.norm=none model.init=torch optimizer.lr=0.003 trainer.max_epochs=15

> doctor  saturated: 99 % of the outputs of layer1 are within 1 % of a bound, where gradients are \
near zero; try data.scale=standard or model.init=default

With `data.scale=standard`: `healthy`.
""",
)
