"""Scores, activations and importances of the kept weights, measured on rows of the training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

import torch

from pipeline.base.findings import ColumnImportances, Findings
from pipeline.data.preparation.content import Part
from pipeline.modules.task import Task
from pipeline.networks.inspection import activity_of
from pipeline.running.decision import outputs_of
from pipeline.running.plan import Plan
from pipeline.running.recording import unless_it_fails
from pipeline.running.scoring import scores_of, trained_rows
from pipeline.scoring.importance import evenly_spaced_part, importances_of

#: Largest number of training rows that are scored after the training.
MOST_ROWS = 2000
FEWEST_ROWS = 32
#: Multiplications and additions of that scoring: some seconds of one core.
MOST_WORK = 5 * 10**10
#: Size of these rows as float32.
MOST_BYTES = 64 * 2**20
#: Number of these rows that the statistics of activations use.
ACTIVE_ROWS = 512


def with_scores(findings: Findings, plan: Plan, task: Task) -> Findings:
    """Add scores and activations on some training rows, and the importance of the columns."""
    threshold = findings.threshold
    # As many rows as need little time and memory.
    work = max(1, plan.forward_operations)
    row_bytes = 4 * prod(plan.prepared.schema.input_shape)
    affordable = min(MOST_WORK // work, MOST_BYTES // row_bytes)
    count = min(MOST_ROWS, max(FEWEST_ROWS, affordable))
    trained = trained_rows(plan.options, len(plan.prepared.train))
    sample = partial(evenly_spaced_part, plan.prepared.train, count, first=trained)
    part = unless_it_fails(sample, "the training rows were not scored")
    if part is not None:
        scores = unless_it_fails(
            lambda: _scores(plan, task, part, threshold), "the training rows were not scored"
        )
        active_rows = torch.arange(min(ACTIVE_ROWS, len(part)))
        activity = unless_it_fails(
            lambda: activity_of(task.network, part.take(active_rows)),
            "the activations were not examined",
        )
        findings = replace(findings, training=scores or {}, activity=activity or ())
    importances = unless_it_fails(
        lambda: _importances(plan, task, threshold), "the column importances were not measured"
    )
    return replace(findings, importances=importances)


def _scores(plan: Plan, task: Task, part: Part, threshold: float) -> dict[str, float]:
    """Score the kept weights on training rows in the same way as on the other parts."""
    outputs = outputs_of(task.network, part.blocks())
    task.scores = scores_of(plan.options, plan.prepared.schema, threshold=threshold)
    with torch.inference_mode():
        scores, _ = task.measured(outputs, part.targets.to(outputs.device), part.offsets)
    return {key: float(score) for key, score in scores.items()}


def _importances(plan: Plan, task: Task, threshold: float) -> ColumnImportances | None:
    """Return the importance of each column of a table; `None` for other data."""
    schema = plan.prepared.schema
    if schema.kind != "table":
        return None
    part = plan.prepared.validation
    part_name = "validation"
    if part is None:
        part = plan.prepared.train
        part_name = "train"
    return importances_of(
        part,
        schema=schema,
        outputs=lambda inputs: outputs_of(task.network, [inputs]),
        scores=scores_of(plan.options, schema, threshold=threshold),
        part_name=part_name,
    )
