"""The model that a run or a study writes, with its card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.recording import write_config, write_history
from pipeline.running.results import metric_names
from pipeline.running.resuming import SavedCheckpoint, require_fitting
from pipeline.running.scoring import direction_of
from pipeline.running.testing import ScoredTest, decide, tested_again, with_intervals
from pipeline.running.trainer import build_task
from pipeline.serving.answers import interface
from pipeline.serving.card import CardFacts, card
from pipeline.serving.decision import Decision
from pipeline.serving.files import CARD, CODE, FOLDER
from pipeline.serving.saving import save_model
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import JOURNAL, Figure, epochs_of, read_events

if TYPE_CHECKING:
    from pipeline.modules.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """What is known of the weights that a model is made of.

    Args:
        name: Name of their run, or of the study that they have won.
        run_id: MLflow's id of it; `None` where nothing is tracked.
        epoch: The epoch that they are from.
        epochs: Epochs trained.
        kept: Values of training and validation in the epoch that they are from.
        metrics: Final values by name.
        decision: What turns their outputs into answers.
        tags: With which the run's record began.
    """

    name: str
    run_id: str | None
    epoch: int
    epochs: int
    kept: Mapping[str, float]
    metrics: Mapping[str, float]
    decision: Decision
    tags: Mapping[str, str]


def write_model(folder: Path, plan: Plan, network: nn.Module, weights: TrainedWeights) -> Figure:
    """Write a network with the weights it has now, and all that it needs to answer.

    Args:
        folder: Takes `model/`, and `code/` where the network is the user's own.
        plan: The run that has trained it.
        network: Holds the weights.
        weights: What is known of them.

    Returns:
        What the model is compared with others by.
    """
    schema, report, monitor = plan.prepared.schema, plan.prepared.report, plan.options.monitor
    facts = {
        "name": weights.name,
        "run_id": weights.run_id,
        "config": dict(plan.config),
        "schema": schema.to_dict(),
        "data": plan.prepared.content_hash,
        "report": None if report is None else report.to_dict(),
        "decision": weights.decision.to_dict(),
        "epoch": weights.epoch,
        "monitor": monitor,
        "metrics": {**weights.kept, **weights.metrics},
    }
    save_model(
        folder / FOLDER,
        network,
        facts,
        interface=interface(schema, has_intervals=bool(weights.decision.intervals)),
        example=plan.prepared.example,
    )
    _copy_own_code(plan.options.trust, folder)
    value = weights.kept.get(monitor or "", math.nan)
    return Figure(
        data=plan.prepared.content_hash,
        monitor=monitor,
        value=value if math.isfinite(value) else None,
        better=direction_of(monitor or "train/loss", plan.options.metrics),
    )


def _copy_own_code(trust: Sequence[str], folder: Path) -> None:
    """Copy the trusted packages that lie in the current folder, as they are now."""
    for name in dict.fromkeys(package.partition(".")[0] for package in trust):
        package, module = Path.cwd() / name, Path.cwd() / f"{name}.py"
        into = folder / CODE
        into.mkdir(mode=0o750, exist_ok=True)
        if package.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, into / name, ignore=skipped, dirs_exist_ok=True)
        elif module.is_file():
            shutil.copy2(module, into)


def write_card(folder: Path, plan: Plan, weights: TrainedWeights, test: ScoredTest | None) -> str:
    """Write the card beside the model, and return its text.

    Args:
        folder: Of the run or the study, by whose name `model_from=` finds it.
        plan: The run that has trained the weights.
        weights: What is known of them.
        test: A test of them with its intervals; `None` = there was none.
    """
    schema = plan.prepared.schema
    text = card(
        CardFacts(
            name=weights.name,
            reference=weights.run_id or folder.name,
            tags=weights.tags,
            model=plan.config["model"],
            parameters=sum(layer.parameters for layer in plan.layers),
            epochs=weights.epochs,
            metrics=weights.metrics,
            shown=metric_names(schema, weights.metrics),
            baselines=() if test is None else test.baselines,
            classes=() if test is None else test.classes,
            intervals=None if test is None else test.intervals,
            decision=weights.decision,
            schema=schema,
            data_hash=plan.prepared.content_hash,
            report=plan.prepared.report,
        )
    )
    replace_text(folder / FOLDER / CARD, text)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
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

    def test(self, into: Path) -> ScoredTest:
        """Test the weights once, and write the tables that a run by itself leaves.

        Args:
            into: Folder that takes the tables.
        """
        test = tested_again(self.plan, self.task, self.decision)
        into.mkdir(parents=True, exist_ok=True)
        write_config(into, self.plan.config)
        write_history(into, self.history)
        test.write(into, self.plan.prepared.schema)
        return test

    def write_model(self, into: Path, test: ScoredTest | None) -> Figure:
        """Write the weights as a model with its card, as a run by itself does.

        Args:
            into: Folder that takes the model, such as that of the study; it names it.
            test: A test of the weights; `None` = there was none now.

        Returns:
            What the model is compared with others by.
        """
        weights = TrainedWeights(
            name=into.name,
            run_id=read_state(into).run_id or None,
            epoch=self.epoch,
            epochs=max(self.history, default=self.epoch),
            kept=self.history.get(self.epoch, {}),
            metrics={} if test is None else test.metrics,
            decision=self.decision,
            tags=self.tags,
        )
        figure = write_model(into, self.plan, self.task.network, weights)
        told = replace(weights, metrics={"best/epoch": float(self.epoch), **weights.metrics})
        write_card(into, self.plan, told, test and with_intervals(self.plan, test))
        return figure


def read_weights(plan: Plan, kept: Path) -> StoredWeights:
    """Read the weights that a run has kept.

    Args:
        plan: The run that has kept them.
        kept: The checkpoint, in the folder `checkpoints` of that run.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(kept)
    require_fitting(SavedCheckpoint.of(kept, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    events = list(read_events(kept.parent.parent / JOURNAL))
    return StoredWeights(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=content["pipeline"]["epoch"],
        history=epochs_of(iter(events)),
        tags=next((event["tags"] for event in events if event["event"] == "begin"), {}),
    )
