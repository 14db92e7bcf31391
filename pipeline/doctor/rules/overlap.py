"""Test rows with the inputs of training rows, so that the test rewards memorization."""

from pipeline.doctor.evidence import Evidence
from pipeline.doctor.rule import Rule, Verdict

#: Share of the test rows whose inputs are also in the training part.
OVERLAP = 0.1


def find(run: Evidence) -> Verdict | None:
    """Return the verdict with the number of such rows."""
    repeated = run.findings.repeated or 0
    rows = run.findings.rows.get("test", 0)
    if repeated < OVERLAP * rows:
        return None
    return Verdict(
        evidence=f"{repeated} of {rows} test rows have the inputs of a training row, so their "
        "results are optimistic",
        numbers={"repeated": float(repeated), "rows": float(rows)},
        advice="remove duplicates, or keep them in one part with data.group=COLUMN",
    )


RULE = Rule(name="overlap", rank=90, find=find, needs=("repeated",))
