"""Trained models by `model_from=`: a run, a folder or file, or an address of MLflow's registry."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.base.errors import ConfigError
from pipeline.base.regular_files import require_plain_folder
from pipeline.base.terminal import waiting_for
from pipeline.config.options import TrackingOptions
from pipeline.serving.files import model_file
from pipeline.tracking.folders import LAST, find_run
from pipeline.tracking.run_record import JOURNAL
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.serving.model import Model

_ADDRESS = re.compile(r"(models|runs):/.+")

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_model(
    reference: str, output: Path, tracking: TrackingOptions, *, key: str = "output"
) -> Path:
    """Return the folder or file that a trained model is read from.

    Args:
        reference: What `find_run` takes, a folder or file that holds a model, or MLflow's own
            address of a model, `models:/NAME@champion`.
        output: The folder that contains a folder for each run.
        tracking: Where runs and registered models are on record.
        key: Name of `output` in the command's options, for messages.

    Raises:
        ConfigError: No run or model has this name.
        EnvironmentFaultError: MLflow is needed and does not answer.
    """
    path = Path(reference)
    if not _ADDRESS.fullmatch(reference):
        if reference != LAST and _may_hold_model(path):
            if path.is_dir():
                require_plain_folder(path.resolve())  # the user may name it by a link
            return path
        try:
            return find_run(reference, output, key=key, preferred=_holds_model)
        except ConfigError:
            if path.is_dir():
                return model_file(path)  # its error says what the folder lacks
            if tracking.kind == "none" or not _RUN_ID.fullmatch(reference):
                raise
    from pipeline.tracking.fetch import fetched

    return fetched(reference, tracking_uri(tracking))  # the folder is gone or on another machine


def _may_hold_model(path: Path) -> bool:
    """Return whether a path is a file, the folder of a run, or a folder with a model."""
    if path.is_file() or (path / JOURNAL).exists():
        return True
    return path.is_dir() and _holds_model(path)


def _holds_model(folder: Path) -> bool:
    with suppress(ConfigError):
        return model_file(folder).is_file()
    return False


def may_be_in_mlflow(reference: str) -> bool:
    """Return whether a reference is MLflow's address of a model, or the whole id of a run."""
    return bool(_ADDRESS.fullmatch(reference) or _RUN_ID.fullmatch(reference))


def load_model(
    reference: str,
    runs: Path,
    tracking: TrackingOptions,
    *,
    trust: Sequence[str],
    verbose: int | None = None,
) -> "Model":
    """Load the trained model that `find_model` finds."""
    path = find_model(reference, runs, tracking, key="runs")
    with waiting_for("loading the model", verbose):
        from pipeline.serving.model import Model  # torch comes with it

        return Model.load(path, trust=trust)
