"""The intervals of a run's test figures, found and written down."""

import json
from dataclasses import asdict
from pathlib import Path

from pipeline.bootstrap import LEVEL, Intervals, intervals, units_of
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.testing import Tested

INTERVALS = "intervals.json"


def intervals_of(plan: Plan, test: Tested) -> Intervals:
    """Return the 95 % intervals of the figures that a test came to."""
    schema = plan.prepared.schema
    horizon = None if schema.window is None else schema.horizon
    return intervals(
        test.part.outputs,
        test.part.targets,
        units=units_of(len(test.part.targets), groups=test.part.groups, horizon=horizon),
        threshold=test.threshold,
        seed=plan.options.seed,
    )


def write_intervals(folder: Path, found: Intervals) -> None:
    """Write them for programs: what was drawn how often, and both ends of each metric."""
    plain = {**asdict(found), "level": LEVEL}
    replace_text(folder / INTERVALS, json.dumps(plain, indent=1) + "\n")
