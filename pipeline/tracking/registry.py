"""MLflow's registry: each registered run is a version, the best on its data the champion."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import filelock
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.paths import cache_folder, create_folder
from pipeline.redaction import redact
from pipeline.tracking.faults import StoreError
from pipeline.tracking.figure import Figure, verdict
from pipeline.tracking.store import Store

CHAMPION = "champion"
MODEL_TAG = "pipeline.model"
"""Names the logged model of a version: MLflow's own field is empty in some stores."""
DECISION_TAG = "pipeline.decision"
LOCK_SECONDS = 60.0


def register(store: Store, name: str, model: LoggedModel, figure: Figure) -> str:
    """Make a run's model a version of a registered one, and champion where it is better.

    What was decided before is only told again, so an alias that a person has moved stays.

    Args:
        store: Where the model is logged.
        name: Of the registered model; made where it is missing.
        model: Logged before.
        figure: What it is compared by.

    Returns:
        One line for people: what was decided, and why.

    Raises:
        StoreError: The store refuses it or does not answer.
    """
    with _alone(store, name), store.client() as client:
        version = _version_of(client, name, model) or _created(client, name, model, figure)
        if DECISION_TAG in version.tags:
            return str(version.tags[DECISION_TAG])
        return _decided(client, name, version, figure)


def _decided(client: MlflowClient, name: str, version: ModelVersion, mine: Figure) -> str:
    """Move the alias or leave it where it is, and note on the version why."""
    own, now = str(version.version), champion_of(client, name)
    other = None if now is None or now == own else _figure(client, name, now, mine)
    takes, why = verdict(mine, other, now)
    if takes:
        client.set_registered_model_alias(name, CHAMPION, own)
    line = f"{name} version {own} is registered{why}"
    client.update_model_version(name, own, description=line)
    client.set_model_version_tag(name, own, DECISION_TAG, line)
    return line


def _figure(client: MlflowClient, name: str, version: str, mine: Figure) -> Figure:
    return Figure.of(client.get_model_version(name, version).tags, better=mine.better)


def champion_of(client: MlflowClient, name: str) -> str | None:
    """Return the version that is champion; `None` = none is."""
    found = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if found is None else str(found)


def _version_of(client: MlflowClient, name: str, model: LoggedModel) -> ModelVersion | None:
    """Return the version that was made of a model before."""
    if model.source_run_id is None:
        return None
    versions = client.search_model_versions(f"run_id = '{model.source_run_id}'")
    own = (v for v in versions if v.name == name and v.tags.get(MODEL_TAG) == model.model_id)
    return next(own, None)


def _created(client: MlflowClient, name: str, model: LoggedModel, figure: Figure) -> ModelVersion:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        source=model.artifact_location,
        run_id=model.source_run_id,
        tags={**figure.tags(), "run": str(model.source_run_id), MODEL_TAG: model.model_id},
        model_id=model.model_id,
        await_creation_for=0,
    )


@contextmanager
def _alone(store: Store, name: str) -> Iterator[None]:
    """Let nobody else on this machine decide about a name: MLflow can't compare and set at once."""
    key = hashlib.sha256(f"{redact(store.uri)} {name}".encode()).hexdigest()[:16]
    folder = cache_folder() / "locks"
    try:
        create_folder(folder)
        with filelock.FileLock(folder / f"register-{key}", timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        line = f"another process registers {name!r} and does not end"
        raise StoreError("locked", line) from error
    except OSError as error:
        line = (
            f"{str(folder)!r} can't be written ({error.strerror}); name another cache folder in "
            "XDG_CACHE_HOME"
        )
        raise StoreError("unwritable", line) from error
