"""Trials as workers leave them, a real MLflow database, and what that holds afterwards."""

import json
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
from faults.processes import crowding
from ledgers import F1
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from mlflow_databases import make_database

from pipeline.study.study_run import RunDestination
from pipeline.tracking.journal import JOURNAL, Journal
from pipeline.tracking.uri import sqlite_uri

STUDY = "lr-mlp-iris"
UID = "c0ffee"


def database_in(folder: Path, base: Path) -> str:
    """Put a ready database into a folder and return its address; making one takes seconds."""
    ready = base / "ready" / "mlflow.db"
    if not ready.exists():
        make_database(ready)
    shutil.copy(ready, folder / "mlflow.db")
    return sqlite_uri(folder / "mlflow.db")


def trial_folder(study: Path, number: int) -> Path:
    return study / "trials" / f"{UID}-{number:04}"


def destination(study: Path, uri: str) -> RunDestination:
    """Where the runs of the study belong."""
    names = {"name": STUDY, "uid": UID, "experiment": "pipeline", "objectives": F1}
    return RunDestination(**names, folder=study, uri=uri)


def begin_trial(study: Path, number: int, uri: str, *, parent: bool = True) -> Journal:
    """Write the beginning of a trial's journal."""
    folder = trial_folder(study, number)
    folder.mkdir(parents=True)
    journal = Journal(folder)
    params = {"optimizer.lr": 0.1 * (number + 1)}
    header = destination(study, uri).trial_header(number, params)
    journal.begin(header if parent else replace(header, parent_folder=None))
    return journal


def finish_trial(journal: Journal, value: float = 0.5, *, epochs: int = 2) -> Path:
    """Write the rest of a trial's journal and return its folder."""
    for epoch in range(1, epochs + 1):
        journal.epoch(epoch, {"val/f1": value * epoch / epochs})
    journal.end("FINISHED")
    return journal.folder


def give_to_a_process_that_never_was(folder: Path) -> None:
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
    found = [run for run in runs(uri) if "pipeline.trial" in run.data.tags]
    by_number = {int(run.data.tags["pipeline.trial"]): run for run in found}
    assert len(by_number) == len(found)
    return by_number


def ends(uri: str) -> Mapping[int, tuple[str, str | None]]:
    return {
        number: (run.info.status, run.data.tags.get("end_reason"))
        for number, run in sorted(trials(uri).items())
    }


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds * crowding()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def recorder_pid() -> int:
    """Return the pid of the recorder that this process started last."""
    children = [c for c in psutil.Process().children() if "recorder" in " ".join(c.cmdline())]
    return int(max(children, key=lambda child: child.create_time()).pid)
