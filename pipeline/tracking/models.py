"""Logging a run's model in MLflow, in a form that MLflow can serve, and registering it."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import filelock
import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.models.signature import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType
from pydantic import ConfigDict, PositiveInt, TypeAdapter

from pipeline import __version__
from pipeline.base.paths import cache_folder, create_folder
from pipeline.base.redaction import redact
from pipeline.base.regular_files import read_json
from pipeline.base.terminal import number
from pipeline.serving.files import CODE, EXAMPLE, FILE, FOLDER, INTERFACE
from pipeline.tracking.fields import MODEL_TAG
from pipeline.tracking.folders import State
from pipeline.tracking.journal_events import Header, ModelScore
from pipeline.tracking.mlflow_store import SERVED_ARTIFACTS, Store, create_private
from pipeline.tracking.uri import FOREIGN_ANSWER, StoreError

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

PYFUNC = Path(__file__).with_name("pyfunc_model.py")
#: Key of the packages whose classes a model may name; they were trusted in training.
TRUST = "trust"
NEEDED = ("torch", "numpy", "omegaconf", "pydantic", "annotated-types", "pandas", "pyarrow")

CHAMPION = "champion"
DECISION_TAG = "pipeline.decision"
LOCK_SECONDS = 60.0


def log_and_register(
    store: Store, folder: Path, state: State, *, begin: Header, figure: ModelScore, has_code: bool
) -> str | None:
    """Log the model in a run's folder and register it; each step is done only once.

    `begin` is the last beginning in the journal. Without `has_code`, the code of the user's own
    network is left out, which would run where MLflow loads the model. Returns the decision about
    the version and the reason in one line; `None` if no registration was asked for. Raises
    StoreError if the model can't be read, or if the store refuses it or does not answer.
    """
    file = folder / FOLDER / FILE
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise StoreError("refused", f"{str(file)!r} can't be sent ({error.strerror})") from error
    with store.client() as client:
        condition = f"source_run_id = '{state.run_id}' AND tags.`{MODEL_TAG}` = '{digest}'"
        models = client.search_logged_models([state.experiment_id], condition)
        if models:
            model = models[0]
        else:
            model = client.create_logged_model(
                state.experiment_id, FOLDER, state.run_id, tags={MODEL_TAG: digest}
            )
            client.log_outputs(state.run_id, [LoggedModelOutput(model.model_id, step=0)])
        if model.status != LoggedModelStatus.READY:  # a kill may have left it incomplete
            with TemporaryDirectory() as temporary:
                copy = Path(temporary) / FOLDER
                trust = begin.trust if has_code else ()
                code = folder / CODE if has_code else None
                _write_for_mlflow(copy, folder, model, trust, code)
                create_private(model.artifact_location)
                client.log_model_artifacts(model.model_id, str(copy))
            if model.artifact_location.startswith(SERVED_ARTIFACTS):
                artifacts = client.list_logged_model_artifacts(model.model_id)
                if MLMODEL_FILE_NAME not in {artifact.path for artifact in artifacts}:
                    raise MlflowException(FOREIGN_ANSWER)
            model = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return None if begin.register is None else register(store, begin.register, model, figure)


def _write_for_mlflow(
    target: Path, run: Path, model: LoggedModel, trust: Sequence[str], code: Path | None
) -> None:
    """Write the model in MLflow's layout. Nothing is pickled, and no code of the model is run."""
    source = run / FOLDER
    interface, example = _interface_and_example(source)
    try:
        paths = []
        if code is not None and code.is_dir():
            paths = sorted(str(path.absolute()) for path in code.iterdir())
        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(PYFUNC),
            artifacts={FOLDER: str(source.absolute())},
            code_paths=paths or None,
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=model.source_run_id,
                model_id=model.model_id,
            ),
            signature=signature(interface),
            input_example=example,
            pip_requirements=requirements(interface["kind"]),
            model_config={TRUST: list(trust)},
            metadata={"pipeline": __version__},
        )
    except OSError as error:
        raise StoreError("unwritable", f"the model of {run} can't be read ({error})") from error
    except Exception as error:  # whatever goes wrong here, the run itself is sound
        line = " ".join(str(error).split())
        raise StoreError("refused", f"MLflow rejected the model: {line[:300]}") from error


def _interface_and_example(
    source: Path,
) -> "tuple[Mapping[str, Any], pd.DataFrame | np.ndarray[Any, Any]]":
    """Return what the files beside a model say of its inputs and outputs, and example rows.

    Raises:
        StoreError: A file can't be read, or the two describe no rows of a model. A shape alone
            could ask for any amount of memory, so the example has to have it.
    """
    try:
        interface = read_json(source / INTERFACE)
        _INTERFACE.validate_python(interface)
        example = input_example(read_json(source / EXAMPLE), interface)
        inputs = interface["inputs"]
        if isinstance(inputs, Mapping) and list(example.shape[1:]) != inputs["shape"]:
            raise ValueError(f"the example has rows of shape {example.shape[1:]}")
    except OSError as error:
        raise StoreError("unwritable", f"the model of {source} can't be read ({error})") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise StoreError(
            "refused",
            f"{str(source / INTERFACE)!r} or {EXAMPLE} is damaged: they describe no rows of a "
            "model, so MLflow gets the run without it",
        ) from error
    return interface, example


def warm_up() -> None:
    """Save an empty model, since MLflow reads the metadata of all packages for its first one."""
    with suppress(Exception), TemporaryDirectory() as temporary:  # a real model reports the error
        mlflow.pyfunc.save_model(
            str(Path(temporary) / FOLDER),
            python_model=str(PYFUNC),
            pip_requirements=requirements(""),
        )


def requirements(kind: str) -> list[str]:
    """Return the packages that a kind of model needs; this one is on no index and left out."""
    names = (*NEEDED, "pillow") if kind == "images" else NEEDED
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in names]


# ── the interface as MLflow describes it ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceColumn:
    """A column of a model's inputs or outputs in `interface.json`."""

    name: str
    type: Literal["string", "double", "binary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceArray:
    """Rows of arrays in `interface.json`."""

    shape: tuple[PositiveInt, ...]
    dtype: Literal["float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What `interface.json` holds."""

    __pydantic_config__ = ConfigDict(defer_build=True)

    kind: str
    inputs: tuple[InterfaceColumn, ...] | InterfaceArray
    outputs: tuple[InterfaceColumn, ...]


_INTERFACE = TypeAdapter(Interface)


def signature(interface: Mapping[str, Any]) -> ModelSignature:
    """Return MLflow's signature of the inputs and outputs that `interface.json` describes."""
    inputs = interface["inputs"]
    if not isinstance(inputs, Mapping):
        input_schema = Schema([ColSpec(_type(column["type"]), column["name"]) for column in inputs])
    # If the signature says double, MLflow refuses float32 and integers. Columns without names
    # accept an array, nested lists or a DataFrame of any numbers; an object array accepts any
    # array.
    elif len(inputs["shape"]) == 1:
        input_schema = Schema([ColSpec(_type(inputs["dtype"])) for _ in range(inputs["shape"][0])])
    else:
        input_schema = Schema([TensorSpec(np.dtype("object"), (-1,))])
    outputs = interface["outputs"]
    output_schema = Schema(
        [ColSpec(DataType[column["type"]], column["name"]) for column in outputs]
    )
    return ModelSignature(inputs=input_schema, outputs=output_schema)


def input_example(
    rows: Sequence[Any], interface: Mapping[str, Any]
) -> "pd.DataFrame | np.ndarray[Any, Any]":
    """Return the rows of `example.json` in the form in which MLflow passes rows to a model."""
    if isinstance(interface["inputs"], Mapping):
        return np.asarray(rows, dtype=interface["inputs"]["dtype"])
    import pandas as pd

    return pd.DataFrame(list(rows), columns=[column["name"] for column in interface["inputs"]])


def _type(name: str) -> DataType | AnyType:
    # MLflow refuses integers for a double and numbers for a string, so the training file as read by
    # `pandas.read_csv` would be refused. The model itself checks every cell.
    return DataType.binary if name == "binary" else AnyType()  # type: ignore[no-untyped-call] # MLflow's own


# ── the registry ────────────────────────────────────────────────────────────────────────────────


def register(store: Store, name: str, model: LoggedModel, figure: ModelScore) -> str:
    """Register a run's model as a version, which becomes champion if its score is better.

    Returns the decision and its reason. It is made only once, so an alias that a person has moved
    stays.
    """
    with _registration_lock(store, name), store.client() as client:
        version = _version_of(client, name, model)
        if version is None:
            if store.call_or_none(lambda client: client.get_registered_model(name)) is None:
                client.create_registered_model(name)
            tags = version_tags(figure)
            tags |= {"run": str(model.source_run_id), MODEL_TAG: model.model_id}
            version = client.create_model_version(
                name,
                model.artifact_location,
                model.source_run_id,
                tags,
                await_creation_for=0,
                model_id=model.model_id,
            )
        if DECISION_TAG in version.tags:
            return str(version.tags[DECISION_TAG])
        version_number = str(version.version)
        champion = client.get_registered_model(name).aliases.get(CHAMPION)
        if champion is None or str(champion) == version_number:
            becomes_champion, reason = verdict(figure, None, None)
        else:
            champion_tags = client.get_model_version(name, str(champion)).tags
            becomes_champion, reason = verdict(figure, champion_tags, str(champion))
        if becomes_champion:
            client.set_registered_model_alias(name, CHAMPION, version_number)
            if str(client.get_registered_model(name).aliases.get(CHAMPION)) != version_number:
                raise MlflowException(FOREIGN_ANSWER)
        line = f"registered as {name} v{version_number}{reason}"
        client.update_model_version(name, version_number, description=line)
        client.set_model_version_tag(name, version_number, DECISION_TAG, line)
        if client.get_model_version(name, version_number).tags.get(DECISION_TAG) != line:
            raise MlflowException(FOREIGN_ANSWER)
        return line


def _version_of(client: "MlflowClient", name: str, model: LoggedModel) -> "ModelVersion | None":
    """Return the version of a registered name that holds a logged model."""
    for version in client.search_model_versions(f"run_id = '{model.source_run_id}'"):
        if version.name == name and version.tags.get(MODEL_TAG) == model.model_id:
            return version
    return None


@contextmanager
def _registration_lock(store: Store, name: str) -> Iterator[None]:
    """Lock a registered name on this machine, since MLflow can't compare and set in one step."""
    key = hashlib.sha256(f"{redact(store.uri)} {name}".encode()).hexdigest()[:16]
    folder = cache_folder() / "locks"
    try:
        create_folder(folder)
        with filelock.FileLock(folder / f"register-{key}", timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        line = f"another process is registering {name!r} and has not ended"
        raise StoreError("locked", line) from error
    except OSError as error:
        raise StoreError(
            "unwritable",
            f"{str(folder)!r} can't be written ({error.strerror}); set XDG_CACHE_HOME to another "
            "folder",
        ) from error


def version_tags(figure: ModelScore) -> dict[str, str]:
    """Return a score as tags of a registered version."""
    tags = {"data.hash": figure.data}
    if figure.monitor is not None:
        tags["monitor"] = str(figure.monitor)
    if figure.value is not None:
        tags["value"] = str(figure.value)
    return tags


def verdict(
    figure: ModelScore, champion_tags: Mapping[str, str] | None, champion: str | None
) -> tuple[bool, str]:
    """Decide whether a new version becomes champion; the reason is the end of a sentence.

    `champion_tags` are the tags of the current champion, which is version `champion`; both are
    `None` if there is no champion.
    """
    if champion_tags is None:
        return True, " (champion)"
    champion_value = math.nan
    with suppress(KeyError, ValueError):  # a person may have changed the tags
        champion_value = float(champion_tags["value"])
    data = champion_tags.get("data.hash", "")
    monitor = champion_tags.get("monitor")
    if figure.data != data:
        data_hash = data[:12] or "unknown"
        reason = f"it was trained on other data ({data_hash}, here {figure.data[:12]})"
    elif figure.monitor != monitor and monitor:
        reason = f"it was selected by {monitor}, not by {figure.monitor}"
    elif figure.monitor != monitor:
        reason = f"it has no monitored metric, here {figure.monitor}"
    elif figure.value is None or not math.isfinite(champion_value):
        reason = f"{figure.monitor} is missing for one; it needs validation rows"
    else:
        new = number(figure.value)
        old = number(champion_value)
        if new == old and figure.value != champion_value:
            new = repr(figure.value)
            old = repr(champion_value)
        if figure.better == "max":
            is_better = figure.value > champion_value
        else:
            is_better = figure.value < champion_value
        if is_better:
            reason = f"{figure.monitor} {new} against {old}"
            return True, f" (champion instead of v{champion}): {reason}"
        reason = f"{figure.monitor} {old} against {new} here"
    return False, f"; champion is still v{champion}: {reason}"
