"""Trials as workers leave them, a real MLflow database, and what that holds afterwards."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from study.ledgers import F1

from pipeline.base.ends import End
from pipeline.study.study_run import RunDestination
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import Header
from pipeline.tracking.ownership import adopt
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.uri import sqlite_uri

STUDY = "lr-mlp-iris"
UID = "c0ffee"


def database_in(folder: Path, ready: Path) -> str:
    """Put a copy of a database of MLflow's into a folder and return its address."""
    shutil.copy(ready, folder / "mlflow.db")
    return sqlite_uri(folder / "mlflow.db")


def destination(study: Path, uri: str, uid: str = UID) -> RunDestination:
    """Where the runs of the study belong."""
    return RunDestination(
        name=STUDY, uid=uid, experiment="pipeline", objectives=F1, folder=study, uri=uri
    )


def begin_trial(
    study: Path, number: int, uri: str, *, parent: bool = True, uid: str = UID
) -> Journal:
    """Write the beginning of a trial's journal."""
    where = destination(study, uri, uid)
    folder = where.trial_folder(number)
    folder.mkdir(parents=True)
    adopt(study)
    journal = Journal(folder)
    header = where.trial_header(number, {"optimizer.lr": 0.1 * (number + 1)})
    journal.begin(header if parent else replace(header, parent_folder=None))
    return journal


def begin_run(name: str, uri: str = "", tags: Mapping[str, str] | None = None) -> Journal:
    """Write the beginning of the journal of a run of the user's own, in the current folder."""
    folder = Path("runs", name)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(adopt(folder))
    journal.begin(Header(name=name, experiment="pipeline", uri=uri, tags=tags or {}, key=name))
    return journal


def finish_trial(journal: Journal, value: float = 0.5, *, epochs: int = 2) -> Path:
    """Write the rest of a trial's journal and return its folder."""
    for epoch in range(1, epochs + 1):
        journal.epoch(epoch, {"val/f1": value * epoch / epochs})
    journal.end(End.COMPLETE)
    return journal.folder


def assign_to_missing_process(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    for line in lines:
        if "lease" in line:
            line["lease"]["started"] = "1"
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))


def runs(uri: str) -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def trials(uri: str) -> dict[int, Run]:
    """Return the runs of trials by their numbers, each of which has one."""
    trial_runs = [run for run in runs(uri) if "pipeline.trial" in run.data.tags]
    by_number = {int(run.data.tags["pipeline.trial"]): run for run in trial_runs}
    assert len(by_number) == len(trial_runs)
    return dict(sorted(by_number.items()))


def ends(uri: str) -> Mapping[int, tuple[str, str | None]]:
    trial_items = trials(uri).items()
    return {
        number: (run.info.status, run.data.tags.get("end_reason")) for number, run in trial_items
    }


def recorder_pid() -> int:
    """Return the pid of the recorder that this process started last."""
    children = [c for c in psutil.Process().children() if "recorder" in " ".join(c.cmdline())]
    return int(max(children, key=lambda child: child.create_time()).pid)
