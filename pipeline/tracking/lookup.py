"""Where the files of a model lie that a person names; what there is instead where it is unknown."""

import re
from collections.abc import Sequence

from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.errors import ConfigError, did_you_mean, some
from pipeline.tracking.faults import named
from pipeline.tracking.models import DIGEST_TAG, models_of
from pipeline.tracking.registry import MODEL_TAG
from pipeline.tracking.store import Store

SHOWN = 8
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")

MODEL_ID = re.compile(r"m-[0-9a-f]{32}")

Source = tuple[str, str | None]
"""The address of a model's files, and the SHA-256 of its weights; `None` = it is not on record."""


def by_alias(store: Store, name: str, alias: str) -> Source:
    """Return the source of a registered model's version that has an alias.

    Raises:
        ConfigError: There is no such model or alias.
    """
    aliases = _aliases(store, name)
    if alias not in aliases:
        raise ConfigError(
            f"{name!r} has no alias {alias!r} in {named(store.uri)}; it has {_some(aliases)}."
            f"{did_you_mean(alias, aliases)}"
        )
    return by_version(store, name, aliases[alias])


def by_version(store: Store, name: str, version: str) -> Source:
    """Return the source of a registered model's version.

    Raises:
        ConfigError: There is no such model or version.
    """
    _aliases(store, name)  # a name that is unknown is told as such
    with store.client() as client:
        try:
            return _of_version(client, client.get_model_version(name, version))
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            found = client.search_model_versions(f"name = '{name}'")
    numbers = sorted((str(one.version) for one in found), key=int)
    raise ConfigError(
        f"{name!r} has no version {version} in {named(store.uri)}; it has {_some(numbers)}"
    )


def by_id(store: Store, model_id: str) -> Source:
    """Return the source of a logged model.

    Raises:
        ConfigError: There is no such model.
    """
    with store.client() as client:
        try:
            return _of_model(client.get_logged_model(model_id))
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
    raise ConfigError(f"{named(store.uri)} has no model {model_id!r}")


def by_run(store: Store, beginning: str) -> Source:
    """Return the source of the newest model of a run.

    Args:
        store: Where it is.
        beginning: Of the run's id; the whole of it, say.

    Raises:
        ConfigError: No run's id begins so, several do, or it has left no model.
    """
    runs = store.beginning(beginning)
    if len(runs) != 1:
        ids = [str(run.info.run_id)[:12] for run in runs]
        what = f"is the beginning of several ids: {_some(ids)}" if ids else "is unknown"
        raise ConfigError(f"run {beginning!r} {what} in {named(store.uri)}")
    (run,) = runs
    models = models_of(store, run.info.experiment_id, run.info.run_id)
    if not models:
        raise ConfigError(f"run {beginning!r} has left no model in {named(store.uri)}")
    return _of_model(models[0])


def _aliases(store: Store, name: str) -> dict[str, str]:
    """Return the version that each alias of a registered model stands for."""
    with store.client() as client:
        try:
            return {key: str(one) for key, one in client.get_registered_model(name).aliases.items()}
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            names = [model.name for model in client.search_registered_models(max_results=1000)]
    raise ConfigError(
        f"no model is registered as {name!r} in {named(store.uri)}; there are {_some(names)}."
        f"{did_you_mean(name, names)}"
    )


def _of_model(model: LoggedModel) -> Source:
    return str(model.artifact_location), model.tags.get(DIGEST_TAG)


def _of_version(client: MlflowClient, version: ModelVersion) -> Source:
    """Return the source of a version; its tags, which anybody may copy, decide nothing."""
    source = str(version.source)
    model_id = str(version.model_id or version.tags.get(MODEL_TAG) or "")
    if not MODEL_ID.fullmatch(model_id):
        return source, None
    try:
        logged = _of_model(client.get_logged_model(model_id))
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return source, None
    return logged if logged[0] == source else (source, None)


def _some(names: Sequence[str] | dict[str, str]) -> str:
    return some(list(names), most=SHOWN) or "none"
