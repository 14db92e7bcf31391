"""The diagnosis of a run: its verdicts, the worst first, without symptoms of other verdicts.

This module has the verdicts on optimization: gradients, clipping, activations, the learning rate.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.doctor import fit, tested
from pipeline.doctor.evidence import NARROW, Evidence, Verdict
from pipeline.findings import Array, Findings, Vitals
from pipeline.terminal import significant

#: Norm of all gradients that counts as exploded; well scaled networks start at the order of 1.
EXPLODED = 100.0
#: Largest norm of a step as a multiple of the usual norm; it counts if nothing was learned.
SPIKE = 100.0
#: Update / weight from which the learning rate alone explains a divergence: a step replaces half
#: of the weight at once.
LEAPING = 0.5


def exploding_gradient(run: Evidence) -> Verdict | None:
    """Gradients are far too large from the first step, or grow until the loss diverges."""
    vitals = run.findings.vitals
    if vitals is None:
        return None
    first = float(np.linalg.norm(vitals.first))
    norms = np.linalg.norm(vitals.gradients, axis=1)
    recorded = [*run.curve("grad/norm_max"), *norms]
    later = max((float(one) for one in recorded if np.isfinite(one)), default=0.0)
    largest, update = max(first, later), float(np.nanmax(vitals.updates[-1], initial=0.0))
    usual = float(_median(norms))
    if run.findings.end == "diverged":
        # A step that replaces half of the weights explains a divergence by itself.
        explodes = first >= EXPLODED or update < LEAPING
    else:
        spiked = largest >= max(EXPLODED, SPIKE * usual)
        explodes = spiked and run.findings.clipping.threshold is None and run.is_unlearned
    if not explodes and not min(first, usual) >= EXPLODED:  # either may be NaN
        return None
    # Weights of a usual size explode at the first step if the inputs are large.
    by_inputs = first >= EXPLODED and run.setting("model.gain") is None
    return Verdict(
        evidence=_explosion(run, vitals, first=first, largest=largest),
        numbers={"first": first, "largest": largest, "update": update},
        cures=(
            "model.gain=null" if run.number("model.gain") > 1 else "",
            run.standard_scale if by_inputs else "",
            "" if run.findings.clipping.threshold else "trainer.gradient_clip_val=1.0",
            run.with_norm,
            run.standard_scale,
            "model.gain=null",
            "model.init=default",
            run.learning_rate_times(0.1),
        ),
    )


def _explosion(run: Evidence, vitals: Vitals, *, first: float, largest: float) -> str:
    if not math.isfinite(first):
        return "the loss or its gradients are NaN or infinite from the first step"
    diverged = run.findings.end == "diverged"
    ended = f", NaN or infinite in epoch {int(vitals.epochs[-1])}" if diverged else ""
    layer = _short(vitals.layers[int(np.nan_to_num(vitals.gradients[-1]).argmax())])
    later = f", {significant(largest)} later" if largest > first else ""
    return f"gradient norm {significant(first)} at the first step{later}{ended}; largest in {layer}"


#: A layer's gradient norm as a share of the output layer's, in the median epoch.
#:
#: Healthy ReLU networks with torch's initialization have 3 to 5 %, eight layers of sigmoid 2e-6.
VANISHED = 1e-3
#: The same share at the first step.
VANISHED_AT_FIRST = 1e-2
#: Norm of all gradients at the first step: if values vanish on their way to the output, no layer
#: gets a gradient. A hundredth of the smallest norm of healthy runs.
NO_GRADIENT = 1e-4
#: The same share for update / weight, which an optimizer that rescales gradients keeps near 1.
STILL = 1e-2


def vanishing_gradient(run: Evidence) -> Verdict | None:
    """A layer's gradient is tiny compared with the output layer's, or all gradients are tiny.

    An optimizer that rescales gradients still moves such a layer; then it is a fault only if
    nothing is learned.
    """
    vitals = run.findings.vitals
    # Batch norm undoes whatever a single input is multiplied by, which then needs no gradient.
    has_one_input = run.findings.kind == "table" and len(run.findings.features) == 1
    is_undone = has_one_input and run.setting("model.norm") == "batch"
    if vitals is None or len(vitals.layers) < 2 + is_undone:
        return None
    layers = slice(int(is_undone), -1)
    with np.errstate(all="ignore"):
        at_first = vitals.first[layers] / vitals.first[-1]
        shares = _median(vitals.gradients[:, layers] / vitals.gradients[:, -1:])
        moves = _median(vitals.updates[:, layers] / vitals.updates[:, -1:])
    if not np.isfinite(at_first).any():
        return None
    layer = int(np.nanargmin(at_first if np.isnan(shares).all() else shares))
    share, move = float(shares[layer]), float(moves[layer])
    norm = float(np.linalg.norm(vitals.first))
    # An effect of depth is there at the first step; weights that decay to zero take longer.
    by_depth = at_first[layer] <= VANISHED_AT_FIRST and 0 < share <= VANISHED
    is_sick = by_depth and move < STILL
    if not is_sick and not ((by_depth or norm <= NO_GRADIENT) and run.is_unlearned):
        return None
    name = _short(vitals.layers[layers][layer])
    effect = "it barely learns" if move < STILL else "the network learns nothing"
    saturating = run.setting("model.activation") in ("sigmoid", "tanh", "softplus")
    widths = run.setting("model.hidden")
    skips = isinstance(widths, list) and any(one == other for one, other in pairwise(widths))
    return Verdict(
        evidence=f"{name} gets {significant(share, 1)} of the output layer's gradient, so {effect}"
        if by_depth
        else f"the gradient norm over all layers is only {significant(norm, 1)} at the first step",
        numbers={"gradient": share, "update": move, "first": norm},
        cures=(
            "model.init=default" if run.setting("model.init") == "normal" else "",
            run.with_norm,
            "model.activation=relu" if saturating else "",
            "model.init=default",
            "model.gain=null",
            "model.skip=true" if skips else "",
        ),
        advice="use fewer layers",
    )


#: Smallest share of clipped steps in any epoch.
CLIPPED_ALWAYS = 0.95
#: Share of the gradient norm that clipping leaves, in the median epoch: the threshold then acts
#: as another learning rate. Clipping to a third is common.
CLIPPED_TO = 0.1


def clipping_always(run: Evidence) -> Verdict | None:
    """The threshold cuts nearly all steps to a fraction, like a smaller learning rate."""
    threshold, share = run.findings.clipping.threshold, run.curve("grad/clipped")
    before, after = (run.curve(f"grad/{key}") for key in ("norm", "norm_clipped"))
    if threshold is None or len(share) < 2 or not len(before):
        return None  # a single epoch shows the first weights
    with np.errstate(all="ignore"):
        left = float(_median(after / before))
    if share.min() < CLIPPED_ALWAYS or not left <= CLIPPED_TO:
        return None
    if run.curve("grad/norm_max").max(initial=0.0) >= EXPLODED:
        return None  # clipping contains an explosion, which is its purpose
    if run.optimizer != "SGD" and run.largest_update < TOO_SHORT:
        return None  # the optimizer rescales what is left, so the rate is too low
    norm = float(_median(before))
    by_norm = run.findings.clipping.algorithm == "norm"
    return Verdict(
        evidence=(
            f"{math.floor(100 * share.mean())} % of steps are clipped, to "
            f"{significant(100 * left, 1)} % of the gradient (median norm {significant(norm)})"
        ),
        numbers={"share": float(share.min()), "left": left, "norm": norm},
        cures=(
            "" if by_norm else "trainer.gradient_clip_algorithm=norm",
            f"trainer.gradient_clip_val={_round_up(2 * norm):g}" if by_norm else "",
            "trainer.gradient_clip_val=1.0" if norm < 1 else "",
            run.standard_scale,
            "trainer.gradient_clip_val=null",
        ),
    )


#: Largest norm of the run, as a share of a chosen threshold that has no effect.
CLIPPED_NEVER = 0.1


def clipping_never(run: Evidence) -> Verdict | None:
    """No gradient comes near the threshold that the user chose."""
    clipping, norms = run.findings.clipping, run.curve("grad/norm_max")
    if clipping.threshold is None or not clipping.chosen or not len(norms):
        return None
    if run.findings.end == "diverged" or run.curve("grad/clipped").max() > 0:
        return None
    largest = float(norms.max())
    if not largest / clipping.threshold <= CLIPPED_NEVER:  # NaN if a scaled loss overflowed
        return None
    return Verdict(
        evidence=f"the threshold {clipping.threshold:g} is far above the largest gradient norm, "
        f"{significant(largest)}",
        numbers={"largest": largest, "threshold": clipping.threshold},
        cures=(
            "trainer.gradient_clip_val=1.0"
            if largest > 1
            else f"trainer.gradient_clip_val={_round_up(largest / 2):g}",
            "trainer.gradient_clip_val=null",
        ),
    )


#: Share of a layer's units that are always zero. Healthy wide layers have up to a third.
DEAD = 0.5
#: Update / weight of the fastest layer at which a step replaces the layer's weights: only a lower
#: learning rate helps.
REPLACED = 1.0


def dead_relu(run: Evidence) -> Verdict | None:
    """Units give zero for every training row."""
    worst = max(run.findings.activity, key=lambda one: one.dead, default=None)
    if worst is None or worst.dead < DEAD:
        return None
    count = round(worst.dead * worst.units)
    others = ("model.activation=leaky_relu", run.with_norm, "model.init=default")
    return Verdict(
        evidence=f"{count} of {worst.units} units in {_short(worst.layer)} are zero for every "
        "training row",
        numbers={"dead": worst.dead, "units": float(worst.units)},
        cures=(
            run.lower_learning_rate,
            *(others if run.largest_update < REPLACED else ()),
            run.standard_scale,
        ),
    )


#: Share of a layer's values within 1 % of a bound. Healthy layers stay below a tenth.
SATURATED = 0.5


def saturated(run: Evidence) -> Verdict | None:
    """Values of sigmoid or tanh are mostly close to a bound."""
    wide = (one for one in run.findings.activity if one.units >= NARROW)
    worst = max(wide, key=lambda one: one.saturated, default=None)
    if worst is None or worst.saturated < SATURATED:
        return None
    at_input = worst.layer == run.findings.activity[0].layer
    return Verdict(
        evidence=f"{100 * worst.saturated:.0f} % of the outputs of {_short(worst.layer)} are "
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


def lr_too_high(run: Evidence) -> Verdict | None:
    """Steps are so long that nothing is learned, or the final loss is above a constant answer's."""
    far = run.largest_update
    loss, naive = run.curve("train/loss"), run.naive_loss
    # The mean loss of few steps is mostly that of the first weights.
    lasted = run.findings.steps * run.findings.epochs >= fit.FEW_STEPS
    rose = naive is not None and len(loss) > 0 and float(loss[-1]) > ROSE * naive
    rose = rose and (lasted or float(loss[-1]) > ROSE * float(loss[0]))
    blew_up = rose or loss.max(initial=0.0) > BLOWN_UP * (naive or loss.min(initial=np.inf))
    diverged = run.findings.end == "diverged"
    is_sick = far >= TOO_FAR and run.is_unlearned and (diverged or blew_up)
    by_dropout = run.number("model.dropout") >= 0.5  # keeps the training loss up
    if not is_sick and not (far >= TOO_FAR_AFTER_ALL and rose and not by_dropout):
        return None
    if diverged:
        ended = "the loss became NaN or infinite"
    elif len(loss):
        last, best = significant(loss[-1], 3), significant(loss.min(), 3)
        ended = f"the training loss ends at {last} (best {best})"
    else:
        ended = "the network learns nothing"
    # Optimizers other than SGD rescale gradients, which undoes clipping.
    clips = run.optimizer == "SGD" and not run.findings.clipping.threshold and far < REPLACED
    by = f"{100 * far:.0f} %" if far < 1 else f"{significant(far, 3)} times their size"
    return Verdict(
        evidence=f"a step changes the weights of a layer by up to {by}, and {ended}",
        numbers={"update": far},
        cures=(run.lower_learning_rate, "trainer.gradient_clip_val=1.0" if clips else ""),
    )


#: Update / weight of the fastest layer below which a network learns too slowly for any practical
#: number of epochs.
TOO_SHORT = 2e-4


def lr_too_low(run: Evidence) -> Verdict | None:
    """Steps are so short that little is learned, or that learning continues at the end."""
    if run.findings.vitals is None or not np.isfinite(run.findings.vitals.updates).any():
        return None
    far, share = run.largest_update, fit.share_of_last_quarter(run)
    goes_on = share is not None and share > fit.STILL_LEARNING
    if far > TOO_SHORT or not (goes_on or run.is_unlearned):
        return None
    return Verdict(
        evidence=f"steps change weights by at most {significant(far)} of their size "
        "(0.001 is usual)",
        numbers={"update": far},
        cures=(run.higher_learning_rate, run.more_epochs(10)),
    )


def _short(layer: str) -> str:
    """Return the short name of a layer: `layer1` for `layers.layer1.linear`."""
    words = layer.removeprefix("layers.").split(".")
    state = words[-1].partition(" ")[2]
    return f"{words[0].partition(' ')[0]} {state}".strip()


def _median(values: Array) -> Array:
    """Return the median of the finite values over the epochs, (…); NaN if there are none."""
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1).T
    known = [column[np.isfinite(column)] for column in columns]
    found = np.array([np.median(one) if len(one) else math.nan for one in known])
    return found.reshape(values.shape[1:])


def _round_up(value: float) -> float:
    """Return the smallest number with one significant digit that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return math.ceil(value / power) * power


# ── the diagnosis ─────────────────────────────────────────────────────────────────────────────

HEALTHY = "healthy"
MOST_LINES = 2

#: Function of each verdict by name, the worst first.
RULES: Mapping[str, Callable[[Evidence], Verdict | None]] = {
    rule.__name__: rule
    for rule in (
        exploding_gradient,
        vanishing_gradient,
        dead_relu,
        saturated,
        lr_too_high,
        clipping_always,
        lr_too_low,
        tested.leakage,
        tested.overlap,
        tested.class_collapse,
        tested.no_better_than_naive,
        fit.overfitting,
        fit.too_few_steps,
        fit.stopped_early,
        fit.underfitting,
        tested.no_better_than_linear,
        tested.noisy_metrics,
        clipping_never,
    )
}

_NO_BETTER = {"no_better_than_naive", "no_better_than_linear"}
_STOPPED = {"too_few_steps", "stopped_early"}
_LITTLE_LEARNED = _NO_BETTER | _STOPPED | {"class_collapse", "underfitting", "noisy_metrics"}
#: Symptoms of each cause: a cause is reported without the verdicts that it explains.
_SYMPTOMS: Mapping[str, Set[str]] = {
    "exploding_gradient": RULES.keys() - {"exploding_gradient", "saturated", "leakage"},
    "vanishing_gradient": _LITTLE_LEARNED | {"lr_too_low", "lr_too_high"},
    "dead_relu": _LITTLE_LEARNED | {"lr_too_low"},
    "saturated": _LITTLE_LEARNED | {"vanishing_gradient", "lr_too_low"},
    "lr_too_high": _LITTLE_LEARNED | {"clipping_always", "overfitting"},
    "clipping_always": _LITTLE_LEARNED | {"lr_too_low"},
    "lr_too_low": _LITTLE_LEARNED,
    "leakage": {"no_better_than_linear"},
    # A network that fits its training rows too well has living units enough.
    "overfitting": {"dead_relu"},
    "class_collapse": _NO_BETTER | {"noisy_metrics"},
    "no_better_than_naive": {"no_better_than_linear", "noisy_metrics"},
    "stopped_early": _NO_BETTER | {"underfitting", "too_few_steps"},
    "too_few_steps": _NO_BETTER | {"underfitting"},
    "underfitting": _NO_BETTER,
}

_OF_WHAT_IS_LEARNED = (_LITTLE_LEARNED | {"overfitting"}) - {"noisy_metrics"}
#: Verdicts on other rows than those of the training, which a run that only memorizes has not
#: learned to predict.
_OF_OTHER_ROWS = _NO_BETTER | {"class_collapse", "overfitting", "noisy_metrics"}
_SHUFFLED = (
    "the training labels are shuffled (data.shuffle_labels), so only memorization is possible"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a run.

    Args:
        name: Name of the run.
        verdicts: The worst first; empty = nothing was found.
    """

    name: str
    verdicts: Sequence[Verdict]

    @property
    def names(self) -> str:
        """Names of the verdicts, or `healthy`."""
        return ", ".join(verdict.name for verdict in self.verdicts) or HEALTHY

    def lines(self) -> list[str]:
        """Return the verdicts in one or two lines for a terminal."""
        if not self.verdicts:
            return [f"doctor  {HEALTHY}"]
        shown = [f"doctor  {verdict.line}" for verdict in self.verdicts[:MOST_LINES]]
        rest = [verdict.title for verdict in self.verdicts[MOST_LINES:]]
        if rest:
            shown[-1] += f" (also {', '.join(rest)}: see doctor.md)"
        return shown

    def markdown(self) -> str:
        """Return a page with the evidence of each verdict and everything that would help."""
        if not self.verdicts:
            return "# Diagnosis\n\nHealthy: no problem was found.\n"
        lines = ["# Diagnosis", ""]
        for one in self.verdicts:
            evidence = f"{one.evidence[0].upper()}{one.evidence[1:]}."
            lines += [f"## {one.title.capitalize()}", "", evidence, "", "What would help:", ""]
            lines += [f"- `{cure}`" for cure in one.typed]
            lines += [f"- {one.advice}", ""] if one.advice else [""]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values."""
        verdicts = [verdict.to_dict() for verdict in self.verdicts]
        return {"run": self.name, "names": self.names, "verdicts": verdicts}


def diagnose(findings: Findings) -> Diagnosis:
    """Return the verdicts on a finished or diverged run; rules without evidence give none."""
    run = Evidence(findings)
    found = {name: verdict for name, rule in RULES.items() if (verdict := rule(run))}
    if run.is_memorizing:
        found = {name: verdict for name, verdict in found.items() if name not in _OF_OTHER_ROWS}
    symptoms = {name for cause in found for name in _SYMPTOMS.get(cause, ())}
    is_shuffled = run.setting("data.shuffle_labels") is not None
    told = []
    for name, verdict in found.items():
        if name in symptoms:
            continue
        cures, advice = run.applicable(verdict.cures), verdict.advice
        if is_shuffled and name in _OF_WHAT_IS_LEARNED:  # nothing that holds for other rows
            cures, advice = (), _SHUFFLED
        told.append(replace(verdict, name=name, cures=cures, advice=advice))
    return Diagnosis(findings.name, tuple(told))
