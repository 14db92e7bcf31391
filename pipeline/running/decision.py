"""How a trained network decides: its threshold, or the intervals of a regression."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.base.terminal import number
from pipeline.data.preparation.content import Part
from pipeline.networks.inspection import probabilities
from pipeline.running.plan import Plan
from pipeline.scoring.bootstrap import units_of
from pipeline.scoring.scores import find_threshold
from pipeline.serving.model import Decision, Interval, conformal, rows_at_once


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
