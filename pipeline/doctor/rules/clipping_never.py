"""A threshold that the user chose, and that no gradient comes near."""

from pipeline.base.terminal import significant
from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Largest norm of the run, as a share of a chosen threshold that has no effect.
CLIPPED_NEVER = 0.1


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the threshold and the largest gradient norm."""
    clipping = run.findings.clipping
    norms = run.curve("grad/norm_max")
    if clipping.threshold is None or not clipping.chosen or not len(norms):
        return None
    if run.diverged or run.curve("grad/clipped").max() > 0:
        return None
    largest = float(norms.max())
    if not largest / clipping.threshold <= CLIPPED_NEVER:  # NaN if a scaled loss overflowed
        return None
    return Verdict(
        evidence=f"the threshold {clipping.threshold:g} is far above the largest gradient norm, "
        f"{significant(largest)}",
        numbers={"largest": largest, "threshold": clipping.threshold},
        cures=(
            "trainer.gradient_clip_val=1.0" if largest > 1 else run.clip_at(largest / 2),
            "trainer.gradient_clip_val=null",
        ),
    )


RULE = Rule(
    rank=180,
    find=find,
    needs=("history",),
    glossary="the clipping threshold is never reached",
    chinese="从不裁剪",
    page="""\
A threshold that the user set is at least ten times the largest gradient. The default threshold is
not reported.

    pipeline train model=mlp data=digits model.norm=none model.init=torch optimizer.lr=0.003 \\
      trainer.gradient_clip_val=1000 trainer.max_epochs=10

> doctor  clipping never: the threshold 1000 is far above the largest gradient norm, 4.5; try \
trainer.gradient_clip_val=1.0 or trainer.gradient_clip_val=null

With `trainer.gradient_clip_val=1.0`: `healthy`.
""",
)
