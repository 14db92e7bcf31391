"""What a run has found out, for the doctor, the pictures and the reports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from pipeline.config.targets import TARGET
from pipeline.data.part import Part
from pipeline.doctor.diagnosis import diagnose
from pipeline.findings.records import (
    Activity,
    Clipping,
    Findings,
    Importances,
    Inside,
    Mistakes,
    TestRows,
    Vitals,
)
from pipeline.importance import importances_of
from pipeline.inside.activity import activity_of
from pipeline.inside.samples import chosen
from pipeline.inside.views import inside_of
from pipeline.mistakes import worst
from pipeline.networks.inspection import probabilities
from pipeline.paths import conf_folder, replace_text
from pipeline.running.plan import Plan, forward_operations
from pipeline.running.recording import unless_it_fails
from pipeline.running.scoring import direction_of, scores_of
from pipeline.running.testing import outputs_of

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from pipeline.modules.task import Task
    from pipeline.running.participant import Participant
    from pipeline.running.recording import Record
    from pipeline.running.results import Result
    from pipeline.running.testing import ScoredTest


MOST_ROWS = 2000
"""Training rows that are asked about once training is over."""
FEWEST_ROWS = 32
MOST_WORK = 5 * 10**10
"""Multiplications and additions that asking may take: some seconds of one core."""
MOST_BYTES = 64 * 2**20
"""Of the rows that are asked about, as float32."""
ACTIVE_ROWS = 512
"""Of these, the rows whose activations are looked at."""
MOST_NUMBERS = 10_000_000
"""Outputs of test rows that are kept for pictures and reports: 40 MB before they are packed."""
MOST_MISTAKES = 12
"""Test rows whose mistakes are the worst, for a picture."""
OF_TRAINING = ("train/", "val/", "grad/", "lr", "time/epoch")
"""How the names of an epoch's own values begin."""


def findings_of(
    plan: Plan,
    participant: Participant,
    result: Result,
    *,
    seconds: float,
    test: ScoredTest | None,
    vitals: Vitals | None,
    diverged: bool = False,
) -> Findings:
    """Return what a run has found out, short of what only pictures need.

    Args:
        plan: The run.
        participant: What has trained, with the weights that are kept.
        result: What the run came to.
        seconds: What the training took.
        test: The test of the kept weights, with its intervals; `None` = there was none.
        vitals: Gradients and updates of each layer during training.
        diverged: The weights are not numbers any more, so that none are scored.
    """
    options, schema, prepared = plan.options, plan.prepared.schema, plan.prepared
    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    training: Mapping[str, float] = {}
    activity: tuple[Activity, ...] = ()
    if not (plan.occasion.lean or diverged):
        training, activity = _of_training_rows(plan, participant.task, result.decision.threshold)
    return Findings(
        name=plan.name,
        run_id=result.run_id or "",
        end="diverged" if diverged else "finished",
        task=schema.task,
        kind=schema.kind,
        model=str(options.model[TARGET]).rpartition(".")[2],
        config=plan.config,
        classes=schema.classes,
        features=schema.features,
        targets=schema.targets,
        label=schema.label,
        units=schema.units,
        horizon=schema.horizon,
        monitor=options.monitor or "train/loss",
        better=direction_of(options.monitor or "train/loss", options.metrics),
        kept=participant.keeper.best_epoch,
        epochs=result.epochs,
        planned=options.trainer.max_epochs,
        steps=_steps(participant.trainer),
        clipping=_clipping(plan),
        threshold=result.decision.threshold,
        metrics=result.metrics,
        training=training,
        intervals={} if test is None or test.intervals is None else test.intervals.ends,
        baselines=() if test is None else test.baselines,
        rows={name: len(part) for name, part in parts.items() if part is not None},
        shares=_shares(prepared.train.targets, classes=len(schema.classes)),
        parameters=result.parameters,
        seconds=seconds,
        device=plan.devices.words,
        data_hash=prepared.content_hash,
        history={epoch: _of_epoch(values) for epoch, values in result.history.items()},
        vitals=vitals,
        activity=activity,
        test=None if test is None or plan.occasion.lean else _test_rows(test),
    )


def _steps(trainer: Trainer) -> int:
    """Return the optimizer steps of an epoch."""
    batches = trainer.num_training_batches
    return 0 if batches == math.inf else -(-int(batches) // trainer.accumulate_grad_batches)


def _of_training_rows(
    plan: Plan, task: Task, threshold: float
) -> tuple[Mapping[str, float], tuple[Activity, ...]]:
    """Return scores and activations of some training rows, with the weights that are kept."""
    what = "no figures of training rows"
    part = unless_it_fails(lambda: _some(plan.prepared.train, _affordable(plan)), None, what=what)
    if part is None:
        return {}, ()
    return (
        unless_it_fails(lambda: _scores(plan, task, part, threshold), {}, what=what),
        unless_it_fails(lambda: _activity(task, part), (), what="no look at activations"),
    )


def _of_epoch(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if key.startswith(OF_TRAINING)}


def _clipping(plan: Plan) -> Clipping:
    trainer = plan.options.trainer
    return Clipping(
        threshold=trainer.gradient_clip_val,
        algorithm=trainer.gradient_clip_algorithm,
        chosen=trainer.gradient_clip_val != _usual_clipping(),
    )


@cache
def _usual_clipping() -> Any:
    """Return the threshold that a run has where nobody chooses one."""
    file = conf_folder() / "trainer" / "auto.yaml"
    return OmegaConf.select(OmegaConf.load(file), "gradient_clip_val")


def _shares(targets: Tensor, *, classes: int) -> tuple[float, ...]:
    if classes == 0:
        return ()
    counts = torch.bincount(targets, minlength=classes)
    return tuple((counts / counts.sum()).tolist())


def _some(part: Part, count: int) -> Part:
    """Return rows of a part, evenly spaced where it has more than are wanted."""
    indices = _spaced(len(part), count)
    return Part(
        inputs=part.take(indices),
        targets=part.targets[indices],
        offsets=None if part.offsets is None else part.offsets[indices],
        rows=part.rows[indices.numpy()],
    )


def _affordable(plan: Plan) -> int:
    """Return how many training rows are scored, as many as cost little time and memory."""
    shape = plan.prepared.schema.input_shape
    work = forward_operations(plan.layers, shape)
    affordable = min(MOST_WORK // max(1, work), MOST_BYTES // (4 * math.prod(shape)))
    return min(MOST_ROWS, max(FEWEST_ROWS, affordable))


def _scores(plan: Plan, task: Task, part: Part, threshold: float) -> dict[str, float]:
    """Score the kept weights on training rows as they were scored on the others."""
    schema = plan.prepared.schema
    outputs = outputs_of(task.network, part.blocks())
    targets = part.targets.to(outputs.device)
    with torch.inference_mode():
        loss = float(task.exact_loss(outputs, targets))
    if schema.task == "regression":
        final = schema.to_units(outputs, part.offsets), schema.to_units(targets, part.offsets)
    else:
        final = probabilities(outputs), targets
    scores = scores_of(plan.options.metrics, schema, threshold=threshold)
    return {"loss": loss, **{key: float(value) for key, value in scores(*final).items()}}


def _activity(task: Task, part: Part) -> tuple[Activity, ...]:
    like = next(task.network.parameters(), torch.empty(0))
    rows = torch.arange(min(ACTIVE_ROWS, len(part)))
    return activity_of(task.network, part.take(rows).to(like))


def _test_rows(test: ScoredTest) -> TestRows:
    """Return what was said of the test rows, of evenly spaced ones where there are very many."""
    part = test.part
    count = max(1, MOST_NUMBERS * len(part.targets) // max(1, part.outputs.numel()))
    kept = _spaced(len(part.targets), count)
    baselines = [baseline.outputs[kept].numpy() for baseline in part.baselines]
    naive, linear = [*baselines, None, None][:2]
    return TestRows(
        rows=np.asarray(part.rows, dtype=np.int64)[kept.numpy()],
        targets=part.targets[kept].numpy(),
        outputs=part.outputs[kept].numpy(),
        naive=naive,
        linear=linear,
        groups=None if part.groups is None else part.groups[kept.numpy()],
    )


def _spaced(rows: int, count: int) -> Tensor:
    """Return positions of evenly spaced rows, all of them where they are not more than wanted."""
    return torch.linspace(0, rows - 1, min(count, rows), dtype=torch.float64).round().long()


def with_importances(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Return the findings with how much each column of a table matters; other data have none.

    Args:
        findings: Of the run.
        plan: The run.
        network: With the weights that are kept.
    """
    if findings.kind != "table":
        return findings
    importances = unless_it_fails(
        lambda: _importances(findings, plan, network), None, what="no importances"
    )
    return replace(findings, importances=importances)


def with_views(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Return the findings with what only pictures need: the worst mistakes, and feature maps.

    Args:
        findings: Of the run.
        plan: The run.
        network: With the weights that are kept.
    """
    was_training = network.training
    network.eval()
    try:
        return replace(
            findings,
            mistakes=unless_it_fails(lambda: _mistakes(findings, plan), None, what="no mistakes"),
            inside=unless_it_fails(lambda: _inside(plan, network), None, what="no feature maps"),
        )
    finally:
        network.train(was_training)


def _importances(findings: Findings, plan: Plan, network: nn.Module) -> Importances:
    prepared = plan.prepared
    part = prepared.train if prepared.validation is None else prepared.validation
    return importances_of(
        part,
        schema=prepared.schema,
        outputs=lambda inputs: outputs_of(network, [inputs]),
        scores=scores_of(plan.options.metrics, prepared.schema, threshold=findings.threshold),
        part_name="train" if prepared.validation is None else "validation",
    )


def _mistakes(findings: Findings, plan: Plan) -> Mistakes | None:
    schema, test = plan.prepared.schema, findings.test
    if test is None or findings.kind == "table" or schema.difference is not None:
        return None  # a window of differences says nothing beside a forecast of levels
    positions = worst(test, threshold=findings.threshold, count=MOST_MISTAKES)
    # The findings may have fewer rows than the part, of which each row has one number.
    part = plan.prepared.test
    places = [int(np.flatnonzero(part.rows == row)[0]) for row in test.rows[positions]]
    inputs = schema.input_scaler.unscaled(part.take(torch.tensor(places, dtype=torch.int64)))
    return Mistakes(positions=positions, inputs=inputs.numpy())


def _inside(plan: Plan, network: nn.Module) -> Inside | None:
    options = plan.options.feature_maps
    rows, labels, inputs = chosen(plan.prepared, options.samples)
    views = inside_of(network, inputs, channels=options.channels)
    return Inside(rows=rows, labels=labels, inputs=inputs.numpy(), views=views) if views else None


def write_diagnosis(findings: Findings, record: Record, *, lean: bool) -> tuple[str, ...]:
    """Diagnose a run, put that on record, and return the lines to show.

    Args:
        findings: Of the run.
        record: Takes the tag, and the files `doctor.md` and `doctor.json`.
        lean: The tag alone.
    """
    diagnosis = unless_it_fails(lambda: diagnose(findings), None, what="no diagnosis")
    if diagnosis is None:
        return ()
    record.journal.tag("doctor", diagnosis.names)
    if lean:
        return ()
    replace_text(record.artifacts / "doctor.md", diagnosis.markdown())
    text = json.dumps(diagnosis.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
    replace_text(record.artifacts / "doctor.json", text + "\n")
    return tuple(diagnosis.lines())
