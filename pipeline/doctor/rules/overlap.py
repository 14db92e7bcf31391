"""Test rows with the inputs of training rows, so that the test rewards memorization."""

from pipeline.doctor.rule import Evidence, Rule, Verdict

#: Share of the test rows whose inputs are also in the training part.
OVERLAP = 0.1


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the number of such rows."""
    findings = run.findings
    rows = findings.rows.get("test", 0)
    for verb, count in (("have", findings.repeated or 0), ("nearly have", findings.near_copies)):
        if rows and count >= OVERLAP * rows:
            return Verdict(
                evidence=f"{count} of {rows} test rows {verb} the inputs of a training row, so "
                "their results are optimistic",
                numbers={"repeated": count, "rows": rows},
                advice="remove duplicates, or keep them in one part with data.group=COLUMN",
            )
    return None


RULE = Rule(
    rank=90,
    find=find,
    glossary="test rows with the inputs of training rows",
    chinese="测试行与训练行重复",
    page="""\
A tenth of the test rows or more have the inputs of a training row, or nearly: in three columns or
more whose numbers mostly differ, another row is twenty times nearer than the tenth nearest one. So
the test rewards memorization. Rows of few columns with few values are equal by chance, which is no
fault: there is no verdict where rows with independently drawn cells of each column often repeat a
training row, too. Here each of 200 rows with a random label occurs five times:

    pipeline train model=mlp data=table data.path=copies.csv data.id=row model.norm=none \\
      'model.hidden=[64,64]' trainer.max_epochs=60

> doctor  overlap: 244 of 250 test rows have the inputs of a training row, so their results are \
optimistic; remove duplicates, or keep them in one part with data.group=COLUMN

With `data.group=row` in place of `data.id=row`, the copies of a row stay in one part, and the
accuracy falls to 50 %.
""",
)
