"""The MLflow experiment that runs belong to, and where it keeps their files."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.paths import create_folder
from pipeline.tracking.faults import StoreError, named
from pipeline.tracking.fields import field_name
from pipeline.tracking.uri import DATABASE, is_server, sqlite_path

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
    """Return the folder of a run's files where they lie where `artifacts_folder` puts them."""
    if is_server(uri) or not artifact_uri.startswith("file:"):
        return None
    folder = Path(url2pathname(urlsplit(artifact_uri).path)).parent
    database = sqlite_path(uri)
    # Of a database on a server, an experiment may have been begun in another folder.
    ours = ARTIFACTS in folder.parts if database is None else _beside(database) in folder.parents
    return folder if ours and folder.name == run_id else None


def create_private(location: str) -> None:
    """Create a folder of our artifacts, which MLflow would create for all to read."""
    folder = Path(url2pathname(urlsplit(location).path))
    if location.startswith("file:") and ARTIFACTS in folder.parts:
        with suppress(OSError):  # MLflow says what is in the way
            create_folder(folder)


def artifacts_folder(uri: str, experiment: str) -> Path | None:
    """Return where a database's runs of a new experiment keep their files; a server knows itself.

    They lie beside a database that is a file. Those of a database on a server lie in the current
    folder of the first run of the experiment, which other machines need to reach by the same path.
    """
    if is_server(uri):
        return None
    return _beside(sqlite_path(uri) or Path.cwd() / DATABASE) / field_name(experiment)


def _beside(database: Path) -> Path:
    return database.parent / ARTIFACTS


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
    folder = artifacts_folder(uri, name)
    location = None if folder is None else folder.as_uri()
    try:
        return str(client.create_experiment(name, location, tags=TAGS))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return _find(client, uri, name) or ""
