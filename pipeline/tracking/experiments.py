"""The MLflow experiment that runs belong to, and where it keeps their files."""

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.tracking.faults import StoreError, named
from pipeline.tracking.fields import field_name
from pipeline.tracking.uri import sqlite_path

ARTIFACTS = "mlartifacts"
TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow's pages open on what it offers for language models, not on the runs."""


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, created where it is missing; never MLflow's own 0.

    Raises:
        StoreError: It has been deleted, or is MLflow's own.
    """
    found = _find(client, uri, name) or _create(client, uri, name)
    if found == "0":
        raise StoreError(
            "refused",
            f"tracking.experiment={name!r} is MLflow's own, which can't hold artifacts here; "
            "choose another name",
        )
    return found


def local_files(uri: str, run_id: str, artifact_uri: str) -> Path | None:
    """Return the folder of a run's files where they lie beside an SQLite database of ours."""
    database = sqlite_path(uri)
    if database is None or not artifact_uri.startswith("file:"):
        return None
    folder = Path(url2pathname(urlsplit(artifact_uri).path)).parent
    inside = folder.is_relative_to(database.parent / ARTIFACTS) and folder.name == run_id
    return folder if inside else None


def _find(client: MlflowClient, uri: str, name: str) -> str | None:
    found = client.get_experiment_by_name(name)
    if found is None:
        return None
    if found.lifecycle_stage == "deleted":
        raise StoreError(
            "deleted",
            f"tracking.experiment={name!r} has been deleted in {named(uri)}; choose "
            f"another, or type: mlflow experiments restore -x {found.experiment_id}",
        )
    return str(found.experiment_id)


def _create(client: MlflowClient, uri: str, name: str) -> str:
    path = sqlite_path(uri)
    location = None if path is None else (path.parent / ARTIFACTS / field_name(name)).as_uri()
    try:
        return str(client.create_experiment(name, location, tags=TAGS))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _find(client, uri, name) or ""
