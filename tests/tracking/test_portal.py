"""Answers that a tracking server can't have given: those of a proxy or a captive portal."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from faults.portal import PORTAL_ANSWERS, Portal
from faults.stores import TrackingServer
from helpers.fixture_types import Capture, Patch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tracking.model_runs import begun_with_model

from pipeline.base.ends import End
from pipeline.runs import main as runs
from pipeline.tracking.folders import STATE, State, read_state

#: More tries than a journal has kinds of calls.
TRIES = 60

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("portal")]


@pytest.fixture
def portal(served: TrackingServer) -> Iterator[Portal]:
    """A proxy in front of the server."""
    with Portal(served.uri) as portal:
        yield portal


@pytest.fixture
def unsent(tmp_path: Path, monkeypatch: Patch) -> Callable[[str], Path]:
    """Writes the folder of a finished run with a model and a file, of which nothing is sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def write(uri: str) -> Path:
        name = tmp_path.name
        journal = begun_with_model(
            tmp_path / "runs" / f"20260101-000000-{name}",
            uri,
            experiment=name,
            register=name,
            params={"seed": 0, "data._target_": "pipeline.data.iris.Iris"},
            tags={"data.hash": "a" * 64},
            rows={"train": 3},
        )
        tables = journal.folder / "artifacts" / "tables"
        tables.mkdir(parents=True)
        (tables / "scores.csv").write_text("label,f1\na,1\n")
        for epoch in (2, 3):
            journal.epoch(epoch, {"train/loss": 1 / epoch})
        journal.end(End.COMPLETE)
        return journal.folder

    return write


def sync(uri: str) -> int:
    return runs(["action=sync", f"tracking.uri={uri}"])


def sync_until_done(uri: str) -> int:
    """Send what is unsent until the command succeeds; return the number of failed tries."""
    return next(number for number in range(TRIES) if sync(uri) == 0)


def require_whole(uri: str, name: str) -> None:
    """Assert that a server has all of the only run of an experiment, and its model."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    require_values(client, run)
    (artifact,) = client.list_artifacts(run.info.run_id, "tables")
    assert artifact.path == "tables/scores.csv"
    assert str(client.get_model_version_by_alias(name, "champion").run_id) == run.info.run_id
    assert run.data.tags["registered"] == f"registered as {name} v1 (champion)"


def require_values(client: MlflowClient, run: Run) -> None:
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == [1, 2, 3]


@pytest.mark.parametrize("name", PORTAL_ANSWERS)
def test_portal_answers_leave_the_run_unsent(
    portal: Portal,
    unsent: Callable[[str], Path],
    tmp_path: Path,
    capsys: Capture,
    name: str,
) -> None:
    folder = unsent(portal.uri)
    portal.answer = PORTAL_ANSWERS[name]
    portal.is_taken = lambda *_: True
    assert sync(portal.uri) == 3
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    assert line == (
        f"error: the tracking server {portal.uri} does not answer (its answer is that of a proxy "
        "or a login page); start it, or record here with tracking=local"
    )
    assert read_state(folder) == State()
    portal.is_taken = None
    assert sync(portal.uri) == 0
    require_whole(portal.uri, tmp_path.name)


def test_single_empty_answers_lose_nothing(
    portal: Portal, unsent: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each method and address is answered once by an empty object before it is forwarded."""
    unsent(portal.uri)
    answered: set[tuple[str, str]] = set()

    def is_first(method: str, path: str) -> bool:
        call = (method, urlsplit(path).path)
        is_new = call not in answered
        answered.add(call)
        return is_new

    portal.is_taken = is_first
    assert 0 < sync_until_done(portal.uri) < TRIES
    assert len(answered) > 10
    portal.is_taken = None
    require_whole(portal.uri, tmp_path.name)


def test_run_stranded_without_id_is_sent(
    portal: Portal, unsent: Callable[[str], Path], tmp_path: Path
) -> None:
    """Earlier versions wrote such a state when a portal had answered."""
    folder = unsent(portal.uri)
    state = State(uri=portal.uri, run_id="", experiment_id="", sent=4)
    (folder / STATE).write_text(json.dumps(asdict(state)))
    assert sync(portal.uri) == 0
    require_whole(portal.uri, tmp_path.name)
