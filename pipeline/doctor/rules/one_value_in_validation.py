"""Validation rows of one class or with one value, by which no epoch can be judged."""

from pipeline.doctor.evidence import FEWEST_ROWS
from pipeline.doctor.rule import Evidence, Rule, Verdict


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the class of all validation rows."""
    rows = run.findings.rows.get("validation", 0)
    if rows < FEWEST_ROWS:
        return None
    return Verdict(
        evidence=f"all {rows} validation rows have {run.findings.validated}, so that no epoch can "
        "be judged by them",
        numbers={"rows": rows},
        cures=("data.stratify=true", "data.validation=0.4"),
        advice="choose validation rows with all classes or values",
    )


RULE = Rule(
    rank=5,
    find=find,
    needs=("validated",),
    is_on_other_rows=True,
    hides=("overfitting", "stopped_early"),
    glossary="all validation rows have one class or value",
    chinese="验证集只有一个类别",
    page="""\
All validation rows have one class, or one value to predict: the best epoch, an early stop and a
threshold would be chosen by nothing. This comes before all other verdicts. Here the rows are sorted
by their days, and one class occurred on none of the days of the validation rows:

    pipeline train model=mlp data=table data.path=quiet_days.csv data.time=day \\
      'model.hidden=[16]' trainer.max_epochs=20

> doctor  one value in validation: all 150 validation rows have class 'kind 0', so that no epoch \
can be judged by them; try data.validation=0.4

With `data.validation=0.4`: `healthy`.
""",
)
