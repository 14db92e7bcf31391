"""The test of the weights that a run keeps, beside the baselines, and the tables of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.baselines import Baseline
from pipeline.metrics import ClassScores
from pipeline.running import artifacts
from pipeline.running.batches import evaluated_batches
from pipeline.running.plan import Plan
from pipeline.running.results import TestPart, baseline_metrics, scores_by_class
from pipeline.running.scoring import scores_of
from pipeline.serving.decision import Decision

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from pipeline.modules.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What a test came to.

    Args:
        part: Outputs on the test rows, and the baselines'.
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …
        classes: Counts and scores of each class; empty for a regression.
        threshold: What decides in a binary task.
    """

    part: TestPart
    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    threshold: float

    def write(self, folder: Path, plan: Plan) -> None:
        """Write the predictions and the classes as tables."""
        schema = plan.prepared.schema
        artifacts.write_predictions(folder, self.part, schema, threshold=self.threshold)
        if self.classes:
            artifacts.write_classes(folder, self.classes)


def tested(plan: Plan, task: Task, trainer: Trainer, decision: Decision) -> Tested:
    """Test the weights that the task holds now on the test rows, once.

    Args:
        plan: The run.
        task: Its network.
        trainer: Runs the test.
        decision: What the validation rows have said; the linear baseline, which nobody has asked
            them about, keeps the threshold of training.
    """
    options, schema = plan.options.metrics, plan.prepared.schema
    task.scores = scores_of(options, schema, threshold=decision.threshold)
    trainer.test(task, evaluated_batches(plan, plan.prepared.test), verbose=False)
    assert task.test_outputs is not None
    outputs, targets = task.test_outputs
    groups = plan.prepared.test.groups
    part = TestPart(
        rows=plan.prepared.test.rows[: len(targets)].tolist(),
        outputs=outputs,
        targets=targets,
        baselines=_baselines(plan, len(targets)),
        groups=None if groups is None else groups[: len(targets)],
    )
    logged = trainer.callback_metrics.items()
    values = {key: float(value) for key, value in logged if key.startswith("test/")}
    naive = scores_of(options, schema, threshold=0.5)
    linear = scores_of(options, schema, threshold=options.first_threshold)
    return Tested(
        part=part,
        metrics=values | baseline_metrics(part, naive=naive, linear=linear),
        classes=scores_by_class(part, schema, threshold=decision.threshold),
        threshold=decision.threshold,
    )


def _baselines(plan: Plan, rows: int) -> tuple[Baseline, ...]:
    # Where trainer.limit_test_batches cuts the test short, all are scored on the same rows.
    return tuple(
        Baseline(name=one.name, outputs=one.outputs[:rows])
        for one in plan.occasion.datasets.baselines(plan.prepared)
    )
