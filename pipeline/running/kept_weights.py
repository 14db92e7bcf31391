"""The weights that a run keeps, and the model that is stored of them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.findings import Findings
from pipeline.base.markup import as_markdown
from pipeline.base.paths import replace_text
from pipeline.modules.task import Task
from pipeline.running.final_test import ScoredTest, scored_test, with_intervals
from pipeline.running.model_card import model_card
from pipeline.running.plan import Plan
from pipeline.running.run_start import write_config, write_history
from pipeline.running.scoring import direction_of
from pipeline.serving.files import CARD, CODE, FOLDER
from pipeline.serving.model import Decision, save_model
from pipeline.serving.predictions import interface
from pipeline.tracking.journal_events import ModelScore


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedWeights:
    """The kept weights of a run, and what the stored model and its card need.

    Args:
        plan: The run.
        task: Its network holds the weights.
        decision: Turns outputs into answers; found on the validation rows.
        epoch: Epoch that the weights are from.
        epochs: Number of epochs trained.
        kept: Training and validation values of these weights.
        history: Values of each epoch.
        tags: Tags of the run's record.
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
        """Test the weights once, and write the tables of a single run into a folder."""
        test = with_intervals(self.plan, scored_test(self.plan, self.task, self.decision, None))
        into.mkdir(parents=True, exist_ok=True)
        write_config(into, self.plan.config)
        write_history(into, self.history)
        test.write(into, self.plan.prepared.schema)
        return test

    def write(self, folder: Path, findings: Findings) -> ModelScore:
        """Write the network with everything that it needs to answer, and its card.

        Args:
            folder: Receives `model/`, and `code/` if the network is the user's own. `model_from=`
                finds an untracked model by the folder's name.
            findings: Findings of the run, or of the study that the weights have won, with all test
                rows.

        Returns:
            The score by which the model is compared with others.
        """
        plan = self.plan
        monitor = plan.options.monitor
        schema = plan.prepared.schema
        report = plan.prepared.report
        facts = {
            "name": findings.name,
            "run_id": findings.run_id or None,
            "config": dict(plan.config),
            "schema": schema.to_dict(),
            "data": plan.prepared.content_hash,
            "report": None if report is None else report.to_dict(),
            "decision": self.decision.to_dict(),
            "epoch": self.epoch,
            "monitor": monitor,
            "metrics": {**self.kept, **findings.metrics},
        }
        save_model(
            folder / FOLDER,
            self.task.network,
            facts,
            interface=interface(schema, self.decision),
            example=plan.prepared.example,
        )
        _copy_own_code(plan.options.trust, folder)
        card = model_card(
            findings,
            schema=schema,
            decision=self.decision,
            data=report,
            tags=self.tags,
            reference=findings.run_id or folder.name,
        )
        replace_text(folder / FOLDER / CARD, f"{as_markdown(card)}\n")
        value = self.kept.get(monitor or "", math.nan)
        return ModelScore(
            data=plan.prepared.content_hash,
            monitor=monitor,
            value=value if math.isfinite(value) else None,
            better=direction_of(monitor or "train/loss", plan.options.metrics),
        )


def _copy_own_code(trust: Sequence[str], folder: Path) -> None:
    """Copy the trusted packages in the current folder, as they are now, into `code`."""
    code = folder / CODE
    for name in dict.fromkeys(package.partition(".")[0] for package in trust):
        code.mkdir(mode=0o750, exist_ok=True)
        package = Path.cwd() / name
        module = Path.cwd() / f"{name}.py"
        if package.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(package, code / name, ignore=skipped, dirs_exist_ok=True)
        elif module.is_file():
            shutil.copy2(module, code)
