"""Units that give zero for every training row."""

from pipeline.doctor.layers import short_name
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Share of a layer's units that are always zero. Healthy wide layers have up to a third.
DEAD = 0.5
#: Update / weight of the fastest layer at which a step replaces the layer's weights: only a lower
#: learning rate helps.
REPLACED = 1.0


def find(run: Evidence) -> Verdict | None:
    """Return the verdict on the layer with the largest share of dead units."""
    worst = max(run.findings.activity, key=lambda activity: activity.dead)
    if worst.dead < DEAD:
        return None
    count = round(worst.dead * worst.units)
    is_table = run.findings.kind == "table"  # its columns have units of their own
    alternatives = ("model.activation=leaky_relu", run.with_norm, "model.init=default")
    return Verdict(
        evidence=f"{count} of {worst.units} units in {short_name(worst.layer)} are zero for every "
        "training row",
        numbers={"dead": worst.dead, "units": worst.units},
        cures=(
            run.standard_scale if is_table and run.setting("data.scale") == "none" else "",
            run.lower_learning_rate,
            *(alternatives if run.largest_update < REPLACED else ()),
            run.standard_scale,
        ),
    )


RULE = Rule(
    rank=30,
    find=find,
    needs=("activity",),
    explains_little_learning=True,
    hides=("lr_too_low",),
    glossary="units that give zero for every row and no longer learn",
    chinese="死掉的 ReLU",
    page="""\
At least half of a layer's ReLU units are zero for every training row, so they receive no gradient.

    pipeline train model=mlp data=digits model.norm=none model.init=torch optimizer=sgd \\
      optimizer.lr=1.0 scheduler=none trainer.gradient_clip_val=null trainer.max_epochs=10

> doctor  dead relu: 63 of 64 units in layer3 are zero for every training row; try \
optimizer.lr=0.04 or model.activation=leaky_relu
> doctor  lr too high: a step changes the weights of a layer by up to 23 %, and the training loss \
ends at 2.39 (best 2.37); try optimizer.lr=0.04 or trainer.gradient_clip_val=1.0

With `optimizer.lr=0.05`: `healthy`.
""",
)
