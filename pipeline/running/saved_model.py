"""The model that a run or a study writes, with its card."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.callbacks.checkpoint_file import read_checkpoint
from pipeline.modules.task import Task
from pipeline.paths import replace_text
from pipeline.running.plan import Plan
from pipeline.running.recording import write_config, write_history
from pipeline.running.results import metric_names
from pipeline.running.resuming import SavedCheckpoint, require_fitting
from pipeline.running.scoring import direction_of
from pipeline.running.testing import ScoredTest, decide, tested_again, with_intervals
from pipeline.running.trainer import build_task
from pipeline.serving.card import CardFacts, card
from pipeline.serving.files import CARD, CODE, FOLDER
from pipeline.serving.model import Decision, save_model
from pipeline.serving.predictions import interface
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import JOURNAL, Figure, epochs_of, read_events


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """The kept weights of a run, and what their model and its card need.

    Args:
        plan: The run.
        task: Its network holds the weights.
        decision: Turns their outputs into answers; found on the validation rows.
        epoch: The epoch that they are from.
        epochs: Epochs trained.
        kept: Values of training and validation that belong to them.
        history: Values of each epoch.
        tags: With which the run's record began.
    """

    plan: Plan
    task: Task
    decision: Decision
    epoch: int
    epochs: int
    kept: Mapping[str, float]
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

    def leave(self, into: Path, test: ScoredTest | None) -> Figure:
        """Write the model and its card as a run by itself does, and return the model's figure.

        Args:
            into: Folder that takes the model, such as that of the study; it names the model.
            test: A test of the weights; `None` = there was none now.
        """
        metrics = {} if test is None else test.metrics
        run_id = read_state(into).run_id or None
        figure = self.write_model(into, name=into.name, run_id=run_id, metrics=metrics)
        told = {"best/epoch": float(self.epoch), **metrics}
        test = test and with_intervals(self.plan, test)
        self.write_card(into, name=into.name, run_id=run_id, metrics=told, test=test)
        return figure

    def write_model(
        self, folder: Path, *, name: str, run_id: str | None, metrics: Mapping[str, float]
    ) -> Figure:
        """Write the network and all that it needs to answer.

        Args:
            folder: Takes `model/`, and `code/` where the network is the user's own.
            name: Name of the run, or of the study that the weights have won.
            run_id: MLflow's id of it; `None` where nothing is tracked.
            metrics: Final values by name.

        Returns:
            The figure by which the model is compared with others.
        """
        plan, monitor = self.plan, self.plan.options.monitor
        schema, report = plan.prepared.schema, plan.prepared.report
        facts = {
            "name": name,
            "run_id": run_id,
            "config": dict(plan.config),
            "schema": schema.to_dict(),
            "data": plan.prepared.content_hash,
            "report": None if report is None else report.to_dict(),
            "decision": self.decision.to_dict(),
            "epoch": self.epoch,
            "monitor": monitor,
            "metrics": {**self.kept, **metrics},
        }
        save_model(
            folder / FOLDER,
            self.task.network,
            facts,
            interface=interface(schema, self.decision),
            example=plan.prepared.example,
        )
        _copy_own_code(plan.options.trust, folder)
        value = self.kept.get(monitor or "", math.nan)
        return Figure(
            data=plan.prepared.content_hash,
            monitor=monitor,
            value=value if math.isfinite(value) else None,
            better=direction_of(monitor or "train/loss", plan.options.metrics),
        )

    def write_card(
        self,
        folder: Path,
        *,
        name: str,
        run_id: str | None,
        metrics: Mapping[str, float],
        test: ScoredTest | None,
    ) -> str:
        """Write the card beside the model, and return its text.

        Args:
            folder: Of the run or the study, by whose name `model_from=` finds it.
            name: Name of the run or the study.
            run_id: MLflow's id of it; `None` where nothing is tracked.
            metrics: Final values by name.
            test: A test of the weights with its intervals; `None` = there was none.
        """
        prepared = self.plan.prepared
        text = card(
            CardFacts(
                name=name,
                reference=run_id or folder.name,
                tags=self.tags,
                model=self.plan.config["model"],
                parameters=sum(layer.parameters for layer in self.plan.layers),
                epochs=self.epochs,
                metrics=metrics,
                shown=metric_names(prepared.schema, metrics),
                baselines=() if test is None else test.baselines,
                classes=() if test is None else test.classes,
                intervals=None if test is None else test.intervals,
                decision=self.decision,
                schema=prepared.schema,
                data_hash=prepared.content_hash,
                report=prepared.report,
            )
        )
        replace_text(folder / FOLDER / CARD, text)
        return text


def read_weights(plan: Plan, kept: Path) -> TrainedWeights:
    """Read the weights that a run has kept.

    Args:
        plan: The run.
        kept: The checkpoint, in the folder `checkpoints` of that run.

    Raises:
        ConfigError: The checkpoint is missing, damaged, or of another run.
    """
    content = read_checkpoint(kept)
    require_fitting(SavedCheckpoint.of(kept, content), plan.network, plan.prepared)
    task = build_task(plan.options, plan.network, plan.prepared)
    task.load_state_dict(content["state_dict"])
    events = list(read_events(kept.parent.parent / JOURNAL))
    history, epoch = epochs_of(iter(events)), content["pipeline"]["epoch"]
    return TrainedWeights(
        plan=plan,
        task=task,
        decision=decide(plan, task.network),
        epoch=epoch,
        epochs=max(history, default=epoch),
        kept=history.get(epoch, {}),
        history=history,
        tags=next((event["tags"] for event in events if event["event"] == "begin"), {}),
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
