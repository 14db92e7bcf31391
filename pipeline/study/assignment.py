"""A trial in a worker's hands: what it is told to train, and where."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, open_dict

from pipeline.config.record import plain
from pipeline.paths import create_folder
from pipeline.study.ledger.ledger import Ledger, Taken
from pipeline.study.ledger.pruners import rung_epochs
from pipeline.study.plan import StudyPlan
from pipeline.study.study_run import trial_key, trial_name, trial_tags
from pipeline.study.workers.job import Job


@dataclass(slots=True, kw_only=True)
class Assignment:
    """A trial that a worker trains.

    Args:
        taken: The trial.
        folder: Its run folder.
        job: What the worker is told.
        overdue: It was stopped because it took too long.
    """

    taken: Taken
    folder: Path
    job: Job
    overdue: bool = False

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.taken.number


def assign(plan: StudyPlan, ledger: Ledger, taken: Taken, folder: Path) -> Assignment:
    """Make the folder of a trial and the job that a worker is given."""
    create_folder(folder)
    config = trial_config(plan, taken.overrides, number=taken.number)
    job = Job(
        number=taken.number,
        folder=str(folder),
        name=str(config["name"]),
        config=config,
        trust=list(plan.run.trust),
        parent_folder=str(plan.folder),
        key=trial_key(plan.name, plan.uid, taken.number),
        tags=_tags(plan, taken),
        objectives=plan.names,
        rungs=_rungs(plan, config),
        data=ledger.data_of(plain(config)),
        test=plan.run.test and plan.options.test_trials,
        keep=True,
    )
    return Assignment(taken=taken, folder=folder, job=job)


def trial_config(plan: StudyPlan, overrides: Mapping[str, str], *, number: int) -> dict[str, Any]:
    """Compose the run of a trial; references to the environment stay as they are."""
    tree = plan.trees.config(plan.with_tuned(overrides))
    with open_dict(tree):
        tree.name = trial_name(plan.name, number)
    config = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def _tags(plan: StudyPlan, taken: Taken) -> dict[str, str]:
    tags = trial_tags(plan.name, plan.uid, taken.number)
    if taken.retry_of is not None:
        tags["pipeline.retry_of"] = str(taken.retry_of)
    return tags


def _rungs(plan: StudyPlan, config: dict[str, Any]) -> dict[int, int]:
    epochs = config["trainer"]["max_epochs"]
    if not plan.prunes or not isinstance(epochs, int):
        return {}
    return rung_epochs(epochs, plan.options.pruner_warmup)
