"""The weights that a run keeps: their decision threshold, their test and their stored model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn

from pipeline.base.findings import Findings, TestRows
from pipeline.base.markup import BASELINES, as_markdown
from pipeline.base.paths import replace_json, replace_text
from pipeline.base.terminal import number
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.schema import Schema
from pipeline.modules.task import Task
from pipeline.networks.inspection import probabilities
from pipeline.running.beginning import write_config, write_history
from pipeline.running.model_card import model_card
from pipeline.running.plan import Plan
from pipeline.running.resuming import SavedCheckpoint, require_fitting
from pipeline.running.scoring import direction_of, more_metrics, scores_of
from pipeline.running.task_building import build_task
from pipeline.running.trainer import build_trainer, evaluated_batches
from pipeline.scoring.bootstrap import LEVEL, Intervals, intervals, units_of
from pipeline.scoring.scores import ClassScores, class_scores, find_threshold, measured_words
from pipeline.serving.files import CARD, CODE, FOLDER, cell, write_csv
from pipeline.serving.model import Decision, Interval, conformal, rows_at_once, save_model
from pipeline.serving.predictions import interface
from pipeline.tracking.journal import ModelScore, RunRecord

# ── the decision ────────────────────────────────────────────────────────────────────────────


def decide(plan: Plan, network: nn.Module) -> Decision:
    """Find the threshold, or the intervals of a regression, on the validation rows."""
    options = plan.options.metrics
    validation = plan.prepared.validation
    rule = options.rule
    if rule is not None:
        assert validation is not None, "a rule without validation rows was refused"
        outputs = outputs_of(network, validation.blocks())
        best = find_threshold(rule, probabilities(outputs), validation.targets)
        words = f"{rule} on {best.rows} validation rows: {best.metric} {number(best.reached)}"
        return Decision(threshold=best.threshold, rule=rule, found=words)
    threshold = options.first_threshold
    ends: tuple[Interval, ...] = ()
    is_regression = plan.prepared.schema.task == "regression"
    if is_regression and validation is not None and not plan.context.lean:
        ends = _intervals(plan, network, validation)
    return Decision(threshold=threshold, rule=str(threshold), intervals=ends)


def _intervals(plan: Plan, network: nn.Module, part: Part) -> tuple[Interval, ...]:
    """Return the interval of truth - prediction of each output, in units; () if one is unknown."""
    schema = plan.prepared.schema
    outputs = outputs_of(network, part.blocks())
    targets = part.targets.to(outputs.device)
    residuals = schema.to_units(targets, None) - schema.to_units(outputs, None)
    columns = residuals.double().cpu().numpy().T
    # The effective number of independent residuals of each output.
    if schema.window is None:
        counts = [units_of(len(part), groups=part.groups).effective] * len(columns)
    else:  # forecasts of step k share errors if they begin less than k steps apart
        counts = []
        for output in range(len(columns)):
            step = 1 + output // len(schema.targets)
            counts.append(len(part) / -(-step // schema.stride))
    ends = []
    for column, count in zip(columns, counts, strict=True):
        interval = conformal(column, count)
        if interval is None:
            return ()
        ends.append(interval)
    return tuple(ends)


@torch.inference_mode()
def outputs_of(network: nn.Module, blocks: Iterable[Tensor]) -> Tensor:
    """Return a network's raw outputs for all rows of some blocks, float32 (rows, outputs)."""
    weight = next(network.parameters(), torch.empty(0))  # has the device and the precision
    was_training = network.training
    network.eval()
    outputs = []
    try:
        for block in blocks:
            for rows in torch.split(block, rows_at_once(tuple(block.shape[1:]))):
                outputs.append(network(rows.to(weight)).float())
    finally:
        network.train(was_training)
    return torch.cat(outputs)


# ── the test ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """Predictions and metrics of a test.

    Args:
        rows: Targets and predictions of the test rows.
        baselines: Names of the baselines, in the order of `markup.BASELINES`.
        metrics: Values by name: `test/f1`, `naive/f1`, `linear/f1`, …
        classes: Counts and scores of each class; empty for a regression.
        threshold: Probability above which a row of a binary task counts as positive.
        intervals: 95 % intervals of the metrics; `None` = they were not computed.
    """

    rows: TestRows
    baselines: tuple[str, ...]
    metrics: Mapping[str, float]
    classes: tuple[ClassScores, ...]
    threshold: float
    intervals: Intervals | None = None

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

    `decision` holds the threshold found on the validation rows. The linear baseline, which has no
    validation rows, keeps the threshold of the training; the naive one uses 0.5, which gives the
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
    baselines = plan.context.datasets.baselines(plan.prepared)
    predictions = {}
    for kind, baseline in zip(BASELINES, baselines, strict=False):
        predicted = baseline.outputs[:rows]
        threshold = options.metrics.first_threshold if kind == "linear" else 0.5
        scores = scores_of(options, schema, threshold=threshold)(predicted, targets)
        values |= {f"{kind}/{key}": float(value) for key, value in scores.items()}
        predictions[kind] = predicted.numpy()
    test_rows = TestRows(
        rows=np.asarray(part.rows[:rows], dtype=np.int64),
        targets=(targets if part.actual is None else part.actual[:rows]).numpy(),
        outputs=outputs.numpy(),
        groups=None if part.groups is None else part.groups[:rows],
        **predictions,
    )
    classes: tuple[ClassScores, ...] = ()
    if schema.task != "regression":
        predicted_classes = test_rows.called(decision.threshold)
        classes = class_scores(predicted_classes, test_rows.targets, schema.classes)
    return ScoredTest(
        rows=test_rows,
        baselines=tuple(baseline.name for baseline in baselines),
        metrics=values,
        classes=classes,
        threshold=decision.threshold,
    )


def with_intervals(plan: Plan, test: ScoredTest) -> ScoredTest:
    """Return a test with the 95 % intervals of its metrics."""
    schema = plan.prepared.schema
    horizon = None if schema.window is None else schema.horizon
    rows = test.rows
    metric_intervals = intervals(
        rows.outputs,
        rows.targets,
        units=units_of(
            len(rows.targets), groups=rows.groups, horizon=horizon, stride=schema.stride
        ),
        threshold=test.threshold,
        seed=plan.options.seed,
        more=more_metrics(plan.options, schema.task),
    )
    return replace(test, intervals=metric_intervals)


# ── the model ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """The kept weights of a run, and what the stored model and its card need.

    Args:
        plan: The run.
        task: Its network holds the weights.
        decision: Turns outputs into answers; found on the validation rows.
        epoch: Epoch that the weights are from.
        epochs: Number of epochs trained.
        kept: Training and validation values of these weights.
        history: Values of each epoch.
        tags: Tags of the run's record.
    """

    plan: Plan
    task: Task
    decision: Decision
    epoch: int
    epochs: int
    kept: Mapping[str, float]
    history: Mapping[int, Mapping[str, float]]
    tags: Mapping[str, str]

    def test(self, into: Path) -> ScoredTest:
        """Test the weights once, and write the tables of a single run into a folder."""
        test = with_intervals(self.plan, scored_test(self.plan, self.task, self.decision, None))
        into.mkdir(parents=True, exist_ok=True)
        write_config(into, self.plan.config)
        write_history(into, self.history)
        test.write(into, self.plan.prepared.schema)
        return test

    def write(self, folder: Path, findings: Findings) -> ModelScore:
        """Write the network with everything that it needs to answer, and its card.

        Args:
            folder: Receives `model/`, and `code/` if the network is the user's own. `model_from=`
                finds an untracked model by the folder's name.
            findings: Findings of the run, or of the study that the weights have won, with all test
                rows.

        Returns:
            The score by which the model is compared with others.
        """
        plan = self.plan
        monitor = plan.options.monitor
        schema = plan.prepared.schema
        report = plan.prepared.report
        facts = {
            "name": findings.name,
            "run_id": findings.run_id or None,
            "config": dict(plan.config),
            "schema": schema.to_dict(),
            "data": plan.prepared.content_hash,
            "report": None if report is None else report.to_dict(),
            "decision": self.decision.to_dict(),
            "epoch": self.epoch,
            "monitor": monitor,
            "metrics": {**self.kept, **findings.metrics},
        }
        save_model(
            folder / FOLDER,
            self.task.network,
            facts,
            interface=interface(schema, self.decision),
            example=plan.prepared.example,
        )
        _copy_own_code(plan.options.trust, folder)
        card = model_card(
            findings,
            schema=schema,
            decision=self.decision,
            data=report,
            tags=self.tags,
            reference=findings.run_id or folder.name,
        )
        replace_text(folder / FOLDER / CARD, f"{as_markdown(card)}\n")
        value = self.kept.get(monitor or "", math.nan)
        return ModelScore(
            data=plan.prepared.content_hash,
            monitor=monitor,
            value=value if math.isfinite(value) else None,
            better=direction_of(monitor or "train/loss", plan.options.metrics),
        )


def read_weights(plan: Plan, checkpoint: Path) -> TrainedWeights:
    """Read the weights that a run has kept in a checkpoint in its folder `checkpoints`.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(checkpoint)
    require_fitting(SavedCheckpoint.of(checkpoint, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    record = RunRecord.read(checkpoint.parent.parent)
    epoch = content["pipeline"]["epoch"]
    return TrainedWeights(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=epoch,
        epochs=max(record.epochs, default=epoch),
        kept=record.epochs.get(epoch, {}),
        history=record.epochs,
        tags={} if record.begin is None else record.begin.tags,
    )


def _copy_own_code(trust: Sequence[str], folder: Path) -> None:
    """Copy the trusted packages in the current folder, as they are now, into `code`."""
    code = folder / CODE
    for name in dict.fromkeys(package.partition(".")[0] for package in trust):
        code.mkdir(mode=0o750, exist_ok=True)
        package = Path.cwd() / name
        module = Path.cwd() / f"{name}.py"
        if package.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, code / name, ignore=skipped, dirs_exist_ok=True)
        elif module.is_file():
            shutil.copy2(module, code)
