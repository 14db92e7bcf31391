"""Faults F13, F14, F17, N4 and X6 with PostgreSQL, for studies and for MLflow."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.fixture_types import Capture, Patch, Train
from helpers.postgres_server import PASSWORD, USER, Postgres, running_postgres

from faults.conftest import StartSweep, SweepHere
from faults.stores import free_port
from faults.study_records import Records
from faults.sweeps import Sweeping, behaving, grid, problems
from pipeline.runs import main as runs

pytestmark = pytest.mark.slow
FEW = ("model=mlp", "data=iris", "trainer.max_epochs=2", "verbose=0")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(autouse=True)
def _password(monkeypatch: Patch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


def records_of(server: Postgres, database: str) -> Records:
    """What a database of studies on a server says."""
    import psycopg  # the quick tests are collected without it

    def ask(query: str) -> list[tuple[Any, ...]]:
        with suppress(psycopg.errors.UndefinedTable):
            return server.ask(database, query)
        return []

    return Records(ask=ask)


def has_taken(running: Sweeping, records: Records) -> bool:
    """Tell whether a worker of a sweep has, or had, a trial."""
    workers = {worker.pid for worker in running.children()}
    lease_pids = (trial.attributes.get("lease", {}).get("pid") for trial in records.trials())
    return not workers.isdisjoint(lease_pids)


def files_with(secret: str, folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if secret.encode() in path.read_bytes()]


def test_server_crash_and_pause_lose_no_trial(
    sweep: StartSweep, postgres: Postgres, capsys: Capture
) -> None:
    """No password is shown or stored."""
    databases = [postgres.database() for _ in range(2)]
    studies, tracking = (postgres.url(name) for name in databases)
    records = records_of(postgres, databases[0])
    secret = f"{USER}:{PASSWORD}"
    rates = [0.01 + 0.001 * number for number in range(14)]
    # Each of the four workers takes one of the last four trials, so none ends before the pause.
    waiting_words = behaving(*["wait"] * 4, rates=rates[10:], delay=0.4)
    words = (*grid(*rates), "sweep.workers=2", *waiting_words)
    environment = {
        "MLFLOW_TRACKING_URI": postgres.url(databases[1], userinfo=secret),
        "STUDIES": postgres.url(databases[0], userinfo=secret),
        "PGPASSWORD": "",
    }
    together = [sweep(*words, "sweep.storage=${oc.env:STUDIES}", **environment) for _ in range(2)]
    together[0].process.wait_until(
        lambda: all(has_taken(driver, records) for driver in together), what="a trial of each"
    )
    together[0].await_trials(3, records)
    postgres.restart()
    for driver in together:
        driver.await_waiting()
    postgres.stop(signal.SIGINT)
    together[0].go_on()
    time.sleep(5)
    postgres.start()
    assert [driver.end() for driver in together] == [0, 0], [driver.err for driver in together]
    assert [trial.state for trial in records.trials()] == ["COMPLETE"] * 14
    capsys.readouterr()
    stores = (f"storage={studies}", f"tracking.uri={tracking}")
    assert runs([*stores, "study=study", "action=check"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out == "14 trials, 14 runs: they agree\n"
    for driver in together:
        messages = driver.err.splitlines()
        start = "warning: the study database 'postgresql+psycopg://student:***@"
        assert messages[-2].startswith(start)
        assert messages[-2].endswith("; waiting up to 300 s")
        assert messages[-1].endswith("is available again; the study continues")
        # The first time it may have been back before it was missed.
        assert len(messages) in (2, 4), messages
        assert PASSWORD not in driver.out + driver.err
    assert files_with(PASSWORD, Path.cwd()) == []
    for name in databases:
        tables = postgres.ask(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in tables:
            rows = f"SELECT count(*) FROM {table} AS one WHERE one::text LIKE '%{PASSWORD}%'"
            assert postgres.ask(name, rows) == [(0,)], table


def test_broken_connection_leaves_no_library_log(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    import psycopg  # the quick tests are collected without it

    from pipeline.study.ledger.storage import open_storage, storage_url

    name = postgres.database()
    open_storage(storage_url(postgres.url(name))).close()
    with (
        psycopg.connect(postgres.url(name), autocommit=True) as link,
        pytest.raises(psycopg.OperationalError),
        link.pipeline(),
    ):
        link.execute("SELECT pg_terminate_backend(pg_backend_pid())").fetchall()
    assert caplog.messages == []


# `tests/study/test_postgres_ledger.py` lets `sweep.storage_patience` pass.
def test_study_waits_for_its_server_on_request(
    sweep: StartSweep,
    sweep_here: SweepHere,
    database: str,
    capsys: Capture,
) -> None:
    """The same command continues it after a stop."""
    with running_postgres() as server:
        name = server.database()
        words = (f"sweep.storage={server.url(name)}", "sweep.n_trials=3", *behaving("wait"))
        server.stop()
        assert sweep_here(*words) == 3
        (problem,) = problems(capsys.readouterr().err)
        down = "does not answer (connection refused); start it, then continue with the same command"
        assert problem.endswith(down)

        early = sweep(*words, "sweep.await_storage=true")
        early.process.wait_until(lambda: "warning: " in early.err, what="a warning")
        server.start()
        early.await_waiting()
        assert early.err.splitlines()[-1].endswith("is available again; the study continues")
        server.stop()
        early.go_on()
        early.process.wait_until(lambda: early.err.count("warning: ") > 1, what="another warning")
        early.process.send(signal.SIGTERM)
        assert early.end() == 143, early.err

        server.start()
        assert sweep_here(*words) == 0
        records_of(server, name).require_whole(3)


def test_unusable_server_is_reported_without_password(
    postgres: Postgres, monkeypatch: Patch, capsys: Capture
) -> None:
    def problem(url: str) -> tuple[str, str]:
        shown_url = url.replace("postgresql", "postgresql+psycopg").replace(USER, "***")
        lines = []
        for which, words in (
            ("study", (f"storage={url}",)),
            ("tracking", (f"storage={local_url}", f"tracking.uri={url}")),
        ):
            assert runs(["action=check", "study=study", *words]) == 3
            (line,) = capsys.readouterr().err.splitlines()
            start = f"error: the {which} database {shown_url!r} "
            assert line.startswith(start)
            lines.append(line.removeprefix(start))
        return lines[0], lines[1]

    empty, local_url = postgres.url(postgres.database()), "sqlite:///studies.db"
    see = "check the address and the password (PGPASSWORD or PGPASSFILE)"
    _create_study(local_url)
    nowhere = f'refuses (database "nowhere" does not exist); {see}'
    assert problem(postgres.url("nowhere")) == (nowhere, nowhere)
    down = f"postgresql://{USER}@127.0.0.1:{free_port()}/any"
    assert problem(down) == (
        "does not answer (connection refused); start it, then continue with the same command",
        "does not answer (connection refused); start it, or record here with tracking=local",
    )
    with postgres.without_room():
        full = (
            "accepts no more connections (sorry, too many clients already); stop other programs "
            "that use it, or raise its max_connections, "
        )
        again, elsewhere = (
            "then continue with the same command",
            "or record here with tracking=local",
        )
        assert problem(empty) == (full + again, full + elsewhere)
    monkeypatch.setenv("PGPASSWORD", "canary-of-another")
    assert runs(["action=check", "study=study", f"storage={empty}"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert f'refuses (password authentication failed for user "{USER}"); {see}' in line
    assert runs(["action=list", f"storage={postgres.url('x', userinfo='me:canary')}"]) == 2
    assert capsys.readouterr().err == (
        "error: storage holds a URL with a password, which every user of this machine could read; "
        "put it into an environment variable, such as PGPASSWORD, instead.\n"
    )


def _create_study(url: str) -> None:
    from pipeline.study.ledger.storage import open_storage, storage_url

    store = open_storage(storage_url(url))
    optuna.create_study(storage=store.optuna, study_name="study").set_user_attr("uid", "abc")
    store.close()


def test_concurrent_processes_create_mlflow_tables_once(
    train: Train, postgres: Postgres, monkeypatch: Patch
) -> None:
    name = postgres.database()
    script = "import sys; from pipeline.tracking.mlflow_store import Store; Store(sys.argv[1])"
    words = [sys.executable, "-c", script, postgres.url(name, scheme="postgresql+psycopg")]
    together = [subprocess.Popen(words) for _ in range(3)]
    assert [process.wait() for process in together] == [0, 0, 0]
    assert train(*FEW, f"tracking.uri={postgres.url(name)}") == 0
    assert postgres.ask(name, "SELECT count(*) FROM experiments WHERE name = 'pipeline'") == [(1,)]
    ((run_id, status, uri),) = postgres.ask(name, "SELECT run_uuid, status, artifact_uri FROM runs")
    folder = Path.cwd() / "mlartifacts" / "pipeline" / run_id / "artifacts"
    assert (status, uri) == ("FINISHED", folder.as_uri())
    assert (folder / "config.yaml").is_file()
    assert (
        runs(["action=clean", "older_than=0", "apply=true", f"tracking.uri={postgres.url(name)}"])
        == 0
    )
    assert not folder.exists()
