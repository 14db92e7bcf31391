"""A learning rate that leaps over what it looks for, or hardly moves."""

from collections.abc import Iterator

import numpy as np

from pipeline.doctor import thresholds
from pipeline.doctor.figures import is_unlearned, losses, naive_loss
from pipeline.doctor.fit import share_of_last_quarter
from pipeline.doctor.remedies import longer, offered, reach, setting, settled, slower
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Findings


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say how far the steps go, beside what they have come to."""
    if findings.vitals is not None and np.isfinite(findings.vitals.updates).any():
        yield from _too_high(findings)
        yield from _too_low(findings)


def _too_high(findings: Findings) -> Iterator[Verdict]:
    far = reach(findings)
    leaps = far >= thresholds.TOO_FAR and is_unlearned(findings, thresholds.UNLEARNED)
    if not leaps and not (far >= thresholds.TOO_FAR_AFTER_ALL and _rose(findings)):
        return
    ended = "the loss is no number any more" if findings.end == "diverged" else _stays(findings)
    yield Verdict(
        name="lr_too_high",
        evidence=f"a step moves a layer by {_of_itself(far)}, and {ended}",
        numbers={"update": far},
        cures=offered(
            findings,
            settled(findings),
            "trainer.gradient_clip_val=1.0" if _is_held_by_clipping(findings) else "",
        ),
    )


def _is_held_by_clipping(findings: Findings) -> bool:
    """Tell whether clipping would shorten the steps enough; optimizers other than SGD rescale."""
    if findings.clipping.threshold or reach(findings) >= thresholds.REPLACED:
        return False
    return str(setting(findings, "optimizer._target_")).endswith(".SGD")


def _too_low(findings: Findings) -> Iterator[Verdict]:
    far = reach(findings)
    still = share_of_last_quarter(findings)
    learning = still is not None and still > thresholds.STILL_LEARNING
    if far > thresholds.TOO_SHORT or not (learning or is_unlearned(findings, thresholds.UNLEARNED)):
        return
    yield Verdict(
        name="lr_too_low",
        evidence=f"a step moves no layer by more than {far:.1e} of its weights; 1e-3 is usual",
        numbers={"update": far},
        cures=offered(
            findings,
            slower(findings, float(f"{3e-3 / max(far, 1e-9):.0e}")),
            longer(findings, 10),
        ),
    )


def _of_itself(far: float) -> str:
    if far < 1:
        return f"up to {100 * far:.0f} % of its weights"
    return f"up to {far:.3g} times its weights"


def _rose(findings: Findings) -> bool:
    """Tell whether the training's loss ends above that of answering without looking."""
    loss, start = losses(findings, "train/loss"), naive_loss(findings)
    return len(loss) > 0 and start is not None and float(loss[-1]) > thresholds.ROSE * start


def _stays(findings: Findings) -> str:
    loss = losses(findings, "train/loss")
    if len(loss) == 0:
        return "little is learned"
    return f"the training loss ends at {loss[-1]:.3g} after {loss.min():.3g} at best"
