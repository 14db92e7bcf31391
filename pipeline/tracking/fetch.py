"""Downloads from MLflow: a model into the cache, or some artifacts of a run."""

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.base.errors import ConfigError, EnvironmentFaultError, did_you_mean, some
from pipeline.base.paths import cache_folder, create_folder, shortage
from pipeline.base.redaction import redact
from pipeline.serving.files import model_file
from pipeline.tracking.fields import MODEL_TAG
from pipeline.tracking.sync import opened_store
from pipeline.tracking.uri import named, sqlite_path

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run

    from pipeline.tracking.mlflow_store import Store

_REFERENCE = re.compile(
    r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))"
    r"|models:/(?P<model>m-[0-9a-f]+)|(?:runs:/)?(?P<run>[0-9a-f]{4,32})(?:/model)?"
)
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")
#: URL schemes that name a server, which then receives the login of the tracking server.
_HOSTS = ("http", "https", "mlflow-artifacts")
SHOWN = 8

#: Address of a model's files, and the SHA-256 of its weights (`None` if it is not on record).
Source = tuple[str, str | None]


def fetched_run(run_id: str, uri: str, artifacts: Sequence[str], into: Path) -> "Run":
    """Return a run of MLflow, and download some of its artifacts.

    Args:
        run_id: The whole id of the run.
        uri: Address of the store.
        artifacts: Names of artifacts; those that the run lacks are skipped.
        into: Folder for the artifacts.

    Raises:
        ConfigError: The run or the database does not exist.
        EnvironmentFaultError: MLflow does not answer, or the download fails.
    """
    _require_database(f"run {run_id!r}", uri)
    with opened_store(uri) as store:
        run = store.run(run_id)
        if run is None:
            raise ConfigError(f"run {run_id!r} is unknown in {named(uri)}")
        _require_own(store, f"run {run_id!r}", str(run.info.artifact_uri))
        with store.client() as client:
            for artifact in client.list_artifacts(run_id):
                if artifact.path in artifacts:
                    client.download_artifacts(run_id, artifact.path, str(into))
        return run


def fetched(reference: str, uri: str) -> Path:
    """Return the local folder of a model from MLflow, which is downloaded once and not executed.

    A model in the cache is identified by the store, the address of its files and their content.

    Args:
        reference: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-…`, or a run id or its
            beginning.
        uri: Address of the store.

    Raises:
        ConfigError: The model does not exist, its files are on another server, or its weights are
            not those that were logged.
        EnvironmentFaultError: MLflow does not answer, or the cache can't be written.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ConfigError(
            f"{reference!r} is not an MLflow model; expected models:/NAME@ALIAS, "
            "models:/NAME/VERSION, models:/m-… or an MLflow run id"
        )
    _require_database(repr(reference), uri)
    with opened_store(uri) as store:
        address, digest = _source(store, match)
        _require_own(store, repr(reference), address)
        if digest is not None:
            folder = _cache_folder(uri, address, digest)
            if _digest(folder) == digest:
                return folder
        return _download(store, reference, address, digest)


def _require_own(store: "Store", subject: str, address: str) -> None:
    """Raise ConfigError unless the files of a run or model at an address are the store's own.

    The address of a version may be set by whoever registers it, and that of a run by whoever
    creates its experiment. `Store.holds` says which addresses are own.
    """
    if store.holds(address):
        return
    if urlsplit(address).scheme in _HOSTS:
        raise ConfigError(
            f"the files of {subject} are on another server ({redact(address)}); set "
            "tracking.uri= to that server"
        )
    raise ConfigError(
        f"the files of {subject} are not in {named(store.uri)} ({redact(address)}); if you trust "
        "that place, download the folder yourself and give it as model_from=FOLDER"
    )


def _require_database(subject: str, uri: str) -> None:
    """Raise ConfigError if an SQLite database is missing: opening the store would create it."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        raise ConfigError(f"{subject} is unknown: {str(path)!r} does not exist")


# ── where a model lies ──────────────────────────────────────────────────────────────────────────


def _source(store: "Store", reference: re.Match[str]) -> Source:
    """Return the source of a model. Raises ConfigError, with known names, if there is none."""
    name = reference["name"]
    model_id = reference["model"]
    run_id = reference["run"]
    store_name = named(store.uri)
    if run_id or model_id:
        if model_id:
            model = store.call_or_none(lambda client: client.get_logged_model(model_id))
            if model is None:
                raise ConfigError(f"{store_name} has no model {model_id!r}")
        else:
            model = _newest_of_run(store, run_id)
        return str(model.artifact_location), model.tags.get(MODEL_TAG)
    registered = store.call_or_none(lambda client: client.get_registered_model(name))
    if registered is None:
        with store.client() as client:
            names = [model.name for model in client.search_registered_models(max_results=1000)]
        raise ConfigError(
            f"no model is registered as {name!r} in {store_name}; known: {_some(names)}."
            f"{did_you_mean(name, names)}"
        )
    alias = reference["alias"]
    if not alias:
        return _source_of_version(store, name, reference["version"])
    aliases = registered.aliases
    if alias not in aliases:
        raise ConfigError(
            f"{name!r} has no alias {alias!r} in {store_name}; it has {_some(aliases)}."
            f"{did_you_mean(alias, aliases)}"
        )
    return _source_of_version(store, name, str(aliases[alias]))


def _source_of_version(store: "Store", name: str, number: str) -> Source:
    """Return the source of a version; its tags are not trusted, since anybody may copy them."""
    version = store.call_or_none(lambda client: client.get_model_version(name, number))
    if version is None:
        with store.client() as client:
            versions = client.search_model_versions(f"name = '{name}'")
        numbers = sorted((str(version.version) for version in versions), key=int)
        raise ConfigError(
            f"{name!r} has no version {number} in {named(store.uri)}; it has {_some(numbers)}"
        )
    source = str(version.source)
    model_id = str(version.model_id or version.tags.get(MODEL_TAG) or "")
    if _MODEL_ID.fullmatch(model_id):
        model = store.call_or_none(lambda client: client.get_logged_model(model_id))
        if model is not None and source in (model.artifact_location, f"models:/{model_id}"):
            return str(model.artifact_location), model.tags.get(MODEL_TAG)
    return source, None


def _newest_of_run(store: "Store", beginning: str) -> "LoggedModel":
    """Return the newest complete model of a run, given by the beginning of its id."""
    runs = store.beginning(beginning)
    if len(runs) != 1:
        ids = [str(run.info.run_id)[:12] for run in runs]
        problem = f"matches several ids: {_some(ids)}" if ids else "is unknown"
        raise ConfigError(f"run {beginning!r} {problem} in {named(store.uri)}")
    condition = f"source_run_id = '{runs[0].info.run_id}'"
    with store.client() as client:
        models = client.search_logged_models([runs[0].info.experiment_id], condition)
    complete_models = [model for model in models if model.status == "READY"]
    if not complete_models:
        raise ConfigError(f"run {beginning!r} has no model in {named(store.uri)}")
    return max(complete_models, key=lambda model: model.creation_timestamp)


def _some(names: Iterable[str]) -> str:
    return some(list(names), most=SHOWN) or "none"


# ── the cache ───────────────────────────────────────────────────────────────────────────────────


def _cache_folder(uri: str, address: str, digest: str) -> Path:
    """Return the cache folder for weights from an address; a link out of the cache is refused."""
    key = hashlib.sha256("\n".join((redact(uri), address, digest)).encode()).hexdigest()[:32]
    folder = cache_folder() / "models" / key
    if not folder.resolve().is_relative_to(cache_folder().resolve()):
        raise ConfigError(f"{str(folder)!r} points outside of the cache folder; remove it")
    return folder


def _digest(folder: Path) -> str | None:
    """Return the SHA-256 of a model's weights; `None` if there are none."""
    try:
        with model_file(folder).open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (ConfigError, OSError):
        return None


def _download(store: "Store", reference: str, address: str, digest: str | None) -> Path:
    """Download a model into the cache, all of its files or none, and return its folder."""
    import mlflow.artifacts

    models = cache_folder() / "models"
    store_name = named(store.uri)
    try:
        create_folder(models)
        temporary = Path(mkdtemp(prefix=".fetched.", suffix=".tmp", dir=models))
    except OSError as error:
        raise _unwritable(models, error) from error
    try:
        with store.client():
            mlflow.artifacts.download_artifacts(
                artifact_uri=address, dst_path=str(temporary), tracking_uri=store.uri
            )
        description = next(temporary.rglob("MLmodel"), None)
        downloaded = temporary if description is None else description.parent
        new_digest = _digest(downloaded)
        if new_digest is None:
            raise ConfigError(f"{reference!r} is not a model of this program in {store_name}")
        if digest not in (None, new_digest):
            raise ConfigError(
                f"the weights of {reference!r} in {store_name} have changed since they were "
                f"logged: their SHA-256 is {new_digest[:12]}… and was {digest[:12]}…; train the "
                "model again"
            )
        folder = _cache_folder(store.uri, address, new_digest)
        if _digest(folder) != new_digest:
            shutil.rmtree(folder, ignore_errors=True)  # it has been damaged since
        try:
            downloaded.replace(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process has fetched it meanwhile
                raise _unwritable(folder, error) from error
        return folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> EnvironmentFaultError:
    default = str(error.strerror), "make room, or set XDG_CACHE_HOME to another folder"
    reason, remedy = shortage(path, error.errno) or default
    return EnvironmentFaultError(f"{str(path)!r} can't be written ({reason}); {remedy}")
