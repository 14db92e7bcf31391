"""A ledger on a PostgreSQL server: whatever is cut short, nothing is lost and nothing twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from faults.processes import wait_until
from helpers.fixture_types import Capture, Patch
from helpers.postgres_server import PASSWORD, USER, Postgres, running_postgres
from sqlalchemy import event
from study.ledgers import (
    COMPLETE,
    Settings,
    act_before,
    assert_read_as_by_optuna,
    dead_lease,
    open_ledger,
    take,
)
from study.postgres_ledgers import Wire, at_each_moment

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.lease import Lease, own_lease
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row

pytestmark = pytest.mark.slow
MANY: Settings = {"sampler": "random", "n_trials": 100_000, "max_retry": 1000}
INTERRUPTED = TrialEnd(end=End.INTERRUPTED, message="stopped", attributes={"epochs": 1})


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as started_server:
        yield started_server


@pytest.fixture(autouse=True)
def _password(monkeypatch: Patch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


@pytest.fixture
def database(server: Postgres) -> str:
    return server.database()


@pytest.fixture
def wire(server: Postgres) -> Iterator[Wire]:
    started_wire = Wire(server.port)
    yield started_wire
    started_wire.close()


@pytest.fixture
def url(wire: Wire, database: str) -> str:
    """The address of an empty database, over a wire that can be cut."""
    return f"postgresql://{USER}@127.0.0.1:{wire.port}/{database}"


def states(ledger: Ledger) -> Counter[str]:
    return Counter(row.stage for row in ledger.trials())


def cut(wire: Wire, ledger: Ledger, act: Callable[[Row], None], *, holder: Lease) -> list[int]:
    """Take a trial and act on it, the wire being cut at each moment of the act alone."""
    numbers: list[int] = []

    def take_and_act() -> None:
        with wire.whole():
            trial = take(ledger, holder)
        act(trial)
        numbers.append(trial.number)

    assert at_each_moment(wire, take_and_act) > 5
    wire.disarm()
    return numbers


def test_trial_is_taken_once_despite_connection_loss(wire: Wire, url: str) -> None:
    ledger = open_ledger(url, **MANY)
    numbers: list[int] = []

    def take_one() -> None:
        trial = take(ledger)
        numbers.append(trial.number)
        (row,) = (row for row in ledger.trials() if row.number == trial.number)
        assert (row.state, row.overrides) == ("running", trial.overrides)

    assert at_each_moment(wire, take_one) > 10
    wire.disarm()
    assert numbers == list(range(len(numbers)))
    assert states(ledger) == {"running": len(numbers)}


def test_end_is_recorded_once_despite_connection_loss(wire: Wire, url: str) -> None:
    ledger = open_ledger(url, **MANY)

    def finish(trial: Row) -> None:
        assert ledger.finish(trial, replace(INTERRUPTED, attributes={"epochs": trial.number}))

    ended = cut(wire, ledger, finish, holder=own_lease())
    rows = ledger.trials()
    assert Counter(row.stage for row in rows) == {"failed": len(ended), "waiting": 1}
    assert [rows[number].attributes["epochs"] for number in ended] == ended
    assert len({row.overrides["optimizer.lr"] for row in rows}) == 1  # one point, again and again


def test_lost_trial_is_queued_once_despite_connection_loss(wire: Wire, url: str) -> None:
    ledger = open_ledger(url, **MANY)

    def give_up(trial: Row) -> None:
        (lost_trial,) = ledger.close_lost(lambda _: Path("nowhere"))
        assert (lost_trial.number, lost_trial.queued_again) == (trial.number, True)

    lost = cut(wire, ledger, give_up, holder=dead_lease())
    assert states(ledger) == {"failed": len(lost), "waiting": 1}


def test_lost_trial_is_reported_despite_two_connection_losses(wire: Wire, url: str) -> None:
    """The first loss hides the commit; the second cuts the next attempt at each of its moments."""
    ledger = open_ledger(url, **MANY)
    second_cuts: list[int] = []

    def cut_again(*_: object) -> None:
        if second_cuts:
            wire.cut_after(second_cuts.pop())

    event.listen(ledger._store.engine, "connect", cut_again)
    messages = 0
    while not wire.is_armed:
        messages += 1
        trial = take(ledger, dead_lease())
        second_cuts.append(messages)
        wire.cut_at_commit()
        (lost_trial,) = ledger.close_lost(lambda _: Path("nowhere"))
        assert (lost_trial.number, lost_trial.queued_again) == (trial.number, True)
    assert messages > 5


def test_pruner_notes_are_kept_despite_connection_loss(
    server: Postgres, wire: Wire, url: str, database: str
) -> None:
    ledger = open_ledger(url, **MANY, pruner="asha")

    def report(running_trial: Row) -> None:
        value = (1 + running_trial.number) / 1000
        with wire.whole():
            assert not ledger.report(running_trial, step=1, value=value)
        ledger.report(running_trial, step=4, value=value)  # passes a halving, which is noted

    steps = len(cut(wire, ledger, report, holder=own_lease()))
    value_counts = server.ask(database, "SELECT count(*) FROM trial_intermediate_values")
    assert value_counts == [(2 * steps,)]
    halvings = "FROM trial_system_attributes WHERE key LIKE 'completed_rung%'"
    ((halving_count,),) = server.ask(database, f"SELECT count(*) {halvings}")
    in_memory = [trial.system_attrs for trial in ledger._own.values()]
    assert halving_count == sum(
        key.startswith("completed") for attributes in in_memory for key in attributes
    )
    assert halving_count >= steps


def test_study_is_created_once_despite_connection_loss(wire: Wire, url: str) -> None:
    names: list[str] = []
    first = [{"optimizer.lr": rate} for rate in (0.01, 0.02)]

    def found() -> None:
        names.append(f"study-{len(names)}")
        ledger = open_ledger(url, name=names[-1], enqueue=first)
        ledger.set_fact("base_trial", len(names))
        assert ledger.facts["base_trial"] == len(names)
        assert states(ledger) == {"waiting": 2}
        ledger.close()

    open_ledger(url, name="makes-the-tables").close()
    assert at_each_moment(wire, found, stride=11) > 20


def test_optuna_and_ledger_read_the_same_on_server(server: Postgres, database: str) -> None:
    url = server.url(database)
    settings: Settings = {"enqueue": [{"optimizer.lr": 0.01}], "pruner": "asha", "max_retry": 1}
    ledger = open_ledger(url, **settings)
    assert_read_as_by_optuna(ledger, server.url(database, scheme="postgresql+psycopg"))


def test_two_drivers_hold_one_connection_each(server: Postgres, database: str) -> None:
    ledgers = [open_ledger(server.url(database), **MANY) for _ in range(2)]
    for ledger in ledgers:
        trial = take(ledger)
        assert ledger.finish(trial, COMPLETE)
    assert server.connections(database) == 2


def test_absent_server_is_waited_for_only_once(database: str, capfd: Capture) -> None:
    """Then it is reported."""
    with running_postgres() as server:
        name = server.database()
        ledger = open_ledger(server.url(name), storage_patience=1.0)
        trial = take(ledger)
        server.stop()
        for _ in range(2):  # the second time without any patience
            with pytest.raises(EnvironmentFaultError) as raised:
                ledger.finish(trial, COMPLETE)
            assert str(raised.value) == (
                f"the study database 'postgresql+psycopg://student@127.0.0.1:{server.port}/{name}' "
                "does not answer (connection refused), and sweep.storage_patience=1 s are over; "
                "start it, then continue with the same command"
            )
        (warning,) = capfd.readouterr().err.splitlines()
        assert warning.endswith("(connection refused); waiting up to 1 s")
        server.start()
        assert ledger.finish(trial, COMPLETE)
        assert states(ledger) == {"complete": 1}


def test_locked_study_is_reported_until_its_release(server: Postgres, database: str) -> None:
    url = server.url(database)
    ledger, other = open_ledger(url), open_ledger(url, wait=0.3, storage_patience=0)
    trial = take(other)
    line = "is locked by another program; stop that program, then continue with the same command"

    def work_meanwhile() -> None:
        with ledger._store.lock(ledger.name), ledger._store.transaction() as connection:
            connection.exec_driver_sql("SELECT study_id FROM studies FOR UPDATE")
            with pytest.raises(EnvironmentFaultError, match=line):
                other.take(own_lease())
            with pytest.raises(EnvironmentFaultError, match=line):
                other.finish(trial, INTERRUPTED)

    ledger._store.call(work_meanwhile)
    assert other.finish(trial, INTERRUPTED)


def test_lock_is_waited_for_like_the_server(
    server: Postgres, database: str, capfd: Capture
) -> None:
    import psycopg  # the quick tests are collected without it

    ledger, rows = open_ledger(server.url(database), wait=0.2), list[Row | None]()
    taking = Thread(target=lambda: rows.append(ledger.take(own_lease())))
    lines: list[str] = []
    with psycopg.connect(server.url(database)) as other:
        other.execute("LOCK TABLE trials")
        taking.start()

        def is_warned() -> bool:
            lines.extend(capfd.readouterr().err.splitlines())
            return bool(lines)

        wait_until(is_warned, what="a warning")
    taking.join()
    assert [row.number for row in rows if row is not None] == [0]
    (warning,) = lines
    assert warning.endswith("is locked by another program; waiting up to 300 s")


def test_trials_taken_and_queued_together_keep_numbers(server: Postgres, database: str) -> None:
    ledger, other = open_ledger(server.url(database)), open_ledger(server.url(database))
    trial, taking = take(other), Thread(target=ledger.take, args=[own_lease()])
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def take_meanwhile() -> None:
        taking.start()
        wait_until(lambda: server.ask(database, waiting) != [(0,)], what="the lock")

    act_before(other, "INSERT INTO trials", take_meanwhile)
    assert other.finish(trial, INTERRUPTED)
    taking.join()
    assert [row.number for row in ledger.trials()] == [0, 1, 2]
