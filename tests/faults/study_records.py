"""What both stores say of a study, read from their databases without the program."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

# Ends of trials as Optuna's database has them: the state, and why.
COMPLETE = ("COMPLETE", None)
LOST = ("FAIL", "lost")
INTERRUPTED = ("FAIL", "interrupted")
RUNNING = ("RUNNING", None)
WAITING = ("WAITING", None)
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
Rows = list[tuple[Any, ...]]


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

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def end(self) -> tuple[str, str | None]:
        """Its status, and why."""
        return self.status, self.tags.get("end_reason")


def ask_file(path: Path, query: str) -> Rows:
    """Ask an SQLite database; what it does not hold yet has no rows."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


@dataclass(frozen=True, slots=True)
class Records:
    """Both stores of one study, in the current folder by default.

    Args:
        name: The study's.
        ask: Asks Optuna's database, and gives no rows where a table is not there yet.
        mlflow: MLflow's database.
    """

    name: str = "study"
    ask: Callable[[str], Rows] = field(
        default_factory=lambda: partial(ask_file, Path.cwd() / "optuna.db")
    )
    mlflow: Path = field(default_factory=lambda: Path.cwd() / "mlflow.db")

    def trials(self) -> list[Trial]:
        """Return the study's trials by number; none before the study is there."""
        rows = self.ask(
            "SELECT trial_id, number, state FROM trials JOIN studies USING (study_id) "
            f"WHERE study_name = '{self.name}' ORDER BY number"
        )
        return [self._trial(*row) for row in rows]

    def _trial(self, trial_id: int, number: int, state: str) -> Trial:
        where = f"WHERE trial_id = {trial_id}"
        attributes = self.ask(f"SELECT key, value_json FROM trial_user_attributes {where}")
        return Trial(
            number=number,
            state=state,
            attributes={key: json.loads(value) for key, value in attributes},
            params=dict(self.ask(f"SELECT param_name, param_value FROM trial_params {where}")),
            values=tuple(v for (v,) in self.ask(f"SELECT value FROM trial_values {where}")),
        )

    def ends(self) -> list[tuple[str, str | None]]:
        """Return how each trial ended, by number."""
        return [trial.end for trial in self.trials()]

    def counted(self) -> int:
        """Return the number of trials that count towards the total."""
        return sum(trial.counts for trial in self.trials())

    def runs(self) -> list[StoredRun]:
        """Return all runs in MLflow's database, the oldest first."""
        query = "SELECT run_uuid, name, status FROM runs ORDER BY rowid"
        return [self._run(*row) for row in ask_file(self.mlflow, query)]

    def _run(self, run_id: str, name: str, status: str) -> StoredRun:
        return StoredRun(
            run_id=run_id,
            name=name,
            status=status,
            tags=self._values_by_key("tags", run_id),
            params=self._values_by_key("params", run_id),
            metrics=self._values_by_key("latest_metrics", run_id),
        )

    def _values_by_key(self, table: str, run_id: str) -> dict[str, Any]:
        query = f"SELECT key, value FROM {table} WHERE run_uuid = '{run_id}'"
        return dict(ask_file(self.mlflow, query))

    def children(self) -> dict[int, StoredRun]:
        """Return the run of each trial of this study, which is the only one."""
        runs_by_trial: dict[int, StoredRun] = {}
        for run in self.runs():
            if run.tags.get("study") == self.name and "pipeline.trial" in run.tags:
                number = int(run.tags["pipeline.trial"])
                assert number not in runs_by_trial, f"trial {number} has two runs"
                runs_by_trial[number] = run
        return runs_by_trial

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
        started_trials = {
            trial.number: trial for trial in self.trials() if trial.state != "WAITING"
        }
        children = self.children()
        assert children.keys() == started_trials.keys(), (sorted(children), sorted(started_trials))
        recorded_ends = {
            number: (trial.end, children[number].end) for number, trial in started_trials.items()
        }
        expected_ends = {
            number: (trial.end, ENDS.get(trial.end)) for number, trial in started_trials.items()
        }
        assert recorded_ends == expected_ends
        parent_id = {run.tags.get("mlflow.parentRunId") for run in children.values()}
        assert len(parent_id) <= 1
        for number, trial in started_trials.items():
            if trial.state == "COMPLETE":
                metrics = children[number].metrics
                assert metrics.get("best/val/f1", metrics.get("val/f1")) == trial.values[0]

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
