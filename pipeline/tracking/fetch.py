"""Fetches a model that MLflow has into this user's cache folder."""

import hashlib
import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder, shortage
from pipeline.redaction import redact
from pipeline.serving.files import model_file
from pipeline.tracking.faults import named
from pipeline.tracking.opened import opened_store_at
from pipeline.tracking.uri import sqlite_path

if TYPE_CHECKING:
    from pipeline.tracking.lookup import Source
    from pipeline.tracking.store import Store

_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")
_HOSTS = ("http", "https", "mlflow-artifacts")
"""Kinds of addresses that name a server, which is sent the login of the tracking server."""
_RUN = re.compile(r"(?:runs:/)?(?P<id>[0-9a-f]{4,32})(?:/model)?")


def fetched(reference: str, uri: str) -> Path:
    """Return a folder on this machine with a model of MLflow's; downloaded once.

    Nothing of it is run: it holds weights and plain values, as the run had left them. What lies in
    the cache is bound to the store, to the address of the files there and to their content, so
    that nothing but the very model is taken from it.

    Args:
        reference: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-…`, or an MLflow run id
            or its beginning.
        uri: Address of the tracking server or database, absolute.

    Raises:
        ConfigError: There is no such model, its files lie on another server, or they are not
            those that were logged.
        EnvironmentFaultError: MLflow does not answer, or the download fails.
    """
    patterns = (_ALIAS, _VERSION, _MODEL, _RUN)
    if not any(pattern.fullmatch(reference) for pattern in patterns):
        raise ConfigError(
            f"{reference!r} names no model of MLflow's; expected models:/NAME@ALIAS, "
            "models:/NAME/VERSION, models:/m-… or an MLflow run id"
        )
    path = sqlite_path(uri)
    if path is not None and not path.exists():  # nothing is created by a look
        raise ConfigError(f"{reference!r} is unknown: there is no {str(path)!r} yet")
    with opened_store_at(uri) as store:
        address, digest = _source(store, reference)
        _require_own_server(reference, address, uri)
        place = None if digest is None else _place(uri, address, digest)
        if place is not None and _digest(place) == digest:
            return place
        return _download(store, reference, address, digest)


def _require_own_server(reference: str, address: str, uri: str) -> None:
    """Refuse an address on another server: a version's may be set by whoever registers it."""
    parts = urlsplit(address)
    if parts.scheme in _HOSTS and parts.netloc not in ("", urlsplit(uri).netloc):
        raise ConfigError(
            f"the files of {reference!r} lie on another server ({redact(address)}), which is not "
            f"asked; give tracking.uri= of the server that has them"
        )


def _place(uri: str, address: str, digest: str) -> Path:
    """Return the folder of the cache for weights from an address in a store.

    Raises:
        ConfigError: It leads out of the cache.
    """
    key = hashlib.sha256("\n".join((redact(uri), address, digest)).encode()).hexdigest()[:32]
    place = cache_folder() / "models" / key
    if not place.resolve().is_relative_to(cache_folder().resolve()):
        raise ConfigError(f"{str(place)!r} leads out of the cache folder; remove it")
    return place


def _digest(folder: Path) -> str | None:
    """Return the SHA-256 of a model's weights; `None` where there are none."""
    try:
        with model_file(folder).open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (ConfigError, OSError):
        return None


def _source(store: "Store", reference: str) -> "Source":
    """Return where a model's files are, and what is known of their content."""
    from pipeline.tracking.lookup import by_alias, by_id, by_run, by_version

    if match := _ALIAS.fullmatch(reference):
        return by_alias(store, match["name"], match["alias"])
    if match := _VERSION.fullmatch(reference):
        return by_version(store, match["name"], match["version"])
    if match := _MODEL.fullmatch(reference):
        return by_id(store, match["id"])
    match = _RUN.fullmatch(reference)
    assert match is not None  # one of the four fits
    return by_run(store, match["id"])


def _download(store: "Store", reference: str, address: str, digest: str | None) -> Path:
    """Put a model's files in their place, all of them or none."""
    import mlflow.artifacts

    models = cache_folder() / "models"
    try:
        create_folder(models)
        beside = Path(mkdtemp(prefix=".fetched.", suffix=".tmp", dir=models))
    except OSError as error:
        raise _unwritable(models, error) from error
    try:
        with store.client():
            mlflow.artifacts.download_artifacts(
                artifact_uri=address, dst_path=str(beside), tracking_uri=store.uri
            )
        folder = _top(beside)
        found = _digest(folder)
        if found is None:
            raise ConfigError(
                f"{reference!r} holds no model of this program's in {named(store.uri)}"
            )
        if digest not in (None, found):
            raise ConfigError(
                f"the weights of {reference!r} in {named(store.uri)} are not those that were "
                f"logged: their SHA-256 is {found[:12]}… and was {digest[:12]}…; train it again"
            )
        return _moved(folder, _place(store.uri, address, found), found)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _top(folder: Path) -> Path:
    """Return the folder of an MLflow model at or below `folder`."""
    found = next(folder.rglob("MLmodel"), None)
    return folder if found is None else found.parent


def _moved(folder: Path, place: Path, digest: str) -> Path:
    if _digest(place) != digest:
        shutil.rmtree(place, ignore_errors=True)  # it has been damaged since
    try:
        folder.replace(place)
    except OSError as error:
        if not place.is_dir():  # else another process has fetched it meanwhile
            raise _unwritable(place, error) from error
    return place


def _unwritable(place: Path, error: OSError) -> EnvironmentFaultError:
    usual = str(error.strerror), "make room, or name another cache folder in XDG_CACHE_HOME"
    why, remedy = shortage(place, error.errno) or usual
    return EnvironmentFaultError(f"{str(place)!r} can't be written ({why}); {remedy}")
