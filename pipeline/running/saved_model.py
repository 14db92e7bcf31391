"""The model that a run or a study writes, with its card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from pipeline.bootstrap import Intervals
from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.callbacks.kept_weights import MemoryIO
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.recording import Record, write_config, write_history
from pipeline.running.results import Result, metric_names
from pipeline.running.resuming import Saved, require_fitting
from pipeline.running.scoring import direction_of
from pipeline.running.testing import Tested, decide, intervals_of, tested
from pipeline.running.trainer import build_task, build_trainer
from pipeline.serving.card import CardFacts, card
from pipeline.serving.decision import Decision
from pipeline.serving.files import CARD, CODE, FOLDER
from pipeline.serving.interface import interface
from pipeline.serving.saving import save_model
from pipeline.tracking.figure import Figure
from pipeline.tracking.journal import JOURNAL, epochs_of, read_events
from pipeline.tracking.state import read_state

if TYPE_CHECKING:
    from pipeline.modules.task import Task


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


def leave_card(
    plan: Plan, record: Record, result: Result, test: Tested | None, found: Intervals | None
) -> None:
    """Write the card beside the model and among the artifacts.

    Args:
        plan: The run.
        record: Where it is on record.
        result: What it came to.
        test: What its test came to; `None` = there was none.
        found: The intervals of the test's figures.
    """
    begins = [event for event in record.journal.events() if event["event"] == "begin"]
    text = card_text(
        plan,
        test,
        found,
        name=result.name,
        reference=result.run_id or record.folder.name,
        tags=begins[-1]["tags"],
        epochs=result.epochs,
        metrics=result.metrics,
        decision=result.decision,
    )
    for place in (record.artifacts, record.folder / FOLDER):
        replace_text(place / CARD, text)


def card_text(
    plan: Plan,
    test: Tested | None,
    found: Intervals | None,
    *,
    name: str,
    reference: str,
    tags: Mapping[str, str],
    epochs: int,
    metrics: Mapping[str, float],
    decision: Decision,
) -> str:
    """Return the card of weights that were trained as planned.

    Args:
        plan: The run that has trained them.
        test: What a test of them came to; `None` = there was none.
        found: The intervals of its figures.
        name: Of the run, or of the study that they have won.
        reference: What `model_from=` finds them by.
        tags: With which the run's record began.
        epochs: Epochs trained.
        metrics: Final values by name.
        decision: What turns their outputs into answers.
    """
    schema = plan.prepared.schema
    return card(
        CardFacts(
            name=name,
            reference=reference,
            tags=tags,
            model=plan.config["model"],
            parameters=sum(layer.parameters for layer in plan.layers),
            epochs=epochs,
            metrics=metrics,
            shown=metric_names(schema, metrics),
            baselines=() if test is None else tuple(one.name for one in test.part.baselines),
            classes=() if test is None else test.classes,
            intervals=found,
            decision=decision,
            schema=schema,
            data_hash=plan.prepared.content_hash,
            report=plan.prepared.report,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenUp:
    """The weights of a run that has ended.

    Args:
        plan: The run.
        task: Holds them.
        decision: What the validation rows say of them.
        epoch: The epoch that they are from.
        history: Values of each epoch.
        tags: With which its record began.
    """

    plan: Plan
    task: Task
    decision: Decision
    epoch: int
    history: Mapping[int, Mapping[str, float]]
    tags: Mapping[str, str]


def taken_up(plan: Plan, kept: Path) -> TakenUp:
    """Read the weights that a run has kept.

    Args:
        plan: The run that has kept them.
        kept: The checkpoint, in the folder `checkpoints` of that run.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(kept)
    require_fitting(Saved.of(kept, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    events = list(read_events(kept.parent.parent / JOURNAL))
    return TakenUp(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=content["pipeline"]["epoch"],
        history=epochs_of(iter(events)),
        tags=next((event["tags"] for event in events if event["event"] == "begin"), {}),
    )


def tested_again(run: TakenUp, *, into: Path) -> Tested:
    """Test the weights once, and write the tables that a run by itself leaves.

    Args:
        run: Has kept them.
        into: Folder that takes the tables.
    """
    plan = run.plan
    trainer = build_trainer(
        plan.options, plan.devices, callbacks=[], logger=False, writer=MemoryIO()
    )
    test = tested(plan, run.task, trainer, run.decision)
    into.mkdir(parents=True, exist_ok=True)
    write_config(into, plan.config)
    write_history(into, run.history)
    test.write(into, plan)
    return test


def left_again(run: TakenUp, *, into: Path, test: Tested | None) -> Figure:
    """Leave the weights as a model with its card, as a run by itself does.

    Args:
        run: Has kept them.
        into: Folder of the study, say, that takes the model; it names it.
        test: What a test of them came to; `None` = there was none now.

    Returns:
        What the model is compared with others by.
    """
    weights = Weights(
        name=into.name,
        run_id=read_state(into).run_id or None,
        epoch=run.epoch,
        kept=run.history.get(run.epoch, {}),
        metrics={} if test is None else test.metrics,
    )
    figure = write_model(into, run.plan, run.task.network, run.decision, weights)
    text = card_text(
        run.plan,
        test,
        None if test is None else intervals_of(run.plan, test),
        name=weights.name,
        reference=weights.run_id or weights.name,
        tags=run.tags,
        epochs=max(run.history, default=run.epoch),
        metrics={"best/epoch": float(run.epoch), **weights.metrics},
        decision=run.decision,
    )
    replace_text(into / FOLDER / CARD, text)
    return figure


def keep_own_code(trust: Sequence[str], folder: Path) -> None:
    """Copy the trusted packages that lie in the current folder, as they are now.

    Args:
        trust: Packages whose classes the config may name; those installed elsewhere stay there.
        folder: The run's folder.
    """
    for name in dict.fromkeys(package.partition(".")[0] for package in trust):
        package, module = Path.cwd() / name, Path.cwd() / f"{name}.py"
        into = folder / CODE
        into.mkdir(mode=0o750, exist_ok=True)
        if package.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, into / name, ignore=skipped, dirs_exist_ok=True)
        elif module.is_file():
            shutil.copy2(module, into)
