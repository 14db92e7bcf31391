"""What MLflow has on record of a study's trials. Nothing here imports MLflow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDY_TAG = "pipeline.study"
TRIAL_TAG = "pipeline.trial"
END_TAG = "end_reason"
PARENT_TAG = "mlflow.parentRunId"
"""Folds a run under another one in MLflow's pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """The run of one trial.

    Args:
        trial: Number of the trial.
        run_id: MLflow's id of the run.
        status: RUNNING, FINISHED, FAILED or KILLED.
        end_reason: Why it ended early; `None` where it did not.
        metrics: The latest values of those that were asked for, as far as it has them.
    """

    trial: int
    run_id: str
    status: str
    end_reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def booked(runs: "Iterable[Run]", metrics: Iterable[str]) -> list[Booked]:
    """Return what runs say about their trials; one without a number is the study's own."""
    wanted = list(metrics)
    return [
        Booked(
            trial=int(run.data.tags[TRIAL_TAG]),
            run_id=run.info.run_id,
            status=run.info.status,
            end_reason=run.data.tags.get(END_TAG),
            metrics={key: run.data.metrics[key] for key in wanted if key in run.data.metrics},
        )
        for run in runs
        if run.data.tags.get(TRIAL_TAG, "").isdigit()
    ]
