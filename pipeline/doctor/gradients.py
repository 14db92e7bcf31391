"""Gradients that vanish on their way to the input or explode, and clipping without sense."""

import math
from collections.abc import Iterator

import numpy as np

from pipeline.doctor import thresholds
from pipeline.doctor.figures import is_unlearned, losses
from pipeline.doctor.remedies import normalised, offered, scaled, setting, slower
from pipeline.doctor.verdict import Verdict
from pipeline.findings.records import Array, Findings, Vitals


def verdicts(findings: Findings) -> Iterator[Verdict]:
    """Say what the gradients of all layers show."""
    if findings.vitals is not None and len(findings.vitals.layers) > 1:
        yield from _vanishing(findings, findings.vitals)
    if findings.vitals is not None:
        yield from _exploding(findings, findings.vitals)
    yield from _always(findings)
    yield from _never(findings)


def short(layer: str) -> str:
    """Return a layer's name as people say it: `layer1` for `layers.layer1.linear`."""
    words = layer.removeprefix("layers.").split(".")
    state = words[-1].partition(" ")[2]
    return f"{words[0].partition(' ')[0]} {state}".strip()


def median(values: Array) -> Array:
    """Return the median over the epochs of what is a number, (…); NaN where nothing is."""
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1).T
    known = [column[np.isfinite(column)] for column in columns]
    found = np.array([np.median(one) if len(one) else math.nan for one in known])
    return found.reshape(values.shape[1:])


def _vanishing(findings: Findings, vitals: Vitals) -> Iterator[Verdict]:
    """The layer whose gradient is smallest beside that of the layer nearest the output.

    An optimizer that rescales gradients moves such a layer nevertheless; it is sick then only
    where nothing is learned.
    """
    with np.errstate(all="ignore"):
        at_first = vitals.first[:-1] / vitals.first[-1]
        shares = median(vitals.gradients[:, :-1] / vitals.gradients[:, -1:])
        moves = median(vitals.updates[:, :-1] / vitals.updates[:, -1:])
    if not np.isfinite(at_first).any():
        return
    layer = int(np.nanargmin(at_first if np.isnan(shares).all() else shares))
    first, share, move = float(at_first[layer]), float(shares[layer]), float(moves[layer])
    # Depth is there from the first step on; weights that decay to nothing take a while.
    by_depth = first <= thresholds.VANISHED_AT_FIRST and 0 < share <= thresholds.VANISHED
    nowhere = float(np.linalg.norm(vitals.first)) <= thresholds.NO_GRADIENT
    unlearned = is_unlearned(findings, thresholds.UNLEARNED)
    if not (nowhere and unlearned) and not (by_depth and (move < thresholds.STILL or unlearned)):
        return
    name, head = short(vitals.layers[layer]), short(vitals.layers[-1])
    norm = float(np.linalg.norm(vitals.first))
    yield Verdict(
        name="vanishing_gradient",
        evidence=f"{name}'s gradient is {share:.0e} of the {head}'s, and its weights {_times(move)}"
        if by_depth
        else f"the gradients of all layers together have a norm of {norm:.0e} at the first step",
        numbers={"gradient": share, "update": move, "first": norm},
        cures=offered(findings, *_against_vanishing(findings)),
        advice="fewer layers, or a norm between them",
    )


def _against_vanishing(findings: Findings) -> list[str]:
    saturating = setting(findings, "model.activation") in ("sigmoid", "tanh", "softplus")
    return [
        "model.init=default" if setting(findings, "model.init") == "normal" else "",
        normalised(findings),
        "model.activation=relu" if saturating else "",
        "model.init=default",
        "model.gain=null",
        "model.skip=true",
    ]


def _exploding(findings: Findings, vitals: Vitals) -> Iterator[Verdict]:
    first = float(np.linalg.norm(vitals.first))
    usual = float(median(np.linalg.norm(vitals.gradients, axis=1)))
    largest = max(first, _largest(findings, vitals))
    leap = float(np.nanmax(vitals.updates[-1], initial=0.0))
    if not _explodes(findings, first=first, usual=usual, largest=largest, leap=leap):
        return
    yield Verdict(
        name="exploding_gradient",
        evidence=_explosion(findings, vitals, first=first, largest=largest),
        numbers={"first": first, "largest": largest, "update": leap},
        cures=offered(
            findings,
            "" if findings.clipping.threshold else "trainer.gradient_clip_val=1.0",
            normalised(findings),
            scaled(findings),
            "model.gain=null",
            "model.init=default",
            slower(findings, 0.1),
        ),
    )


def _explosion(findings: Findings, vitals: Vitals, *, first: float, largest: float) -> str:
    if not math.isfinite(first):
        return "the loss or its gradients are no numbers from the first step on"
    diverged = findings.end == "diverged"
    ended = f" and no number in epoch {int(vitals.epochs[-1])}" if diverged else ""
    known = np.nan_to_num(vitals.gradients[-1])
    layer = short(vitals.layers[int(known.argmax())])
    later = f", {largest:.2g} later" if largest > first else ""
    return f"the gradients' norm is {first:.2g} at the first step{later}{ended}, most in {layer}"


def _explodes(
    findings: Findings, *, first: float, usual: float, largest: float, leap: float
) -> bool:
    if min(first, usual) >= thresholds.EXPLODED:
        return True
    if findings.end == "diverged":
        # A step that replaces half of the weights explains a divergence by itself.
        return first >= thresholds.EXPLODED or leap < thresholds.LEAPING
    spiked = largest >= max(thresholds.EXPLODED, thresholds.SPIKE * usual)
    held = findings.clipping.threshold is not None
    return spiked and not held and is_unlearned(findings, thresholds.UNLEARNED)


def _largest(findings: Findings, vitals: Vitals) -> float:
    """Return the largest norm of a step that is on record, as far as it is a number."""
    norms = [*losses(findings, "grad/norm_max"), *np.linalg.norm(vitals.gradients, axis=1)]
    return max((float(one) for one in norms if np.isfinite(one)), default=0.0)


def _always(findings: Findings) -> Iterator[Verdict]:
    threshold, share = findings.clipping.threshold, losses(findings, "grad/clipped")
    before, after = (losses(findings, f"grad/{key}") for key in ("norm", "norm_clipped"))
    if threshold is None or not len(share) or not len(before):
        return
    with np.errstate(all="ignore"):
        left = float(median(after / before))
    if share.min() < thresholds.CLIPPED_ALWAYS or not left <= thresholds.CLIPPED_TO:
        return
    if losses(findings, "grad/norm_max").max(initial=0.0) >= thresholds.EXPLODED:
        return  # what holds an explosion does what it is for
    norm = float(median(before))
    by_norm = findings.clipping.algorithm == "norm"
    yield Verdict(
        name="clipping_always",
        evidence=f"all steps are clipped, to {left:.1e} of a gradient whose norm is {norm:.2g}",
        numbers={"share": float(share.min()), "left": left, "norm": norm},
        cures=offered(
            findings,
            "" if by_norm else "trainer.gradient_clip_algorithm=norm",
            f"trainer.gradient_clip_val={_round_up(2 * norm):g}" if by_norm else "",
            "trainer.gradient_clip_val=1.0" if norm < 1 else "",
            scaled(findings),
            "trainer.gradient_clip_val=null",
        ),
    )


def _never(findings: Findings) -> Iterator[Verdict]:
    clipping, largest = findings.clipping, losses(findings, "grad/norm_max")
    if clipping.threshold is None or not clipping.chosen or not len(largest):
        return
    if findings.end == "diverged" or losses(findings, "grad/clipped").max() > 0:
        return
    share = float(largest.max()) / clipping.threshold
    if not share <= thresholds.CLIPPED_NEVER:  # or no number, where a scaled loss has overflowed
        return
    yield Verdict(
        name="clipping_never",
        evidence=f"the largest gradient has a norm of {largest.max():.2g}, and the threshold is "
        f"{clipping.threshold:g}",
        numbers={"largest": float(largest.max()), "threshold": clipping.threshold},
        cures=offered(
            findings,
            "trainer.gradient_clip_val=1.0"
            if largest.max() > 1
            else f"trainer.gradient_clip_val={_round_up(float(largest.max()) / 2):g}",
            "trainer.gradient_clip_val=null",
        ),
    )


def _times(share: float) -> str:
    if not share > 0:
        return "do not move"
    return f"move {share:.0e} times as far" if share < 0.1 else f"move {share:.1f} times as far"


def _round_up(value: float) -> float:
    """Return the next number with one digit that is not smaller."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return math.ceil(value / power) * power
