"""A threshold that cuts nearly all steps to a fraction, like a smaller learning rate."""

import math

import numpy as np

from pipeline.base.terminal import significant
from pipeline.doctor.layers import median_over_epochs
from pipeline.doctor.rule import Evidence, Rule, Verdict
from pipeline.doctor.rules.exploding_gradient import EXPLODED
from pipeline.doctor.rules.lr_too_low import TOO_SHORT

#: Smallest share of clipped steps in any epoch.
CLIPPED_ALWAYS = 0.95
#: Share of the gradient norm that clipping leaves, in the median epoch: the threshold then acts
#: as another learning rate. Clipping to a third is common.
CLIPPED_TO = 0.1


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if clipping neither contains an explosion nor is undone by Adam."""
    share = run.curve("grad/clipped")
    before = run.curve("grad/norm")
    if run.findings.clipping.threshold is None or len(share) < 2 or not len(before):
        return None  # a single epoch shows the first weights
    with np.errstate(all="ignore"):
        share_left = float(median_over_epochs(run.curve("grad/norm_clipped") / before))
    if share.min() < CLIPPED_ALWAYS or not share_left <= CLIPPED_TO:
        return None
    if run.curve("grad/norm_max").max(initial=0.0) >= EXPLODED:
        return None  # clipping contains an explosion, which is its purpose
    if run.optimizer != "SGD" and run.largest_update < TOO_SHORT:
        return None  # the optimizer rescales what is left, so the rate is too low
    norm = float(median_over_epochs(before))
    return Verdict(
        evidence=(
            f"{math.floor(100 * share.mean())} % of steps are clipped, to "
            f"{significant(100 * share_left, 1)} % of the gradient "
            f"(median norm {significant(norm)})"
        ),
        numbers={"share": float(share.min()), "left": share_left, "norm": norm},
        cures=(
            run.clip_at(2 * norm),
            "trainer.gradient_clip_val=1.0" if norm < 1 else "",
            run.standard_scale,
            "trainer.gradient_clip_val=null",
        ),
    )


RULE = Rule(
    rank=60,
    find=find,
    needs=("history",),
    explains_little_learning=True,
    hides=("lr_too_low",),
    glossary="nearly every step is clipped",
    chinese="几乎每步都裁剪",
    page="""\
At least 95 % of the steps of each of several epochs are clipped, to a tenth of the gradient or
less: the threshold acts as a learning rate.

    pipeline train model=lstm data=synthetic_control model.init=torch optimizer=sgd \\
      optimizer.momentum=0.0 optimizer.lr=1.0 scheduler=none trainer.gradient_clip_val=1e-6 \\
      trainer.gradient_clip_algorithm=value trainer.max_epochs=40

> doctor  clipping always: 100 % of steps are clipped, to 0.05 % of the gradient (median norm \
0.21); try trainer.gradient_clip_val=0.5 or trainer.gradient_clip_val=1.0

With either: `healthy`.
""",
)
