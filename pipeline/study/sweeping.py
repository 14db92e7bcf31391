"""A whole sweep: the study, and the studies that belong to it."""

from pipeline.study.conclude import conclude
from pipeline.study.conduct import conducted
from pipeline.study.floor import open_floor
from pipeline.study.plan import StudyPlan


def sweep(plan: StudyPlan) -> None:
    """Start a study, go on with it, or join it, until it has its trials; then tell its end."""
    with open_floor(plan) as floor, conducted(plan, floor) as done:
        conclude(done, floor.workshop)
