"""What both stores say of a study, read from their databases without the program."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENDS = {
    ("COMPLETE", None): ("FINISHED", None),
    ("PRUNED", "pruned"): ("FINISHED", "pruned"),
    ("FAIL", "diverged"): ("FAILED", "diverged"),
    ("FAIL", "oom"): ("FAILED", "oom"),
    ("FAIL", "error"): ("FAILED", "error"),
    ("FAIL", "lost"): ("FAILED", "lost"),
    ("FAIL", "interrupted"): ("KILLED", "interrupted"),
}
"""What MLflow has to say of a trial, by what Optuna says."""
UNCOUNTED = ("interrupted", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial as Optuna's database has it; the parameters are Optuna's inner values."""

    number: int
    state: str
    attributes: Mapping[str, Any]
    params: Mapping[str, float]
    values: tuple[float | None, ...]

    @property
    def end(self) -> tuple[str, str | None]:
        """Its state, and why."""
        return self.state, self.attributes.get("end_reason")

    @property
    def counts(self) -> bool:
        """Whether it counts towards the total."""
        ended = self.state in ("COMPLETE", "PRUNED", "FAIL")
        return ended and self.attributes.get("end_reason") not in UNCOUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as MLflow's database has it, with the latest value of each metric."""

    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def end(self) -> tuple[str, str | None]:
        """Its status, and why."""
        return self.status, self.tags.get("end_reason")


@dataclass(frozen=True, slots=True)
class Records:
    """Both stores of one study, in the current folder by default."""

    name: str = "study"
    optuna: Path = field(default_factory=lambda: Path.cwd() / "optuna.db")
    mlflow: Path = field(default_factory=lambda: Path.cwd() / "mlflow.db")

    def trials(self) -> list[Trial]:
        """Return the study's trials by number; none before the study is there."""
        if not self.optuna.exists():
            return []
        with closing(sqlite3.connect(self.optuna, timeout=30)) as connection:
            if not _has_table(connection, "trial_values"):
                return []
            found = connection.execute(
                "SELECT trial_id, number, state FROM trials JOIN studies USING (study_id) "
                "WHERE study_name = ? ORDER BY number",
                (self.name,),
            ).fetchall()
            return [_trial(connection, *row) for row in found]

    def ends(self) -> list[tuple[str, str | None]]:
        """Return how each trial ended, by number."""
        return [trial.end for trial in self.trials()]

    def counted(self) -> int:
        """Return the number of trials that count towards the total."""
        return sum(trial.counts for trial in self.trials())

    def runs(self) -> list[StoredRun]:
        """Return all runs in MLflow's database, the oldest first."""
        with closing(sqlite3.connect(self.mlflow, timeout=30)) as connection:
            found = connection.execute("SELECT run_uuid, name, status FROM runs ORDER BY rowid")
            return [_run(connection, *row) for row in found.fetchall()]

    def children(self) -> dict[int, StoredRun]:
        """Return the run of each trial of this study, which is the only one."""
        found: dict[int, StoredRun] = {}
        for run in self.runs():
            if run.tags.get("study") == self.name and "pipeline.trial" in run.tags:
                number = int(run.tags["pipeline.trial"])
                assert number not in found, f"trial {number} has two runs"
                found[number] = run
        return found

    def parent(self) -> StoredRun:
        """Return the study's own run, which is the only one."""
        (run,) = (
            run
            for run in self.runs()
            if run.tags.get("study") == self.name and "pipeline.trial" not in run.tags
        )
        return run

    def require_agreement(self) -> None:
        """Fail unless each trial that was begun has one run, and both tell the same end."""
        begun = {trial.number: trial for trial in self.trials() if trial.state != "WAITING"}
        children = self.children()
        assert children.keys() == begun.keys(), (sorted(children), sorted(begun))
        told = {number: (trial.end, children[number].end) for number, trial in begun.items()}
        wanted = {number: (trial.end, ENDS.get(trial.end)) for number, trial in begun.items()}
        assert told == wanted
        parent_id = {run.tags.get("mlflow.parentRunId") for run in children.values()}
        assert len(parent_id) <= 1
        for number, trial in begun.items():
            if trial.state == "COMPLETE":
                known = children[number].metrics
                assert known.get("best/val/f1", known.get("val/f1")) == trial.values[0]

    def require_whole(self, n_trials: int, *, max_retry: int = 2) -> None:
        """Fail unless the study has its trials, nothing is open, and no point was lost."""
        trials = self.trials()
        assert self.counted() == n_trials, self.ends()
        assert {trial.state for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}, self.ends()
        self.require_agreement()
        self.require_retries(max_retry)

    def require_retries(self, max_retry: int = 2) -> None:
        """Fail unless what was interrupted or lost was tried again once, at its own point."""
        trials = self.trials()
        again: dict[int, list[Trial]] = defaultdict(list)
        for trial in trials:
            if "retry_of" in trial.attributes:
                again[int(trial.attributes["retry_of"])].append(trial)
        for trial in trials:
            retries = again.pop(trial.number, [])
            if trial.attributes.get("end_reason") not in UNCOUNTED:
                assert retries == []
                continue
            spent = trial.attributes.get("retries", 0) >= max_retry
            assert len(retries) == (0 if spent else 1), (trial.number, self.ends())
            for retry in retries:
                # A point that still waits has no values of its own yet.
                assert retry.params in ({}, trial.params)
        assert not again


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _trial(connection: sqlite3.Connection, trial_id: int, number: int, state: str) -> Trial:
    def rows(columns: str, table: str) -> list[Any]:
        query = f"SELECT {columns} FROM {table} WHERE trial_id = ?"
        return connection.execute(query, (trial_id,)).fetchall()

    attributes = rows("key, value_json", "trial_user_attributes")
    return Trial(
        number=number,
        state=state,
        attributes={key: json.loads(value) for key, value in attributes},
        params=dict(rows("param_name, param_value", "trial_params")),
        values=tuple(value for (value,) in rows("value", "trial_values")),
    )


def _run(connection: sqlite3.Connection, run_id: str, name: str, status: str) -> StoredRun:
    def pairs(table: str) -> dict[str, Any]:
        query = f"SELECT key, value FROM {table} WHERE run_uuid = ?"
        return dict(connection.execute(query, (run_id,)).fetchall())

    return StoredRun(name=name, status=status, tags=pairs("tags"), metrics=pairs("latest_metrics"))
