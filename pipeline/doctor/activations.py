"""Units that never answer, and values that stick to a bound."""

from collections.abc import Iterator

from pipeline.doctor import thresholds
from pipeline.doctor.gradients import short
from pipeline.doctor.remedies import normalised, offered, reach, scaled, settled, slower
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say what the activations show."""
    yield from _dead(findings)
    yield from _saturated(findings)


def _dead(findings: Findings) -> Iterator[Verdict]:
    worst = max(findings.activity, key=lambda one: one.dead, default=None)
    if worst is None or worst.dead < thresholds.DEAD:
        return
    count = round(worst.dead * worst.units)
    others = "model.activation=leaky_relu", normalised(findings), "model.init=default"
    # Where a step replaces all weights nothing helps beside a lower rate.
    helpful = others if reach(findings) < thresholds.REPLACED else ()
    yield Verdict(
        name="dead_relu",
        evidence=f"{count} of {short(worst.layer)}'s {worst.units} units give zero for every row",
        numbers={"dead": worst.dead, "units": float(worst.units)},
        cures=offered(
            findings,
            settled(findings),
            *helpful,
            scaled(findings),
        ),
    )


def _saturated(findings: Findings) -> Iterator[Verdict]:
    worst = max(findings.activity, key=lambda one: one.saturated, default=None)
    if worst is None or worst.saturated < thresholds.SATURATED:
        return
    at_input = worst.layer == findings.activity[0].layer
    yield Verdict(
        name="saturated",
        evidence=f"{100 * worst.saturated:.0f} % of {short(worst.layer)}'s values lie within 1 % "
        "of a bound, where a gradient is near zero",
        numbers={"saturated": worst.saturated},
        cures=offered(
            findings,
            scaled(findings) if at_input else "",
            "model.gain=null",
            "model.init=default",
            normalised(findings),
            slower(findings, 0.1),
            "model.activation=relu",
        ),
    )
