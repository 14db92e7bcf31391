"""The test of the weights that a run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Trainer

from pipeline.base.findings import TestRows
from pipeline.base.paths import replace_json
from pipeline.config.options import RunConfig
from pipeline.data.preparation.schema import Schema
from pipeline.modules.task import Task
from pipeline.running.plan import Plan
from pipeline.running.scoring import more_metrics, scores_of
from pipeline.running.trainer import build_trainer, evaluated_batches
from pipeline.scoring.baseline_comparison import compared_with_baselines
from pipeline.scoring.baselines import all_baselines
from pipeline.scoring.bootstrap import LEVEL, Intervals, intervals, units_of
from pipeline.scoring.scores import ClassScores, class_scores, measured_words
from pipeline.serving.files import cell, write_csv
from pipeline.serving.model import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """Predictions and metrics of a test.

    Args:
        rows: Targets and predictions of the test rows.
        baselines: What each baseline is, by name: `majority class`; or why it was not fitted.
        metrics: Values by name: `test/f1`, `naive/f1`, `linear/f1`, …
        classes: Counts and scores of each class; empty for a regression.
        threshold: Probability above which a row of a binary task counts as positive.
        intervals: 95 % intervals of the metrics; `None` = they were not computed.
        comparison: Whether the network or the best baseline is better, in a sentence; empty = not
            computed.
    """

    rows: TestRows
    baselines: Mapping[str, str]
    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    threshold: float
    intervals: Intervals | None = None
    comparison: str = ""

    def words(self, schema: Schema) -> str:
        """Return the number of rows, and what the metrics are of: a class, a mean or a unit."""
        units = self.intervals.units if self.intervals else f"{len(self.rows.targets):,} rows"
        return f"{units}, {measured_words(schema.task, schema.classes, schema.units, self.classes)}"

    def write(self, folder: Path, schema: Schema) -> None:
        """Write predictions, class scores and intervals as files into a folder."""
        write_csv(folder / "test_predictions.csv", *self._table(schema))
        if self.classes:
            header = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "f1", "support"]
            lines = []
            for scores in self.classes:
                shares = (scores.precision, scores.recall, scores.f1)
                lines.append([cell(scores.name), *scores.counts, *shares, scores.support])
            write_csv(folder / "classes.csv", header, lines)
        if self.intervals is not None:
            plain = {**asdict(self.intervals), "level": LEVEL}
            replace_json(folder / "intervals.json", plain)

    def _table(self, schema: Schema) -> tuple[list[str], list[list[Any]]]:
        """Return a header and one line per row: number, target, prediction and probabilities."""
        test = self.rows
        rows = test.rows.tolist()
        targets = test.targets.tolist()
        outputs = test.outputs.reshape(len(targets), -1).tolist()
        lines: list[list[Any]] = []
        if schema.task == "regression":
            suffixes = [""]
            if schema.outputs > 1:
                suffixes = [f" {output + 1}" for output in range(schema.outputs)]
            header = ["row"]
            for head in ("target", "predicted"):
                header += [f"{head}{suffix}" for suffix in suffixes]
            for row, target, output in zip(rows, targets, outputs, strict=True):
                lines.append([row, *target, *output])
            return header, lines
        names = [cell(name) for name in schema.classes]
        scored = [schema.positive or ""] if test.outputs.ndim == 1 else schema.classes
        header = ["row", "target", "predicted"]
        header += [f"probability of {name}" for name in scored]
        predictions = test.called(self.threshold).tolist()
        for row, target, predicted, shares in zip(rows, targets, predictions, outputs, strict=True):
            lines.append([row, names[target], names[predicted], *shares])
        return header, lines


def scored_test(plan: Plan, task: Task, decision: Decision, trainer: Trainer | None) -> ScoredTest:
    """Test the current weights of the task once on the test rows.

    `decision` holds the threshold found on the validation rows. Fitted baselines, which have no
    validation rows, keep the threshold of the training; the naive one uses 0.5, which gives the
    most frequent class. If `trainer` is `None`, a new Trainer runs the test; results are equal.
    """
    options = plan.options
    schema = plan.prepared.schema
    part = plan.prepared.test
    trainer = trainer or build_trainer(plan)
    task.scores = scores_of(options, schema, threshold=decision.threshold)
    trainer.test(task, evaluated_batches(plan, part), verbose=False)
    assert task.test_outputs is not None
    outputs, targets = task.test_outputs
    rows = len(targets)  # trainer.limit_test_batches may leave fewer rows than the part has
    values = {}
    for key, value in trainer.callback_metrics.items():
        if key.startswith("test/"):
            values[key] = float(value)
    baselines = plan.context.datasets.baselines(plan.prepared, options)
    predictions = {}
    for name, prediction in baselines.items():
        if prediction.outputs is None:
            continue
        predicted = prediction.outputs[:rows]
        threshold = baseline_threshold(name, options)
        scores = scores_of(options, schema, threshold=threshold)(predicted, targets)
        values |= {f"{name}/{key}": float(value) for key, value in scores.items()}
        predictions[name] = predicted.numpy()
    test_rows = TestRows(
        rows=np.asarray(part.rows[:rows], dtype=np.int64),
        targets=(targets if part.actual is None else part.actual[:rows]).numpy(),
        outputs=outputs.numpy(),
        groups=None if part.groups is None else part.groups[:rows],
        baselines=predictions,
    )
    classes: tuple[ClassScores, ...] = ()
    if schema.task != "regression":
        predicted_classes = test_rows.called(decision.threshold)
        classes = class_scores(predicted_classes, test_rows.targets, schema.classes)
    return ScoredTest(
        rows=test_rows,
        baselines={name: prediction.words for name, prediction in baselines.items()},
        metrics=values,
        classes=classes,
        threshold=decision.threshold,
    )


def baseline_threshold(name: str, options: RunConfig) -> float:
    """Return the probability above which a baseline calls a row positive."""
    return options.metrics.first_threshold if all_baselines()[name].is_fitted else 0.5


def with_intervals(plan: Plan, test: ScoredTest) -> ScoredTest:
    """Return a test with the 95 % intervals of its metrics, and its comparison with baselines."""
    options = plan.options
    schema = plan.prepared.schema
    horizon = None if schema.window is None else schema.horizon
    rows = test.rows
    units = units_of(len(rows.targets), groups=rows.groups, horizon=horizon, stride=schema.stride)
    metric_intervals = intervals(
        rows.outputs,
        rows.targets,
        units=units,
        threshold=test.threshold,
        seed=options.seed,
        more=more_metrics(options, schema.task),
    )
    comparison = compared_with_baselines(
        rows,
        test.metrics,
        metric=(options.monitor or "").rpartition("/")[2],
        threshold=test.threshold,
        thresholds={name: baseline_threshold(name, options) for name in rows.baselines},
        units=units,
    )
    return replace(test, intervals=metric_intervals, comparison=comparison)
