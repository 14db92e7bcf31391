"""What the validation rows say about the kept weights: the threshold, the intervals."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.data.part import Part
from pipeline.running.plan import Plan
from pipeline.serving.decision import COVERED, Decision, Interval

BLOCK = 4096


def decide(plan: Plan, network: nn.Module) -> Decision:
    """Find what turns the outputs of a network, with the weights that are kept, into answers."""
    threshold = plan.options.metrics.threshold
    decision = Decision(threshold=threshold, rule=str(threshold))
    part = plan.prepared.validation
    if plan.occasion.lean or plan.prepared.schema.task != "regression" or part is None:
        return decision
    intervals = _intervals(plan, network, part)
    return Decision(threshold=decision.threshold, rule=decision.rule, intervals=intervals)


def _intervals(plan: Plan, network: nn.Module, part: Part) -> tuple[Interval, ...]:
    """Return the quantiles of truth - prediction, in units, of each output."""
    to_units = plan.prepared.schema.to_units
    outputs = raised(network, part)
    targets = part.targets.to(outputs.device)
    residuals = (to_units(targets, None) - to_units(outputs, None)).double()
    ends = torch.quantile(residuals, residuals.new_tensor(COVERED), dim=0)
    return tuple((float(low), float(high)) for low, high in ends.T)


@torch.inference_mode()
def raised(network: nn.Module, part: Part) -> Tensor:
    """Return the network's outputs for a part, float32 (rows, outputs)."""
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    was_training = network.training
    network.eval()
    try:
        return torch.cat([network(rows.to(device)).float() for rows in _blocks(part)])
    finally:
        network.train(was_training)


def _blocks(part: Part) -> Iterator[Tensor]:
    for block in part.blocks():
        yield from torch.split(block, BLOCK)
