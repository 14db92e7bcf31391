"""Values of sigmoid or tanh that are mostly close to a bound."""

from pipeline.doctor.evidence import NARROW, Evidence
from pipeline.doctor.layers import short_name
from pipeline.doctor.rule import Rule, Verdict

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
    name="saturated",
    rank=40,
    find=find,
    needs=("activity",),
    explains_little_learning=True,
    hides=("vanishing_gradient", "lr_too_low"),
)
