"""A layer's gradient is tiny compared with the output layer's, or all gradients are tiny."""

from itertools import pairwise

import numpy as np

from pipeline.base.terminal import significant
from pipeline.doctor.layers import median_over_epochs, short_name
from pipeline.doctor.rule import Evidence, Rule, Verdict

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


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if a layer's weights hardly move, or nothing is learned.

    An optimizer that rescales gradients still moves a layer with a tiny gradient; then it is a
    fault only if nothing is learned.
    """
    vitals = run.vitals
    # Batch norm undoes whatever a single input is multiplied by, which then needs no gradient.
    has_one_input = run.findings.kind == "table" and len(run.findings.features) == 1
    is_undone = has_one_input and run.setting("model.norm") == "batch"
    if len(vitals.layers) < 2 + is_undone:
        return None
    layers = slice(int(is_undone), -1)
    with np.errstate(all="ignore"):
        at_first = vitals.first[layers] / vitals.first[-1]
        shares = median_over_epochs(vitals.gradients[:, layers] / vitals.gradients[:, -1:])
        moves = median_over_epochs(vitals.updates[:, layers] / vitals.updates[:, -1:])
    if not np.isfinite(at_first).any():
        return None
    layer = int(np.nanargmin(at_first if np.isnan(shares).all() else shares))
    share = float(shares[layer])
    move = float(moves[layer])
    norm = float(np.linalg.norm(vitals.first))
    # An effect of depth is there at the first step; weights that decay to zero take longer.
    by_depth = at_first[layer] <= VANISHED_AT_FIRST and 0 < share <= VANISHED
    is_sick = by_depth and move < STILL
    if not is_sick and not ((by_depth or norm <= NO_GRADIENT) and run.is_unlearned):
        return None
    name = short_name(vitals.layers[layers][layer])
    effect = "it barely learns" if move < STILL else "the network learns nothing"
    return Verdict(
        evidence=f"{name} gets {significant(share, 1)} of the output layer's gradient, so {effect}"
        if by_depth
        else f"the gradient norm over all layers is only {significant(norm, 1)} at the first step",
        numbers={"gradient": share, "update": move, "first": norm},
        cures=_cures(run),
        advice="use fewer layers",
    )


def _cures(run: Evidence) -> tuple[str, ...]:
    saturates = run.setting("model.activation") in ("sigmoid", "tanh", "softplus")
    widths = run.setting("model.hidden")
    can_skip = isinstance(widths, list) and any(width == after for width, after in pairwise(widths))
    return (
        "model.init=default" if run.setting("model.init") == "normal" else "",
        run.with_norm,
        "model.activation=relu" if saturates else "",
        "model.init=default",
        "model.gain=null",
        "model.skip=true" if can_skip else "",
    )


RULE = Rule(
    rank=20,
    find=find,
    needs=("vitals",),
    explains_little_learning=True,
    hides=("lr_too_low", "lr_too_high"),
    glossary="the gradient shrinks to almost nothing on its way through the layers",
    chinese="梯度消失",
    page="""\
A layer's gradient is at most a thousandth of the output layer's from the first step on, *and* its
weights move accordingly less, or nothing is learned. Small gradients alone are harmless: Adam
rescales them, and a healthy ReLU network with torch's initialization has 3 to 5 % in its first
layer. The example is at the top of this page.
""",
)
