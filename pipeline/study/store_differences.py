"""What differs between the trials of a study and their runs in MLflow."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from pipeline.study.ledger.rows import Row
from pipeline.tracking.fields import MlflowTrial


def metric_names(objectives: Iterable[str]) -> list[str]:
    """Return the names of the metrics that may hold the value of an objective in a run."""
    names = []
    for objective in objectives:
        names += [f"best/{objective}", objective]
    return names


def differences(
    rows: Iterable[Row], runs: Iterable[MlflowTrial], objectives: Sequence[str] = ()
) -> list[str]:
    """Return one line for each difference between a study's trials and their runs in MLflow.

    A waiting trial has no run, and a running trial may not have its run yet. The runs have to be
    read with the metrics of `metric_names(objectives)`.
    """
    by_trial: dict[int, list[MlflowTrial]] = defaultdict(list)
    for run in runs:
        by_trial[run.trial].append(run)
    lines: list[str] = []
    for row in sorted(rows, key=lambda row: row.number):
        lines += _trial_differences(row, by_trial.pop(row.number, []), objectives)
    for number, runs_without_trial in sorted(by_trial.items()):
        for run in runs_without_trial:
            lines.append(f"run {run.run_id} is of trial {number}, which is not in the study")
    return lines


def _trial_differences(
    row: Row, runs: Sequence[MlflowTrial], objectives: Sequence[str]
) -> Iterator[str]:
    reason = None if row.end is None else row.end.reason
    trial = f"trial {row.number} ({_words(row.stage, reason)})"
    if not runs:
        if row.end is not None:
            yield f"{trial} has no run"
        return
    if len(runs) > 1:
        yield f"{trial} has {len(runs)} runs: {', '.join(run.run_id for run in runs)}"
        return
    (run,) = runs
    status = "RUNNING" if row.end is None else row.end.status
    if run.status != status or run.end_reason != reason:
        yield (
            f"{trial} should have a run that is {_words(status, reason)}; "
            f"run {run.run_id} is {_words(run.status, run.end_reason)}"
        )
    for name, value in zip(objectives, row.values, strict=False):
        metrics = [run.metrics[key] for key in metric_names([name]) if key in run.metrics]
        if not metrics:
            yield f"trial {row.number} has {name}={value}; run {run.run_id} has no such value"
        elif not any(math.isclose(value, metric, rel_tol=1e-9) for metric in metrics):
            yield f"trial {row.number} has {name}={value}; run {run.run_id} has {metrics[0]}"


def _words(state: str, reason: str | None) -> str:
    return state if reason in (None, state) else f"{state}, {reason}"
