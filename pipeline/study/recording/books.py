"""Whether a study and MLflow say the same of its trials, and the runs that are missing."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.paths import create_folder
from pipeline.study.ledger.rows import Row
from pipeline.study.recording.scribe import Scribe
from pipeline.study.recording.study_run import trial_key, trial_name, trial_tags
from pipeline.study.trial_end import has_begun, run_end
from pipeline.tracking.books import Booked
from pipeline.tracking.journal import Header, Journal, Scalar
from pipeline.tracking.state import trial_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a study's runs belong.

    Args:
        name: Name of the study.
        uid: Tells it from an earlier one of its name.
        folder: The study's folder.
        uri: Where its trials are tracked; '' = nowhere.
        experiment: Name of the MLflow experiment.
        objectives: Names of what it is about.
    """

    name: str
    uid: str
    folder: Path
    uri: str
    experiment: str
    objectives: Sequence[str]

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return trial_folder(self.folder, self.uid, number)


def differences(
    rows: Iterable[Row], runs: Iterable[Booked], objectives: Sequence[str] = ()
) -> list[str]:
    """Return one line for each thing in which a study and MLflow differ.

    A trial that waits has no run; one that runs may not have its run yet.

    Args:
        rows: The study's trials.
        runs: The runs of its trials, with the metrics of `metric_names`.
        objectives: Names of what the study is about.
    """
    trials = {row.number: row for row in rows}
    by_trial: dict[int, list[Booked]] = defaultdict(list)
    for run in runs:
        by_trial[run.trial].append(run)
    lines = [
        line
        for number, row in sorted(trials.items())
        for line in _of_trial(row, by_trial.pop(number, []), objectives)
    ]
    for number, strangers in sorted(by_trial.items()):
        lines += [
            f"run {run.run_id} is of trial {number}, of which the study knows nothing"
            for run in strangers
        ]
    return lines


def metric_names(objectives: Iterable[str]) -> list[str]:
    """Return the metrics of a run that may hold the value of an objective."""
    return [name for objective in objectives for name in (f"best/{objective}", objective)]


def missing(rows: Iterable[Row], runs: Iterable[Booked]) -> list[Row]:
    """Return the trials that have ended and have no run: killed between the two."""
    known = {run.trial for run in runs}
    return [row for row in rows if run_end(row) is not None and row.number not in known]


def repair(
    rows: Sequence[Row],
    place: Place,
    scribe: Scribe,
    params_of: Callable[[Row], Mapping[str, Scalar]],
) -> int:
    """Give a run to each trial that has ended without one, and return how many those are.

    MLflow is asked only where the study has trials. One whose journal is still there is not
    missing: it is recorded from that.

    Args:
        rows: The study's trials, read before this driver took any.
        place: Where its runs belong.
        scribe: Brings them there.
        params_of: Returns the flattened configuration of a trial.
    """
    if not any(run_end(row) for row in rows):
        return 0
    runs = scribe.books(place.uid, ())
    lacking = [row for row in missing(rows, runs) if not has_begun(place.trial_folder(row.number))]
    record_missing(lacking, place, scribe, params_of)
    return len(lacking)


def record_missing(
    rows: Iterable[Row],
    place: Place,
    scribe: Scribe,
    params_of: Callable[[Row], Mapping[str, Scalar]],
) -> None:
    """Write a journal for each trial from what the study knows of it, and send it."""
    for row in rows:
        folder = place.trial_folder(row.number)
        create_folder(folder)
        with closing(Journal(folder)) as journal:
            _write_journal(journal, row, place, params_of(row))
        scribe.end(folder, lost=False, forget=True)


def _write_journal(journal: Journal, row: Row, place: Place, params: Mapping[str, Scalar]) -> None:
    began, ended = _milliseconds(row.started), _milliseconds(row.ended)
    journal.begin(
        Header(
            name=trial_name(place.name, row.number),
            experiment=place.experiment,
            uri=place.uri,
            params=params,
            tags={**trial_tags(place.name, place.uid, row.number), "pipeline.repaired": "true"},
            parent_folder=str(place.folder.absolute()),
            key=trial_key(place.name, place.uid, row.number),
        ),
        at=began,
    )
    values = {f"best/{name}": v for name, v in zip(place.objectives, row.values, strict=False)}
    values |= {k: float(v) for k, v in row.attributes.items() if _is_number(v) and "/" in k}
    journal.epoch(int(row.attributes.get("epochs", 0)), values, at=ended)
    status, reason = run_end(row) or ("FAILED", "lost")
    journal.end(status, reason, at=ended)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _of_trial(row: Row, runs: Sequence[Booked], objectives: Sequence[str]) -> Iterator[str]:
    end = run_end(row)
    if not runs:
        if end is not None:
            yield f"trial {row.number} ({_said(row)}) has no run"
        return
    if len(runs) > 1:
        ids = ", ".join(run.run_id for run in runs)
        yield f"trial {row.number} ({_said(row)}) has {len(runs)} runs: {ids}"
        return
    (run,) = runs
    wanted = ("RUNNING", None) if end is None else end
    if (run.status, run.end_reason) != wanted:
        yield (
            f"trial {row.number} ({_said(row)}) should have a run that is {_ended(*wanted)}; "
            f"run {run.run_id} is {_ended(run.status, run.end_reason)}"
        )
    if row.state == "complete":
        yield from _values(row, run, objectives)


def _values(row: Row, run: Booked, objectives: Sequence[str]) -> Iterator[str]:
    for name, value in zip(objectives, row.values, strict=False):
        held = [run.metrics[key] for key in metric_names([name]) if key in run.metrics]
        if not held:
            yield f"trial {row.number} has {name}={value}; run {run.run_id} has no such value"
        elif not any(math.isclose(value, one, rel_tol=1e-9) for one in held):
            yield f"trial {row.number} has {name}={value}; run {run.run_id} has {held[0]}"


def _said(row: Row) -> str:
    return f"{row.state}, {row.reason}" if row.reason not in (None, row.state) else row.state


def _ended(status: str, reason: str | None) -> str:
    return status if reason is None else f"{status}, {reason}"
