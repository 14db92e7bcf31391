"""Gradients that are far too large from the first step, or grow until the loss diverges."""

import math

import numpy as np

from pipeline.base.terminal import significant
from pipeline.doctor.layers import median_over_epochs, short_name
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Norm of all gradients that counts as exploded; well scaled networks start at the order of 1.
EXPLODED = 100.0
#: Largest norm of a step as a multiple of the usual norm; it counts if nothing was learned.
SPIKE = 100.0
#: Update / weight from which the learning rate alone explains a divergence: a step replaces half
#: of the weight at once.
LEAPING = 0.5


def find(run: Evidence) -> Verdict | None:
    """Return the verdict if the norm explodes, and a long step alone does not explain it."""
    vitals = run.vitals
    first = float(np.linalg.norm(vitals.first))
    norms = np.linalg.norm(vitals.gradients, axis=1)
    recorded = np.concatenate([run.curve("grad/norm_max"), norms])
    largest = max(first, float(recorded[np.isfinite(recorded)].max(initial=0.0)))
    update = float(np.nanmax(vitals.updates[-1], initial=0.0))
    usual = float(median_over_epochs(norms))
    if run.diverged:
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
        evidence=_sentence(run, first=first, largest=largest),
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


def _sentence(run: Evidence, *, first: float, largest: float) -> str:
    if not math.isfinite(first):
        return "the loss or its gradients are NaN or infinite from the first step"
    vitals = run.vitals
    diverged = run.diverged
    end = f", NaN or infinite in epoch {int(vitals.epochs[-1])}" if diverged else ""
    layer = short_name(vitals.layers[int(np.nan_to_num(vitals.gradients[-1]).argmax())])
    later = f", {significant(largest)} later" if largest > first else ""
    return f"gradient norm {significant(first)} at the first step{later}{end}; largest in {layer}"


RULE = Rule(
    rank=10,
    find=find,
    needs=("vitals",),
    explains_little_learning=True,
    hides=(
        "vanishing_gradient",
        "dead_relu",
        "lr_too_high",
        "clipping_always",
        "lr_too_low",
        "overlap",
        "overfitting",
        "clipping_never",
    ),
    glossary="the gradient grows on its way through the layers, or from step to step",
    chinese="梯度爆炸",
    page="""\
The gradient norm is extremely large from the first step on, or the loss is NaN soon after a step of
normal length. Example: a ReLU RNN whose matrix makes every state 1.6 times as long:

    pipeline train model=rnn data=mnist1d data.scale=standard model.activation=relu \\
      model.init=orthogonal model.gain=1.6 model.hidden=100 model.readout=last optimizer=sgd \\
      optimizer.momentum=0.0 optimizer.lr=0.1 scheduler=none trainer.gradient_clip_val=null \\
      trainer.max_epochs=3

> doctor  exploding gradient: gradient norm 8,400 at the first step, NaN or infinite in epoch 1; \
largest in layer1 (state); try model.gain=null or trainer.gradient_clip_val=1.0

With `trainer.gradient_clip_val=1.0` it trains: after these three epochs the verdict is
`stopped_early`. In the next example the initial weights are six times too large, and batch norm
helps:

    pipeline train model=mlp data=mnist1d 'model.hidden=[64,64,64,64,64,64,64,64]' \\
      model.init=torch model.gain=6 model.norm=none optimizer=sgd optimizer.momentum=0.0 \\
      optimizer.lr=0.1 scheduler=none data.batch_size=100 trainer.gradient_clip_val=null \\
      trainer.max_epochs=6

> doctor  exploding gradient: gradient norm 16,000 at the first step, 1.1e16 later, NaN or \
infinite in epoch 1; largest in layer6; try model.gain=null or trainer.gradient_clip_val=1.0

With `model.norm=batch` only `stopped_early` remains (six epochs).
""",
)
