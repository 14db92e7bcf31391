"""The model that a run leaves, logged in MLflow once, as one that MLflow can serve."""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model
from mlflow.tracking import MlflowClient

from pipeline import __version__
from pipeline.serving.files import CODE, EXAMPLE, FILE, FOLDER, INTERFACE
from pipeline.tracking.experiments import create_private
from pipeline.tracking.faults import StoreError
from pipeline.tracking.settling import Left
from pipeline.tracking.signature import input_example, signature
from pipeline.tracking.store import Store

PYFUNC = Path(__file__).with_name("pyfunc_model.py")
TRUST = "trust"
"""Key of the packages whose classes a model may name: they were trusted when it was trained."""
DIGEST_TAG = "pipeline.model"
NEEDED = ("torch", "numpy", "omegaconf", "pydantic", "annotated-types", "pandas", "pyarrow")
NEEDED_FOR_IMAGES = ("pillow",)


def logged_model(store: Store, left: Left) -> LoggedModel:
    """Return MLflow's model of a run, logged now unless it has been.

    What a kill has left half done is done again, in its place.

    Raises:
        StoreError: The store refuses it or does not answer, or it can't be prepared.
    """
    digest = _digest(left.folder / FOLDER / FILE)
    with store.client() as client:
        condition = f"source_run_id = '{left.run_id}' AND tags.`{DIGEST_TAG}` = '{digest}'"
        found = client.search_logged_models([left.experiment_id], filter_string=condition)
        model = found[0] if found else _created(client, left, digest)
        if model.status == LoggedModelStatus.READY:
            return model
        with TemporaryDirectory() as place:
            _prepare(Path(place) / FOLDER, left, model)
            create_private(model.artifact_location)
            client.log_model_artifacts(model.model_id, str(Path(place) / FOLDER))
        return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def models_of(store: Store, experiment_id: str, run_id: str) -> list[LoggedModel]:
    """Return the whole models of a run, the newest first."""
    with store.client() as client:
        found = client.search_logged_models(
            [experiment_id],
            filter_string=f"source_run_id = '{run_id}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
    return [model for model in found if model.status == LoggedModelStatus.READY]


def _created(client: MlflowClient, left: Left, digest: str) -> LoggedModel:
    model = client.create_logged_model(
        left.experiment_id, name=FOLDER, source_run_id=left.run_id, tags={DIGEST_TAG: digest}
    )
    client.log_outputs(left.run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def _prepare(place: Path, left: Left, model: LoggedModel) -> None:
    """Write the model as MLflow lays it out. Nothing is pickled, and nothing is run to look."""
    source = left.folder / FOLDER
    try:
        interface = _read(source / INTERFACE)
        mlflow.pyfunc.save_model(
            str(place),
            python_model=str(PYFUNC),
            artifacts={FOLDER: str(source.absolute())},
            code_paths=_own_code(left.folder) or None,
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=left.run_id,
                model_id=model.model_id,
            ),
            signature=signature(interface),
            input_example=input_example(_read(source / EXAMPLE), interface),
            pip_requirements=requirements(interface["kind"]),
            model_config={TRUST: list(left.trust)},
            metadata={"pipeline": __version__},
        )
    except OSError as error:
        raise StoreError(
            "unwritable", f"the model of {left.folder} can't be read ({error})"
        ) from error
    except Exception as error:  # whatever MLflow makes of it, the run itself is sound
        line = " ".join(str(error).split())
        raise StoreError("refused", f"MLflow can't take the model: {line[:300]}") from error


def requirements(kind: str) -> list[str]:
    """Return the packages that a model of a kind is answered with, in the installed versions.

    This program itself is none of them: an index has a stranger's package of its name.
    """
    names = (*NEEDED, *(NEEDED_FOR_IMAGES if kind == "images" else ()))
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


def _own_code(folder: Path) -> list[str]:
    code = folder / CODE
    return sorted(str(path.absolute()) for path in code.iterdir()) if code.is_dir() else []


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise StoreError("refused", f"{str(file)!r} can't be sent ({error.strerror})") from error
