"""Fetches a model that MLflow has into this user's cache folder."""

import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import cache_folder, shortage
from pipeline.tracking.opened import opened_store_at
from pipeline.tracking.uri import sqlite_path

if TYPE_CHECKING:
    from pipeline.tracking.store import Store

_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[^/@]+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>\d+)")
_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]+)")
_RUN = re.compile(r"(?:runs:/)?(?P<id>[0-9a-f]{4,32})(?:/model)?")


def fetched(reference: str, uri: str) -> Path:
    """Return a folder on this machine with a model of MLflow's; downloaded once.

    Nothing of it is run: it holds weights and plain values, as the run had left them.

    Args:
        reference: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/m-…`, or an MLflow run id
            or its beginning.
        uri: Address of the tracking server or database, absolute.

    Raises:
        ConfigError: There is no such model.
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
        key, source = _source(store, reference)
        place = cache_folder() / "models" / key
        return place if place.is_dir() else _download(store, source, place)


def _source(store: "Store", reference: str) -> tuple[str, str]:
    """Return a name that stands for a model's content, and where its files are."""
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


def _download(store: "Store", source: str, place: Path) -> Path:
    """Put a model's files in their place, all of them or none."""
    import mlflow.artifacts

    try:
        place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        with store.client():
            mlflow.artifacts.download_artifacts(
                artifact_uri=source, dst_path=str(beside), tracking_uri=store.uri
            )
        return _moved(_top(beside), place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _top(folder: Path) -> Path:
    """Return the folder of an MLflow model at or below `folder`."""
    found = next(folder.rglob("MLmodel"), None)
    return folder if found is None else found.parent


def _moved(folder: Path, place: Path) -> Path:
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
