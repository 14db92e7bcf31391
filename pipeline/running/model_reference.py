"""Finds the trained model that a person names: `model_from=RUN`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError
from pipeline.serving.files import model_file
from pipeline.tracking.folders import LAST, find_run
from pipeline.tracking.journal import JOURNAL
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.serving.model import Model

_ADDRESS = re.compile(r"(models|runs):/.+")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def found_model(
    reference: str, output: Path, tracking: TrackingOptions, *, key: str = "output"
) -> Path:
    """Return the folder, or the file, that a trained model is read from.

    Args:
        reference: A run's or a trial's folder (its path, or its name below `output`), a folder or
            file that holds a model, an MLflow run id or its beginning, `last` for the newest
            training run, or MLflow's own address of a model, `models:/NAME@champion`.
        output: The folder that holds a folder for each run.
        tracking: Where runs and registered models are on record.
        key: What the command calls the folder of runs.

    Raises:
        ConfigError: No run or model is called so, or several are.
        EnvironmentFaultError: MLflow is asked and does not answer.
    """
    if _ADDRESS.fullmatch(reference):
        return _fetched(reference, tracking)
    if reference != LAST and _is_model(Path(reference)):
        return Path(reference)
    try:
        return find_run(reference, output, key=key)
    except ConfigError:
        if Path(reference).is_dir():
            return model_file(Path(reference))  # which says what such a folder lacks
        if tracking.kind == "none" or not _RUN_ID.fullmatch(reference):
            raise
        return _fetched(reference, tracking)  # its folder is gone, or on another machine


def may_be_in_mlflow(reference: str) -> bool:
    """Tell MLflow's own address of a model, and the whole id of a run, from what lies here."""
    return any(pattern.fullmatch(reference) for pattern in (_ADDRESS, _RUN_ID))


def loaded_model(
    reference: str, runs: Path, tracking: TrackingOptions, *, trust: Sequence[str]
) -> "Model":
    """Return the trained model that is named, ready to answer.

    Args:
        reference: As `found_model` takes it.
        runs: The folder that holds a folder for each run.
        tracking: Where runs and registered models are on record.
        trust: Packages whose classes its config may name.

    Raises:
        ConfigError: It is not found, or can't be loaded.
        EnvironmentFaultError: MLflow is asked and does not answer.
    """
    from pipeline.serving.model import Model  # torch comes with it

    return Model.load(found_model(reference, runs, tracking, key="runs"), trust=trust)


def _is_model(place: Path) -> bool:
    """Tell whether a path is a model by itself: a file, a run, or a folder with a model in it."""
    if not place.is_dir():
        return place.is_file()
    if (place / JOURNAL).is_file():
        return True
    try:
        model_file(place)
    except ConfigError:
        return False
    return True


def _fetched(reference: str, tracking: TrackingOptions) -> Path:
    from pipeline.tracking.fetch import fetched

    return fetched(reference, tracking_uri(tracking))
