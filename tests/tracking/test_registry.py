import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import pytest
from faults.processes import wait_until
from faults.stores import TrackingServer
from helpers.fixture_types import Patch
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking import MlflowClient
from tracking.model_runs import begun_with_model, figure

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError, EnvironmentFaultError
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.fetch import fetched, fetched_run
from pipeline.tracking.folders import STATE, read_state
from pipeline.tracking.journal import Journal
from pipeline.tracking.journal_events import ModelScore
from pipeline.tracking.mlflow_store import Store
from pipeline.tracking.models import verdict, version_tags
from pipeline.tracking.sync import sync
from pipeline.tracking.uri import StoreError

GOOD = figure(0.9)
OTHER_DATA = figure(0.99, data="b" * 64)
RMSE = ModelScore(data="a" * 64, monitor="val/rmse", value=3.0, better="min")


def ended(recorder: RecorderClient, journal: Journal) -> str | None:
    """End a run and record it; return what its registration came to."""
    recorder.open(journal.folder)
    journal.end(End.COMPLETE)
    assert recorder.close(journal.folder) == 0
    return recorder.registered


def refusal(reference: str, uri: str) -> str:
    """The message of a model that is not fetched."""
    with pytest.raises(ConfigError) as refused:
        fetched(reference, uri)
    return str(refused.value)


def run_of(uri: str, folder: Path) -> Run:
    return MlflowClient(uri).get_run(read_state(folder).run_id)


def versions(uri: str, name: str = "ward") -> dict[str, ModelVersion]:
    found = MlflowClient(uri).search_model_versions(f"name = '{name}'")
    return {str(one.version): one for one in found}


def champion(uri: str, name: str = "ward") -> str:
    return str(MlflowClient(uri).get_model_version_by_alias(name, "champion").version)


def models(uri: str) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pipeline")
    assert experiment is not None
    found = client.search_logged_models([experiment.experiment_id])
    return [str(model.model_id) for model in found]


def weights(name: str, uri: str) -> Path:
    return fetched(f"models:/{name}", uri) / "artifacts" / "model" / "model.ckpt"


@pytest.mark.parametrize(
    ("mine", "theirs", "why"),
    [
        (figure(0.97), figure(0.9625), "val/f1 0.9700 against 0.9625"),
        (figure(0.954), figure(0.9625), "val/f1 0.9625 against 0.9540 here"),
        (figure(0.9625), figure(0.9625), "val/f1 0.9625 against 0.9625 here"),
        (figure(0.96251), figure(0.96252), "val/f1 0.96252 against 0.96251 here"),
        (RMSE, replace(RMSE, value=4.0), "val/rmse 3.0000 against 4.0000"),
        (
            GOOD,
            OTHER_DATA,
            "it was trained on other data (bbbbbbbbbbbb, here aaaaaaaaaaaa)",
        ),
        (GOOD, RMSE, "it was selected by val/rmse, not by val/f1"),
        *(
            (mine, theirs, "val/f1 is missing for one; it needs validation rows")
            for mine, theirs in ((figure(None), GOOD), (GOOD, "high"), (GOOD, "nan"))
        ),
    ],
)
def test_alias_moves_only_to_a_better_version(
    mine: ModelScore, theirs: ModelScore | str, why: str
) -> None:
    """The values must come from the same data."""
    stranger = {**version_tags(GOOD), "value": str(theirs)}  # whose value is a text of his own
    tags = version_tags(theirs) if isinstance(theirs, ModelScore) else stranger
    takes = not why.endswith("here") and "against" in why
    line = f" (champion instead of v3): {why}" if takes else f"; champion is still v3: {why}"
    assert verdict(mine, tags, "3") == (takes, line)


@pytest.mark.slow
def test_champion_is_best_on_the_same_data(
    recorder: RecorderClient, database: str, tmp_path: Path
) -> None:
    """Each line states why the champion changed or stayed."""
    figures = [figure(0.9), figure(0.8), figure(0.95), OTHER_DATA]
    folders = [tmp_path / "runs" / str(number) for number in range(4)]
    lines = [
        ended(recorder, begun_with_model(folder, database, one))
        for folder, one in zip(folders, figures, strict=True)
    ]
    assert lines == [
        "registered as ward v1 (champion)",
        "registered as ward v2; champion is still v1: val/f1 0.9000 against 0.8000 here",
        "registered as ward v3 (champion instead of v1): val/f1 0.9500 against 0.9000",
        "registered as ward v4; champion is still v3: it was trained on other data "
        "(aaaaaaaaaaaa, here bbbbbbbbbbbb)",
    ]
    assert champion(database) == "3"
    second, run = versions(database)["2"], run_of(database, folders[1])
    assert second.run_id == run.info.run_id
    told = [second.tags[key] for key in ("data.hash", "monitor", "value", "run")]
    assert told == ["a" * 64, "val/f1", "0.8", run.info.run_id]
    # Nothing is logged or registered twice where a journal is sent again.
    MlflowClient(database).set_registered_model_alias("ward", "champion", "2")  # as a person may
    for folder in folders:
        (folder / STATE).unlink()
    assert [one.unsent for one in sync(folders, database)] == [0] * 4
    told = [run_of(database, folder).data.tags["registered"] for folder in folders]
    assert (told, champion(database)) == (lines, "2")
    assert (len(models(database)), len(versions(database))) == (4, 4)


@pytest.mark.slow
def test_model_half_logged_is_completed_in_place(
    recorder: RecorderClient, database: str, tmp_path: Path
) -> None:
    """A kill interrupted the logging."""
    folder = tmp_path / "runs" / "killed"
    journal = begun_with_model(folder, database)
    run_id = recorder.open(folder)
    client = MlflowClient(database)
    half = client.create_logged_model(
        run_of(database, folder).info.experiment_id,
        name="model",
        source_run_id=run_id,
        tags={"pipeline.model": sha256(b"the weights of killed").hexdigest()},
    )
    ended(recorder, journal)
    assert models(database) == [half.model_id]
    assert client.get_logged_model(half.model_id).status == "READY"
    assert versions(database)["1"].tags["pipeline.model"] == half.model_id


HUGE = '{"kind": "array", "inputs": {"shape": [100000000], "dtype": "float64"}, "outputs": []}'
"""Describes rows that take more memory than a machine has, for a model whose rows are small."""


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["{", HUGE])
def test_failed_run_or_damaged_model_is_not_registered(
    recorder: RecorderClient, database: str, tmp_path: Path, damage: str
) -> None:
    """The damage is reported."""
    journal = begun_with_model(tmp_path / "failed", database)
    recorder.open(journal.folder)
    journal.end(End.OOM)
    assert recorder.close(journal.folder) == 0
    assert (recorder.registered, models(database)) == (None, [])

    folder = tmp_path / "damaged"
    journal = begun_with_model(folder, database)
    (folder / "model" / "interface.json").write_text(damage)
    assert ended(recorder, journal) is None
    assert "interface.json' or example.json is damaged: " in str(recorder.problem)
    run = run_of(database, folder)
    assert run.info.status == "FINISHED"
    assert run.data.tags["model.problem"] == recorder.problem


@pytest.mark.slow
def test_concurrent_registrations_leave_the_better_champion(database: str, tmp_path: Path) -> None:
    with RecorderClient() as one, RecorderClient() as other, ThreadPoolExecutor() as pool:
        recorders = {0.9: one, 0.95: other}
        for value, recorder in recorders.items():
            begun_with_model(tmp_path / str(value), database, figure(value)).end(End.COMPLETE)
            recorder.connect(database, experiment="pipeline")
            recorder.open(tmp_path / str(value))
        closing = [
            pool.submit(recorder.close, tmp_path / str(value))
            for value, recorder in recorders.items()
        ]
        assert [closed.result() for closed in closing] == [0, 0]
    best = {version.tags["value"]: key for key, version in versions(database).items()}
    assert sorted(best) == ["0.9", "0.95"]
    assert champion(database) == best["0.95"]


@pytest.mark.slow
def test_model_is_fetched_by_each_of_its_names(
    recorder: RecorderClient, database: str, tmp_path: Path
) -> None:
    """A wrong name lists the known ones."""
    folder = tmp_path / "runs" / "first"
    ended(recorder, begun_with_model(folder, database))
    run_id = read_state(folder).run_id
    (model_id,) = models(database)
    names = ("models:/ward@champion", "models:/ward/1", f"models:/{model_id}", run_id, run_id[:8])
    (place,) = {fetched(name, database) for name in (*names, f"runs:/{run_id}/model")}
    assert (place / "artifacts/model/model.ckpt").read_bytes() == b"the weights of first"
    wrong = {
        "models:/wart@champion": r"no model is registered as 'wart' in .*; known: ward\. "
        "Did you mean 'ward'",
        "models:/ward@champignon": r"'ward' has no alias 'champignon' in .*; it has champion\. Did",
        "models:/ward/2": r"'ward' has no version 2 in .*; it has 1$",
        "models:/m-0123": r"has no model 'm-0123'",
        "fedcba9876543210fedcba9876543210": r"is unknown in the tracking database",
        "models:/ward": r"expected models:/NAME@ALIAS, models:/NAME/VERSION",
    }
    for name, line in wrong.items():
        assert re.search(line, refusal(name, database))


@pytest.mark.slow
def test_tags_decide_no_path_of_a_model(
    served: TrackingServer, tmp_path: Path, monkeypatch: Patch
) -> None:
    """They choose neither a folder nor an entry of the cache."""
    cache, uri = tmp_path / "cache", served.uri
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with RecorderClient() as recorder:  # which takes its locks from that cache
        recorder.connect(uri, experiment="pipeline")
        for name in ("mine", "other"):
            ended(recorder, begun_with_model(tmp_path / "runs" / name, uri, register=name))
    mine = versions(uri, "mine")["1"].tags["pipeline.model"]
    before = sorted(tmp_path.iterdir())
    for tag in ("../../../outside", str(tmp_path / "outside"), mine):
        MlflowClient(uri).set_model_version_tag("other", "1", "pipeline.model", tag)
        for name in ("other", "mine"):
            fetched_file = weights(f"{name}/1", uri)
            assert fetched_file.read_bytes() == f"the weights of {name}".encode()
            assert (cache / "pipeline" / "models") in fetched_file.parents
    assert sorted(tmp_path.iterdir()) == before
    assert len(list((cache / "pipeline").iterdir())) == 2  # models, and locks of the registry
    # What was damaged in the cache since is fetched again; what was replaced there is refused.
    weights("mine/1", uri).write_bytes(b"others")
    assert weights("mine/1", uri).read_bytes() == b"the weights of mine"
    shutil.rmtree(cache)
    (logged,) = served.folder.rglob(f"{mine}/**/model.ckpt")
    logged.write_bytes(b"others")
    said = refusal("models:/mine/1", uri)
    assert re.search("'models:/mine/1' in .* have changed since they were logged", said)
    assert list((cache / "pipeline" / "models").iterdir()) == []


@pytest.mark.slow
def test_models_of_a_server_are_registered_and_fetched(
    served: TrackingServer, running: RecorderClient, tmp_path: Path
) -> None:
    """What an outage left unsent follows later."""
    uri, folders = served.uri, [tmp_path / "runs" / name for name in ("first", "second")]
    running.connect(uri, experiment="pipeline")
    line = ended(running, begun_with_model(folders[0], uri))
    assert line == "registered as ward v1 (champion)"
    assert weights("ward@champion", uri).read_bytes() == b"the weights of first"
    journal = begun_with_model(folders[1], uri, figure(0.95))
    running.open(folders[1])
    served.silence()
    journal.end(End.COMPLETE)
    assert running.close(folders[1]) > 0
    assert running.registered is None
    with pytest.raises(EnvironmentFaultError, match="does not answer"):
        weights("ward@champion", uri)
    served.wake()
    assert [one.unsent for one in sync([folders[1]], uri)] == [0]
    assert champion(uri) == "2"
    assert weights("ward@champion", uri).read_bytes() == b"the weights of second"


@pytest.mark.slow
def test_server_outage_loses_and_repeats_no_step(
    served: TrackingServer, running: RecorderClient, tmp_path: Path
) -> None:
    journal = begun_with_model(tmp_path / "runs" / "outage", served.uri, register="outage")
    running.connect(served.uri, experiment="pipeline")
    running.open(journal.folder)
    served.kill()
    for epoch in range(2, 101):
        journal.epoch(epoch, {"train/loss": 1 / epoch})
    time.sleep(3)  # one try fails
    served.start()
    client, run_id = MlflowClient(served.uri), read_state(journal.folder).run_id
    steps = "all steps of a run that goes on"
    wait_until(lambda: len(client.get_metric_history(run_id, "train/loss")) == 100, what=steps)
    journal.end(End.COMPLETE)
    assert running.close(journal.folder) == 0
    history = client.get_metric_history(run_id, "train/loss")
    assert sorted(point.step for point in history) == list(range(1, 101))


def test_version_files_on_another_server_are_refused(database: str) -> None:
    client = MlflowClient(database)
    client.create_registered_model("ward")
    for address in ("http://127.0.0.1:9/x", "mlflow-artifacts://127.0.0.1:9/x"):
        number = client.create_model_version("ward", source=address).version
        line = r"are on another server \(.*127\.0\.0\.1:9/x\)"
        assert re.search(line, refusal(f"models:/ward/{number}", database))


def test_model_lookup_creates_no_database(tmp_path: Path) -> None:
    said = refusal("models:/ward@champion", f"sqlite:///{tmp_path}/absent.db")
    assert said.endswith("absent.db' does not exist")
    assert not (tmp_path / "absent.db").exists()


class Listener(ThreadingTCPServer):
    """A listener on loopback that counts the connections that it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StreamRequestHandler)
        self.connections = 0
        self.place = f"127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


@pytest.fixture(autouse=True)
def patience(monkeypatch: Patch) -> None:
    """A server that is slow beside other tests is no subject here."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def registered(uri: str, source: str, name: str = "foreign") -> str:
    """Register a version whose files lie at an address, past the client's own checks."""
    client = MlflowClient(uri)
    with suppress(MlflowException):
        client.create_registered_model(name)
    return f"models:/{name}/{client.create_model_version(name, source=source).version}"


FOREIGN = (
    *("ftp://{}/x", "http://{}/x", "https://{}/x", "mlflow-artifacts://{}/x", "sftp://{}/x"),
    *("s3://bucket/x", "gs://bucket/x", "hdfs://{}/x"),
)


@pytest.mark.parametrize("address", FOREIGN)
def test_files_outside_of_a_database_are_refused(
    database: str, listener: Listener, address: str
) -> None:
    reference = registered(database, address.format(listener.place))
    line = rf"the files of '{reference}' are (on|not in) .*/x\)"
    assert re.search(line, refusal(reference, database))
    assert listener.connections == 0


def test_only_folders_beside_a_database_are_read(
    database: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("private", "mlartifacts/theirs", "mlruns/theirs"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.ckpt").write_bytes(folder.encode())
        (tmp_path / folder / "MLmodel").touch()
    (tmp_path / "mlartifacts" / "link").symlink_to(tmp_path / "private")
    artifacts = f"{tmp_path}/mlartifacts"
    for place in (f"{tmp_path}/private", f"{artifacts}/link", "/etc", f"{artifacts}/../private"):
        for address in (f"file://{place}", place):
            said = refusal(registered(database, address), database)
            assert re.search("are not in the tracking database .*=FOLDER$", said)
    assert not (tmp_path / "cache" / "pipeline" / "models").exists()
    for folder in ("mlartifacts/theirs", "mlruns/theirs"):
        reference = registered(database, (tmp_path / folder).as_uri())
        assert (fetched(reference, database) / "model.ckpt").read_bytes() == folder.encode()


@pytest.mark.slow
def test_files_outside_of_a_server_are_refused(
    served: TrackingServer, listener: Listener, tmp_path: Path
) -> None:
    shares = served.uri.removeprefix("http://")
    places = (*(address.format(listener.place) for address in FOREIGN), f"https://{shares}/x")
    taken = []
    for place in places:
        with suppress(RestException):  # a newer server refuses some places itself
            taken.append(registered(served.uri, place))
    assert len(taken) >= len(places) // 2
    for reference in taken:
        line = f"the files of '{reference}' are (on|not in) "
        assert re.search(line, refusal(reference, served.uri))
    assert listener.connections == 0


@pytest.mark.slow
def test_server_chooses_no_local_folder(tmp_path: Path, empty_database: Path) -> None:
    home = tmp_path / "home"
    root = ("--no-serve-artifacts", "--default-artifact-root", home.as_uri())
    server = TrackingServer(tmp_path, *root)
    server.start()
    try:
        store = Store(server.uri)
        run_id, _ = store.create(store.experiment("e"), name="n", key="k", tags={}, start=1)
        (tmp_path / "report.html").write_text("private", encoding="utf-8")
        with pytest.raises(StoreError, match="would go to file:"):
            store.upload(run_id, tmp_path / "report.html", "")
    finally:
        server.kill()
    assert not home.exists()


@pytest.mark.slow
def test_artifacts_are_not_sent_to_another_server(
    served: TrackingServer, listener: Listener, tmp_path: Path
) -> None:
    client = MlflowClient(served.uri)
    experiment = client.create_experiment("theirs", f"http://{listener.place}/x")
    run_id = client.create_run(experiment).info.run_id
    file = tmp_path / "report.html"
    file.write_text("private", encoding="utf-8")
    with pytest.raises(
        StoreError, match=rf"would go to http://{listener.place}/x/.*, which is not"
    ):
        Store(served.uri).upload(run_id, file, "")
    with pytest.raises(ConfigError, match=rf"the files of run '{run_id}' are on another server"):
        fetched_run(run_id, served.uri, ["report.html"], tmp_path)
    assert listener.connections == 0


@pytest.mark.slow
def test_missing_library_is_named(tmp_path: Path, empty_database: Path) -> None:
    """Clients of this server use its bucket directly, which needs a library."""
    server = TrackingServer(
        tmp_path, "--no-serve-artifacts", "--default-artifact-root", "s3://ward/r"
    )
    server.start()
    try:
        reference = registered(server.uri, "s3://ward/r/1/models/m-0/artifacts")
        line = (
            r"keeps its files where the package 'boto(3|core)' is needed, which is not installed; "
            "install it with: pip install boto3$"
        )
        with pytest.raises(EnvironmentFaultError, match=line):
            fetched(reference, server.uri)
        elsewhere = registered(server.uri, "s3://elsewhere/r/1/x")
        assert "are not in the tracking server" in refusal(elsewhere, server.uri)
    finally:
        server.kill()
