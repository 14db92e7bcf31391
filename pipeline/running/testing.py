"""What the kept weights come to: the threshold on validation rows, the figures on test rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.baselines import Baseline
from pipeline.bootstrap import LEVEL, Intervals, intervals, units_of
from pipeline.callbacks.checkpoint_io import MemoryIO
from pipeline.data.part import Part
from pipeline.data.schema import Schema
from pipeline.metrics import ClassScores
from pipeline.networks.inspection import probabilities
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.results import TestPart, baseline_metrics, predicted_classes, scores_by_class
from pipeline.running.scoring import scores_of
from pipeline.running.trainer import build_trainer, evaluated_batches
from pipeline.serving.decision import Decision, Interval, conformal
from pipeline.serving.model import rows_at_once
from pipeline.serving.spreadsheets import cell, write_csv
from pipeline.terminal import number
from pipeline.thresholds import find_threshold

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from pipeline.modules.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """What a test came to.

    Args:
        part: Outputs on the test rows, and the baselines'.
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …
        classes: Counts and scores of each class; empty for a regression.
        threshold: What decides in a binary task.
        intervals: 95 % intervals of the metrics; `None` = they were not computed.
    """

    part: TestPart
    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    threshold: float
    intervals: Intervals | None = None

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the naive and the linear baseline."""
        return tuple(baseline.name for baseline in self.part.baselines)

    def write(self, folder: Path, schema: Schema) -> None:
        """Write predictions, classes and intervals as files.

        Args:
            folder: Takes them.
            schema: The meaning of outputs and targets.
        """
        _write_predictions(folder, self.part, schema, threshold=self.threshold)
        if self.classes:
            _write_classes(folder, self.classes)
        if self.intervals is not None:
            plain = {**asdict(self.intervals), "level": LEVEL}
            replace_text(folder / "intervals.json", json.dumps(plain, indent=1) + "\n")


def tested(plan: Plan, task: Task, trainer: Trainer, decision: Decision) -> ScoredTest:
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
    return ScoredTest(
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


def decide(plan: Plan, network: nn.Module) -> Decision:
    """Find what turns the outputs of a network, with the weights that are kept, into answers."""
    options, part = plan.options.metrics, plan.prepared.validation
    if options.rule is not None:
        assert part is not None, "a rule without validation rows was refused"
        return _by_rule(options.rule, network, part)
    threshold = options.first_threshold
    has_intervals = plan.prepared.schema.task == "regression" and not plan.occasion.lean
    intervals = () if part is None or not has_intervals else _intervals(plan, network, part)
    return Decision(threshold=threshold, rule=str(threshold), intervals=intervals)


def _by_rule(rule: str, network: nn.Module, part: Part) -> Decision:
    found = find_threshold(rule, probabilities(outputs_of(network, part.blocks())), part.targets)
    words = f"{rule} on {found.rows} validation rows: {found.metric} {number(found.reached)}"
    return Decision(threshold=found.threshold, rule=rule, found=words)


def _intervals(plan: Plan, network: nn.Module, part: Part) -> tuple[Interval, ...]:
    """Return between which values truth - prediction, in units, lies for each output."""
    to_units = plan.prepared.schema.to_units
    outputs = outputs_of(network, part.blocks())
    targets = part.targets.to(outputs.device)
    residuals = (to_units(targets, None) - to_units(outputs, None)).double().cpu().numpy()
    counts = _independent(plan, part, outputs=residuals.shape[1])
    found = [conformal(one, count) for one, count in zip(residuals.T, counts, strict=True)]
    ends = tuple(one for one in found if one is not None)
    return ends if len(ends) == len(found) else ()


def _independent(plan: Plan, part: Part, *, outputs: int) -> list[float]:
    """Return as how many independent residuals the rows count, for each output.

    Forecasts of the step k that begin less than k steps apart share errors.
    """
    schema = plan.prepared.schema
    if schema.window is None:
        return [units_of(len(part), groups=part.groups).effective] * outputs
    steps = [1 + output // len(schema.targets) for output in range(outputs)]
    return [len(part) / step for step in steps]


@torch.inference_mode()
def outputs_of(network: nn.Module, blocks: Iterable[Tensor]) -> Tensor:
    """Return a network's raw outputs for the rows of some blocks, float32 (rows, outputs)."""
    like = next(network.parameters(), torch.empty(0))  # where it lies, and in which precision
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


def with_intervals(plan: Plan, test: ScoredTest) -> ScoredTest:
    """Return a test with the 95 % intervals of its metrics."""
    schema = plan.prepared.schema
    horizon = None if schema.window is None else schema.horizon
    found = intervals(
        test.part.outputs,
        test.part.targets,
        units=units_of(len(test.part.targets), groups=test.part.groups, horizon=horizon),
        threshold=test.threshold,
        seed=plan.options.seed,
    )
    return replace(test, intervals=found)


def tested_again(plan: Plan, task: Task, decision: Decision) -> ScoredTest:
    """Test weights that were trained before, as their training tests them: equal bits.

    Args:
        plan: The run.
        task: Holds the weights.
        decision: What turns outputs into answers.
    """
    trainer = build_trainer(
        plan.options, plan.devices, callbacks=[], logger=False, writer=MemoryIO()
    )
    return tested(plan, task, trainer, decision)


def _write_predictions(folder: Path, test: TestPart, schema: Schema, *, threshold: float) -> None:
    """Write a line a test row: its number, the truth, the prediction, the probabilities."""
    if schema.task == "regression":
        header, lines = _regression_lines(test, schema)
    else:
        header, lines = _classification_lines(test, schema, threshold=threshold)
    write_csv(folder / "test_predictions.csv", header, lines)


def _write_classes(folder: Path, classes: Sequence[ClassScores]) -> None:
    """Write a line a class: TP, FP, TN, FN, precision, recall, F1, support."""
    header = ["class", "TP", "FP", "TN", "FN", "precision", "recall", "f1", "support"]
    lines = [
        [
            cell(scores.name),
            *scores.counts,
            scores.precision,
            scores.recall,
            scores.f1,
            scores.support,
        ]
        for scores in classes
    ]
    write_csv(folder / "classes.csv", header, lines)


def _classification_lines(
    test: TestPart, schema: Schema, *, threshold: float
) -> tuple[list[str], list[list[Any]]]:
    names = [cell(name) for name in schema.classes]
    predicted = predicted_classes(test.outputs, threshold=threshold).tolist()
    shown = [schema.positive or ""] if test.outputs.ndim == 1 else list(schema.classes)
    probabilities = test.outputs.reshape(len(test.targets), -1).tolist()
    header = ["row", "target", "predicted", *(f"probability of {name}" for name in shown)]
    columns = zip(test.rows, test.targets.tolist(), predicted, probabilities, strict=True)
    lines = [[row, names[truth], names[guess], *values] for row, truth, guess, values in columns]
    return header, lines


def _regression_lines(test: TestPart, schema: Schema) -> tuple[list[str], list[list[Any]]]:
    suffixes = [""] if schema.outputs == 1 else [f" {n + 1}" for n in range(schema.outputs)]
    header = ["row", *(f"target{s}" for s in suffixes), *(f"predicted{s}" for s in suffixes)]
    columns = zip(test.rows, test.targets.tolist(), test.outputs.tolist(), strict=True)
    return header, [[row, *truth, *guess] for row, truth, guess in columns]
