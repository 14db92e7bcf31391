"""What the validation rows say about the kept weights: the threshold, the intervals."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.bootstrap import units_of
from pipeline.data.part import Part
from pipeline.networks.outputs import probabilities
from pipeline.running.plan import Plan
from pipeline.serving.decision import Decision, Interval, conformal
from pipeline.serving.model import rows_at_once
from pipeline.terminal import number
from pipeline.thresholds import find_threshold


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
    found = find_threshold(rule, probabilities(raised(network, part)), part.targets)
    words = f"{rule} on {found.rows} validation rows: {found.metric} {number(found.reached)}"
    return Decision(threshold=found.threshold, rule=rule, found=words)


def _intervals(plan: Plan, network: nn.Module, part: Part) -> tuple[Interval, ...]:
    """Return between which values truth - prediction, in units, lies for each output."""
    to_units = plan.prepared.schema.to_units
    outputs = raised(network, part)
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
def raised(network: nn.Module, part: Part) -> Tensor:
    """Return the network's outputs for a part, float32 (rows, outputs)."""
    like = next(network.parameters(), torch.empty(0))  # where it lies, and in which precision
    was_training = network.training
    network.eval()
    try:
        return torch.cat([network(rows.to(like)).float() for rows in _blocks(part)])
    finally:
        network.train(was_training)


def _blocks(part: Part) -> Iterator[Tensor]:
    for block in part.blocks():
        yield from torch.split(block, rows_at_once(tuple(block.shape[1:])))
