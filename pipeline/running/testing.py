"""Tests the kept weights: the threshold on validation rows, the figures on test rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from pipeline.baselines import Baseline
from pipeline.bootstrap import LEVEL, Intervals, intervals, units_of
from pipeline.data.content import Part
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.metrics import ClassScores, class_scores, confusion, find_threshold, predicted_classes
from pipeline.modules.task import Task
from pipeline.networks.inspection import probabilities
from pipeline.paths import replace_json
from pipeline.running.plan import Plan
from pipeline.running.scoring import scores_of
from pipeline.running.trainer import build_trainer, evaluated_batches
from pipeline.serving.model import Decision, Interval, conformal, rows_at_once
from pipeline.serving.sheets import cell, write_csv
from pipeline.terminal import number


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """Outputs and figures of a test.

    Args:
        rows: Numbers of the rows in the source, (rows,).
        outputs: Probabilities (rows,) or (rows, classes), or values (rows, outputs) in units.
        targets: Classes (rows,), or values (rows, outputs) in units.
        predictions: The baselines' for the same rows: the naive, then the linear.
        groups: Number of the group that each row belongs to, (rows,); `None` = there are none.
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …
        classes: Counts and scores of each class; empty for a regression.
        threshold: Probability above which a row of a binary task counts as positive.
        intervals: 95 % intervals of the metrics; `None` = they were not computed.
    """

    rows: Indices
    outputs: Tensor
    targets: Tensor
    predictions: tuple[Baseline, ...]
    groups: Indices | None
    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    threshold: float
    intervals: Intervals | None = None

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the naive and the linear baseline."""
        return tuple(baseline.name for baseline in self.predictions)

    def write(self, folder: Path, schema: Schema) -> None:
        """Write predictions, classes and intervals as files.

        Args:
            folder: Takes them.
            schema: The meaning of outputs and targets.
        """
        is_regression = schema.task == "regression"
        table = self._values(schema) if is_regression else self._probabilities(schema)
        write_csv(folder / "test_predictions.csv", *table)
        if self.classes:
            header = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "f1", "support"]
            lines = [
                [cell(one.name), *one.counts, one.precision, one.recall, one.f1, one.support]
                for one in self.classes
            ]
            write_csv(folder / "classes.csv", header, lines)
        if self.intervals is not None:
            plain = {**asdict(self.intervals), "level": LEVEL}
            replace_json(folder / "intervals.json", plain)

    def _probabilities(self, schema: Schema) -> tuple[list[str], list[list[Any]]]:
        """Return a line a row: its number, the true class, the prediction, the probabilities."""
        names = [cell(name) for name in schema.classes]
        predicted = predicted_classes(self.outputs, threshold=self.threshold).tolist()
        shown = [schema.positive or ""] if self.outputs.ndim == 1 else list(schema.classes)
        header = ["row", "target", "predicted", *(f"probability of {name}" for name in shown)]
        given = self.outputs.reshape(len(self.targets), -1).tolist()
        columns = zip(self.rows.tolist(), self.targets.tolist(), predicted, given, strict=True)
        lines = [
            [row, names[truth], names[guess], *values] for row, truth, guess, values in columns
        ]
        return header, lines

    def _values(self, schema: Schema) -> tuple[list[str], list[list[Any]]]:
        """Return a line a row: its number, the true values, the predicted ones."""
        suffixes = [""] if schema.outputs == 1 else [f" {n + 1}" for n in range(schema.outputs)]
        header = ["row", *(f"target{s}" for s in suffixes), *(f"predicted{s}" for s in suffixes)]
        columns = zip(self.rows.tolist(), self.targets.tolist(), self.outputs.tolist(), strict=True)
        return header, [[row, *truth, *guess] for row, truth, guess in columns]


def tested(plan: Plan, task: Task, trainer: Trainer, decision: Decision) -> ScoredTest:
    """Test the weights that the task holds now on the test rows, once.

    Args:
        plan: The run.
        task: Its network.
        trainer: Runs the test.
        decision: Found on the validation rows. The linear baseline, which has no such rows, keeps
            the threshold of training; the naive one has 0.5, which turns the shares of the classes
            into the most frequent one.
    """
    options, schema, part = plan.options.metrics, plan.prepared.schema, plan.prepared.test
    task.scores = scores_of(options, schema, threshold=decision.threshold)
    trainer.test(task, evaluated_batches(plan, part), verbose=False)
    assert task.test_outputs is not None
    outputs, targets = task.test_outputs
    rows = len(targets)  # fewer than the part has, where trainer.limit_test_batches says so
    logged = trainer.callback_metrics.items()
    values = {key: float(value) for key, value in logged if key.startswith("test/")}
    baselines = [
        Baseline(name=one.name, outputs=one.outputs[:rows])
        for one in plan.occasion.datasets.baselines(plan.prepared)
    ]
    thresholds = {"naive": 0.5, "linear": options.first_threshold}
    for (kind, threshold), baseline in zip(thresholds.items(), baselines, strict=False):
        scores = scores_of(options, schema, threshold=threshold)
        scored = scores(baseline.outputs, targets)
        values |= {f"{kind}/{key}": float(value) for key, value in scored.items()}
    classes: list[ClassScores] = []
    if schema.task != "regression":
        predicted = predicted_classes(outputs, threshold=decision.threshold)
        matrix = confusion(predicted, targets, classes=len(schema.classes))
        classes = class_scores(matrix, schema.classes)
    return ScoredTest(
        rows=part.rows[:rows],
        outputs=outputs,
        targets=targets,
        predictions=tuple(baselines),
        groups=None if part.groups is None else part.groups[:rows],
        metrics=values,
        classes=tuple(classes),
        threshold=decision.threshold,
    )


def tested_again(plan: Plan, task: Task, decision: Decision) -> ScoredTest:
    """Test weights that were trained before, as their training tests them: equal bits.

    Args:
        plan: The run.
        task: Holds the weights.
        decision: What turns outputs into answers.
    """
    return tested(plan, task, build_trainer(plan), decision)


def with_intervals(plan: Plan, test: ScoredTest) -> ScoredTest:
    """Return a test with the 95 % intervals of its metrics."""
    schema = plan.prepared.schema
    horizon = None if schema.window is None else schema.horizon
    found = intervals(
        test.outputs,
        test.targets,
        units=units_of(len(test.targets), groups=test.groups, horizon=horizon),
        threshold=test.threshold,
        seed=plan.options.seed,
    )
    return replace(test, intervals=found)


# ── the decision ────────────────────────────────────────────────────────────────────────────


def decide(plan: Plan, network: nn.Module) -> Decision:
    """Find on the validation rows what turns the outputs of the kept weights into answers."""
    options, part = plan.options.metrics, plan.prepared.validation
    if (rule := options.rule) is not None:
        assert part is not None, "a rule without validation rows was refused"
        found = find_threshold(
            rule, probabilities(outputs_of(network, part.blocks())), part.targets
        )
        words = f"{rule} on {found.rows} validation rows: {found.metric} {number(found.reached)}"
        return Decision(threshold=found.threshold, rule=rule, found=words)
    threshold = options.first_threshold
    has_intervals = plan.prepared.schema.task == "regression" and not plan.occasion.lean
    ends = () if part is None or not has_intervals else _intervals(plan, network, part)
    return Decision(threshold=threshold, rule=str(threshold), intervals=ends)


def _intervals(plan: Plan, network: nn.Module, part: Part) -> tuple[Interval, ...]:
    """Return the interval of truth - prediction, in units, for each output."""
    to_units = plan.prepared.schema.to_units
    outputs = outputs_of(network, part.blocks())
    targets = part.targets.to(outputs.device)
    residuals = (to_units(targets, None) - to_units(outputs, None)).double().cpu().numpy()
    schema, outputs_each = plan.prepared.schema, residuals.shape[1]
    # As how many independent residuals the rows count, for each output.
    if schema.window is None:
        counts = [units_of(len(part), groups=part.groups).effective] * outputs_each
    else:  # forecasts of the step k that begin less than k steps apart share errors
        counts = [len(part) / (1 + n // len(schema.targets)) for n in range(outputs_each)]
    found = [conformal(one, count) for one, count in zip(residuals.T, counts, strict=True)]
    ends = tuple(one for one in found if one is not None)
    return ends if len(ends) == len(found) else ()


@torch.inference_mode()
def outputs_of(network: nn.Module, blocks: Iterable[Tensor]) -> Tensor:
    """Return a network's raw outputs for the rows of some blocks, float32 (rows, outputs)."""
    like = next(network.parameters(), torch.empty(0))  # device and precision
    was_training = network.training
    network.eval()
    try:
        pieces = (
            piece
            for block in blocks
            for piece in torch.split(block, rows_at_once(tuple(block.shape[1:])))
        )
        return torch.cat([network(piece.to(like)).float() for piece in pieces])
    finally:
        network.train(was_training)
