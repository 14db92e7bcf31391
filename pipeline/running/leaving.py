"""The model that a finished run leaves beside its record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.running.own_code import keep_own_code
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.results import Result
from pipeline.running.scoring import direction_of
from pipeline.serving.decision import Decision
from pipeline.serving.files import FOLDER
from pipeline.serving.interface import interface
from pipeline.serving.saving import save_model
from pipeline.tracking.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is known of the weights that a model is made of.

    Args:
        name: Name of their run.
        run_id: MLflow's id of it; `None` where nothing is tracked.
        epoch: The epoch that they are from.
        kept: Values of training and validation in that epoch.
        metrics: Final values by name.
    """

    name: str
    run_id: str | None
    epoch: int
    kept: Mapping[str, float]
    metrics: Mapping[str, float]


def leave_model(
    plan: Plan, record: Record, network: nn.Module, decision: Decision, result: Result
) -> None:
    """Leave the model of a run in its folder, and say so in its journal."""
    weights = Weights(
        name=result.name,
        run_id=result.run_id,
        epoch=int(result.metrics.get("best/epoch", result.epochs)),
        kept=result.kept,
        metrics=result.metrics,
    )
    record.journal.model(write_model(record.folder, plan, network, decision, weights))


def write_model(
    folder: Path, plan: Plan, network: nn.Module, decision: Decision, weights: Weights
) -> Figure:
    """Write a network with the weights it has now, and all that it needs to answer.

    Args:
        folder: Takes `model/`, and `code/` where the network is the user's own.
        plan: The run that has trained it.
        network: Holds the weights.
        decision: What the validation rows have said.
        weights: What is known of them.

    Returns:
        What the model is compared with others by.
    """
    save_model(
        folder / FOLDER,
        network,
        _facts(plan, decision, weights),
        interface=interface(plan.prepared.schema, has_intervals=bool(decision.intervals)),
        example=plan.prepared.example,
    )
    keep_own_code(plan.options.trust, folder)
    return _figure(plan, weights.kept)


def _figure(plan: Plan, kept: Mapping[str, float]) -> Figure:
    monitor = plan.options.monitor
    value = kept.get(monitor or "", math.nan)
    return Figure(
        data=plan.prepared.content_hash,
        monitor=monitor,
        value=value if math.isfinite(value) else None,
        better=direction_of(monitor or "train/loss", plan.options.metrics),
    )


def _facts(plan: Plan, decision: Decision, weights: Weights) -> dict[str, Any]:
    report = plan.prepared.report
    return {
        "name": weights.name,
        "run_id": weights.run_id,
        "config": dict(plan.config),
        "schema": plan.prepared.schema.to_dict(),
        "data": plan.prepared.content_hash,
        "report": None if report is None else report.to_dict(),
        "decision": decision.to_dict(),
        "epoch": weights.epoch,
        "monitor": plan.options.monitor,
        "metrics": {**weights.kept, **weights.metrics},
    }
