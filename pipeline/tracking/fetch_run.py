"""Fetches what MLflow has of a run that does not lie here: what is known of it, and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.tracking.faults import named
from pipeline.tracking.opened import opened_store_at
from pipeline.tracking.uri import sqlite_path


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedRun:
    """A run that MLflow has.

    Args:
        run_id: Its id.
        name: Its name.
        status: MLflow's word for how it stands.
        tags: All of its tags.
    """

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]


def fetched_run(run_id: str, uri: str, artifacts: Sequence[str], into: Path) -> FetchedRun:
    """Return what MLflow knows of a run, and copy files of it into a folder.

    Args:
        run_id: The whole id.
        uri: Address of the tracking server or database, absolute.
        artifacts: Files and folders that are wanted; one that the run lacks is left out.
        into: Where they go, under the names that they have on the run.

    Raises:
        ConfigError: There is no such run.
        EnvironmentFaultError: MLflow does not answer, or the download fails.
    """
    path = sqlite_path(uri)
    if path is not None and not path.exists():  # nothing is created by a look
        raise ConfigError(f"run {run_id!r} is unknown: there is no {str(path)!r} yet")
    with opened_store_at(uri) as store:
        run = store.run(run_id)
        if run is None:
            raise ConfigError(f"run {run_id!r} is unknown in {named(uri)}")
        with store.client() as client:
            there = {str(one.path) for one in client.list_artifacts(run_id)}
            for wanted in there.intersection(artifacts):
                client.download_artifacts(run_id, wanted, str(into))
        return FetchedRun(
            run_id=run_id,
            name=str(run.info.run_name),
            status=str(run.info.status),
            tags=dict(run.data.tags),
        )
