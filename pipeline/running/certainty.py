"""The intervals of a run's test figures, found and written down."""

import json
from dataclasses import asdict
from pathlib import Path

from pipeline.bootstrap import Intervals, block_of_series, intervals
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.testing import Tested

INTERVALS = "intervals.json"


def intervals_of(plan: Plan, test: Tested) -> Intervals:
    """Return the 95 % intervals of the figures that a test came to."""
    schema, rows = plan.prepared.schema, len(test.part.targets)
    block = 1 if schema.window is None else block_of_series(rows, schema.horizon)
    return intervals(
        test.part.outputs,
        test.part.targets,
        threshold=test.threshold,
        seed=plan.options.seed,
        block=block,
    )


def write_intervals(folder: Path, found: Intervals) -> None:
    """Write them for programs: how the rows were drawn, and both ends of each metric."""
    plain = {**asdict(found), "level": 0.95}
    replace_text(folder / INTERVALS, json.dumps(plain, indent=1) + "\n")
