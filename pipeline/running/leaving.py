"""The model that a finished run leaves beside its record."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from pipeline.running.own_code import keep_own_code
from pipeline.running.plan import Plan
from pipeline.running.recording import Record
from pipeline.running.results import Result
from pipeline.running.scoring import direction_of
from pipeline.serving.decision import Decision
from pipeline.serving.interface import interface
from pipeline.serving.model import FOLDER
from pipeline.serving.saving import save_model
from pipeline.tracking.figure import Figure


def leave_model(
    plan: Plan, record: Record, network: nn.Module, decision: Decision, result: Result
) -> None:
    """Write the network with the weights it has now, and all that it needs to answer."""
    save_model(
        record.folder / FOLDER,
        network,
        _facts(plan, decision, result),
        interface=interface(plan.prepared.schema, has_intervals=bool(decision.intervals)),
        example=plan.prepared.example,
    )
    keep_own_code(plan.options.trust, record.folder)
    record.journal.model(_figure(plan, result.kept))


def _figure(plan: Plan, kept: Mapping[str, float]) -> Figure:
    """Return what the model is compared with others by."""
    monitor = plan.options.monitor
    value = kept.get(monitor or "", math.nan)
    return Figure(
        data=plan.prepared.content_hash,
        monitor=monitor,
        value=value if math.isfinite(value) else None,
        better=direction_of(monitor or "train/loss", plan.options.metrics),
    )


def _facts(plan: Plan, decision: Decision, result: Result) -> dict[str, Any]:
    report = plan.prepared.report
    return {
        "name": result.name,
        "run_id": result.run_id,
        "config": dict(plan.config),
        "schema": plan.prepared.schema.to_dict(),
        "data": plan.prepared.content_hash,
        "report": None if report is None else report.to_dict(),
        "decision": decision.to_dict(),
        "epoch": int(result.metrics.get("best/epoch", result.epochs)),
        "monitor": plan.options.monitor,
        "metrics": {**result.kept, **result.metrics},
    }
