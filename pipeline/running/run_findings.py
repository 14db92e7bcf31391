"""Findings of a run, for the doctor, the pictures and the reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from pipeline.config.values import TARGET
from pipeline.data.content import Part
from pipeline.doctor.diagnosis import diagnose
from pipeline.findings import (
    Activity,
    Clipping,
    ColumnImportances,
    Findings,
    Inside,
    Mistakes,
    TestRows,
    Vitals,
)
from pipeline.importance import importances_of, spaced
from pipeline.inside.activity import activity_of
from pipeline.inside.samples import chosen
from pipeline.inside.views import inside_of
from pipeline.mistakes import worst
from pipeline.modules.task import Task
from pipeline.networks.inspection import probabilities
from pipeline.paths import conf_folder, replace_json, replace_text
from pipeline.running.participant import Participant
from pipeline.running.plan import Plan, forward_operations
from pipeline.running.recording import Record, unless_it_fails
from pipeline.running.results import Result
from pipeline.running.scoring import direction_of, scores_of
from pipeline.running.testing import ScoredTest, outputs_of

MOST_ROWS = 2000
"""Training rows that are scored after the training."""
FEWEST_ROWS = 32
MOST_WORK = 5 * 10**10
"""Multiplications and additions of that scoring: some seconds of one core."""
MOST_BYTES = 64 * 2**20
"""Size of these rows as float32."""
ACTIVE_ROWS = 512
"""Of these, the rows for the statistics of activations."""
MOST_NUMBERS = 10_000_000
"""Outputs of test rows that are kept for pictures and reports: 40 MB before they are packed."""
MOST_MISTAKES = 12
"""Test rows whose mistakes are the worst, for a picture."""
OF_TRAINING = ("train/", "val/", "grad/", "lr", "time/epoch")
"""Beginnings of the names of an epoch's values."""


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
    """Return the findings of a run, without those that only pictures need.

    Args:
        plan: The run.
        participant: Its task, with the kept weights.
        result: Its figures.
        seconds: Duration of the training.
        test: The test of the kept weights, with its intervals; `None` = there was none.
        vitals: Gradients and updates of each layer during training.
        diverged: The weights are not finite, so that nothing is scored.
    """
    options, schema, prepared = plan.options, plan.prepared.schema, plan.prepared
    parts = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    usual_clipping = OmegaConf.load(conf_folder() / "trainer" / "auto.yaml").gradient_clip_val
    batches, trainer = participant.trainer.num_training_batches, options.trainer
    training: Mapping[str, float] = {}
    activity: tuple[Activity, ...] = ()
    importances: ColumnImportances | None = None
    if not (plan.occasion.lean or diverged):
        given = plan, participant.task, result.decision.threshold
        training, activity = _of_training_rows(*given)
        importances = unless_it_fails(lambda: _importances(*given), None, what="no importances")
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
        planned=trainer.max_epochs,
        steps=0 if batches == math.inf else ceil(batches / trainer.accumulate_grad_batches),
        clipping=Clipping(
            threshold=trainer.gradient_clip_val,
            algorithm=trainer.gradient_clip_algorithm,
            chosen=trainer.gradient_clip_val != usual_clipping,
        ),
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
        history={
            epoch: {key: value for key, value in values.items() if key.startswith(OF_TRAINING)}
            for epoch, values in result.history.items()
        },
        vitals=vitals,
        activity=activity,
        importances=importances,
        test=None if test is None or plan.occasion.lean else _test_rows(test),
    )


def _of_training_rows(
    plan: Plan, task: Task, threshold: float
) -> tuple[Mapping[str, float], tuple[Activity, ...]]:
    """Return scores and activations of some training rows, with the weights that are kept."""
    what = "no figures of training rows"
    part = unless_it_fails(lambda: _some_rows(plan), None, what=what)
    if part is None:
        return {}, ()
    return (
        unless_it_fails(lambda: _scores(plan, task, part, threshold), {}, what=what),
        unless_it_fails(
            lambda: activity_of(task.network, part.take(torch.arange(min(ACTIVE_ROWS, len(part))))),
            (),
            what="no look at activations",
        ),
    )


def _shares(targets: Tensor, *, classes: int) -> tuple[float, ...]:
    if classes == 0:
        return ()
    counts = torch.bincount(targets, minlength=classes)
    return tuple((counts / counts.sum()).tolist())


def _some_rows(plan: Plan) -> Part:
    """Return evenly spaced training rows, as many as cost little time and memory."""
    part, shape = plan.prepared.train, plan.prepared.schema.input_shape
    work = forward_operations(plan.layers, shape)
    affordable = min(MOST_WORK // max(1, work), MOST_BYTES // (4 * math.prod(shape)))
    return spaced(part, min(MOST_ROWS, max(FEWEST_ROWS, affordable)))


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


def _test_rows(test: ScoredTest) -> TestRows:
    """Return targets and predictions of the test rows, of evenly spaced ones where many."""
    count = max(1, MOST_NUMBERS * len(test.targets) // max(1, test.outputs.numel()))
    rows = len(test.targets)
    kept = torch.linspace(0, rows - 1, min(count, rows), dtype=torch.float64).round().long()
    naive, linear = [*(one.outputs[kept].numpy() for one in test.predictions), None, None][:2]
    return TestRows(
        rows=np.asarray(test.rows, dtype=np.int64)[kept.numpy()],
        targets=test.targets[kept].numpy(),
        outputs=test.outputs[kept].numpy(),
        naive=naive,
        linear=linear,
        groups=None if test.groups is None else test.groups[kept.numpy()],
    )


def _importances(plan: Plan, task: Task, threshold: float) -> ColumnImportances | None:
    """Return the importance of each column of a table; other data have none."""
    prepared, schema = plan.prepared, plan.prepared.schema
    if schema.kind != "table":
        return None
    return importances_of(
        prepared.train if prepared.validation is None else prepared.validation,
        schema=schema,
        outputs=lambda inputs: outputs_of(task.network, [inputs]),
        scores=scores_of(plan.options.metrics, schema, threshold=threshold),
        part_name="train" if prepared.validation is None else "validation",
    )


def with_views(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Return the findings with what only pictures need: the worst mistakes, and feature maps.

    Args:
        findings: Of the run.
        plan: The run.
        network: With the kept weights.
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


def _mistakes(findings: Findings, plan: Plan) -> Mistakes | None:
    schema, test = plan.prepared.schema, findings.test
    if test is None or findings.kind == "table" or schema.difference is not None:
        return None  # a window of differences can't be drawn beside a forecast of levels
    positions = worst(test, threshold=findings.threshold, count=MOST_MISTAKES)
    # The findings may have fewer rows than the part.
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
    """Diagnose a run, record the diagnosis, and return the lines to show.

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
    replace_json(record.artifacts / "doctor.json", diagnosis.to_dict(), has_nan=False)
    return tuple(diagnosis.lines())
