"""Puts a file on a run that MLflow has, once the run is over. Nothing here imports MLflow."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config.options import TrackingOptions
from pipeline.tracking.faults import StoreError
from pipeline.tracking.quiet import quiet_mlflow
from pipeline.tracking.state import read_state
from pipeline.tracking.uri import tracking_uri


def attach(folder: Path, file: Path, options: TrackingOptions, *, name: str) -> str | None:
    """Put a file among the artifacts of a folder's run, in place of one of its name.

    Args:
        folder: The run's or the study's folder; one that MLflow does not have is left alone.
        file: What to put there.
        options: Name the store in force; a run that is recorded in another one is left alone.
        name: What the artifact is called.

    Returns:
        What was in the way, in one line; `None` = nothing.
    """
    state = read_state(folder)
    if not state.run_id:
        return None
    return attach_to(state.run_id, state.uri, file, options, name=name)


def attach_to(
    run_id: str, recorded: str, file: Path, options: TrackingOptions, *, name: str
) -> str | None:
    """Put a file on a run by its id, as `attach` does.

    Args:
        run_id: MLflow's id of the run.
        recorded: The store that has it, as it is on record: without its password.
        file: What to put there.
        options: Name the store in force.
        name: What the artifact is called.
    """
    quiet_mlflow()
    from pipeline.tracking.sync import StoreInForce

    try:
        store = StoreInForce(tracking_uri(options)).of(recorded)
        with TemporaryDirectory() as place:
            named = Path(place) / name  # an artifact is called as its file is
            shutil.copyfile(file, named)
            store.upload(run_id, named, "")
    except StoreError as error:
        return error.line
    except OSError as error:
        return f"{str(file)!r} can't be copied ({error.strerror})"
    return None
