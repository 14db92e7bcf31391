"""A closer look at a trained network: which columns matter, its mistakes, what lies inside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.findings.records import Findings, Importances, Inside, Mistakes
from pipeline.importance import importances_of
from pipeline.inside.samples import chosen
from pipeline.inside.views import inside_of
from pipeline.mistakes import worst
from pipeline.running.optional import unless_it_fails
from pipeline.running.scoring import scores_of
from pipeline.serving.model import rows_at_once

if TYPE_CHECKING:
    from pipeline.running.plan import Plan

MOST_MISTAKES = 12


def with_importances(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Return the findings with how much each column of a table matters; other data have none.

    Args:
        findings: Of the run.
        plan: The run.
        network: With the weights that are kept.
    """
    if findings.kind != "table":
        return findings
    with _evaluating(network):
        importances = unless_it_fails(
            lambda: _importances(findings, plan, network), None, what="no importances"
        )
    return replace(findings, importances=importances)


def looked_closer(findings: Findings, plan: Plan, network: nn.Module) -> Findings:
    """Return the findings with what only pictures need: the worst mistakes, and what lies inside.

    Args:
        findings: Of the run.
        plan: The run.
        network: With the weights that are kept.
    """
    with _evaluating(network):
        return replace(
            findings,
            mistakes=unless_it_fails(lambda: _mistakes(findings, plan), None, what="no mistakes"),
            inside=unless_it_fails(lambda: _inside(plan, network), None, what="no feature maps"),
        )


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def _importances(findings: Findings, plan: Plan, network: nn.Module) -> Importances:
    prepared = plan.prepared
    part = prepared.train if prepared.validation is None else prepared.validation
    return importances_of(
        part,
        schema=prepared.schema,
        outputs=lambda inputs: _outputs(network, inputs),
        scores=scores_of(plan.options.metrics, prepared.schema, threshold=findings.threshold),
        part_name="train" if prepared.validation is None else "validation",
    )


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return raw outputs, float32 (rows, outputs)."""
    like = next(network.parameters(), torch.empty(0))
    blocks = torch.split(inputs, rows_at_once(tuple(inputs.shape[1:])))
    return torch.cat([network(block.to(like)).float() for block in blocks])


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
