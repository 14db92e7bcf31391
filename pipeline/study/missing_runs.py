"""Trials that have no run: how they are found, and how their runs are written."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from pipeline.base.ends import End
from pipeline.base.paths import TRIALS, entries
from pipeline.config.plain import Scalar
from pipeline.study.ledger.rows import Row
from pipeline.study.study_run import RunDestination
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.journal import Journal
from pipeline.tracking.run_record import RunRecord


def leftovers(study: Path) -> list[Path]:
    """Return the sorted trial folders of a study on which no process works any more.

    A folder with the journal of another run is left out.
    """
    records = map(RunRecord.read, entries(study / TRIALS))
    return [record.folder for record in records if record.is_trial and not record.is_training]


def record_missing(
    rows: Iterable[Row],
    destination: RunDestination,
    recorder: RecorderClient,
    params_of: Callable[[Row], Mapping[str, Scalar]],
) -> int:
    """Write a run for each trial that has ended without one, and return their number.

    A trial that still has a journal is skipped, since its run is recorded from that. `rows` are
    the trials from before this driver took any; `params_of` returns the flattened configuration
    of a trial.
    """
    ended = [row for row in rows if row.end is not None]
    recorded = recorder.trials(destination.uid) if ended else set()
    missing = []
    for row in ended:
        if row.number not in recorded:
            record = RunRecord.read(destination.trial_folder(row.number))
            if not record.has_begun:
                missing.append(row)
    for row in missing:
        write_run(row, destination, recorder, params_of(row))
    return len(missing)


def write_run(
    row: Row,
    destination: RunDestination,
    recorder: RecorderClient,
    params: Mapping[str, Scalar],
) -> None:
    """Write the journal of a trial that has none from its row, and send it to MLflow."""
    folder = destination.create_trial_folder(row.number)
    began = None if row.started is None else round(1000 * row.started)
    ended = None if row.ended is None else round(1000 * row.ended)
    values = {}
    for objective, value in zip(destination.objectives, row.values, strict=False):
        values[f"best/{objective.name}"] = value
    for key, value in row.attributes.items():
        if "/" in key and isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = float(value)
    with closing(Journal(folder)) as journal:
        tags = {"pipeline.repaired": "true"}
        journal.begin(destination.trial_header(row.number, params, **tags), at=began)
        journal.epoch(int(row.attributes.get("epochs", 0)), values, at=ended)
        journal.end(row.end or End.LOST, at=ended)
    recorder.deliver(folder, forget=True)
