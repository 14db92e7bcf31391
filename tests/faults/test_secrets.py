"""Promise N4: nothing secret is stored or shown."""

import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from records import events

from faults.conftest import Start, commit
from faults.processes import Training, ending, recorded_epochs
from faults.stores import TrackingServer, outcome

IN_URL, IN_VARIABLE, ON_COMMAND_LINE = "canary-of-url", "canary-of-variable", "canary-of-words"
CANARIES = (IN_URL, IN_VARIABLE, ON_COMMAND_LINE)
SHORT = ("model=mlp", "data=iris", "trainer.max_epochs=2")
TALKATIVE = "+callbacks.talkative._target_=slow_parts.Talkative"


def found_in(*places: Path) -> Iterator[str]:
    """Yield each canary with the file that holds it."""
    for place in places:
        for path in sorted(place.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            yield from (f"{one} in {path}" for one in CANARIES if one.encode() in content)


def shown_by(training: Training) -> list[str]:
    return [one for one in CANARIES if one in training.out + training.err]


@pytest.fixture
def repository(own_folder: Path, own_code: tuple[str, ...]) -> None:
    """A repository around the current folder, with a password in an uncommitted change."""
    commit(own_folder, {"settings.py": "password = None\n"})
    (own_folder / "settings.py").write_text(f'password = "{ON_COMMAND_LINE}"\n', encoding="utf-8")


@pytest.mark.slow
def test_no_secret_of_the_environment_or_the_command_line_is_stored_or_shown(
    start: Start, server: TrackingServer, own_code: tuple[str, ...], repository: None
) -> None:
    server.start()
    words = (f"tags={{api_key: {ON_COMMAND_LINE}, note: '${{oc.env:DB_PASSWORD}}'}}", "verbose=2")
    training = start(
        *SHORT,
        TALKATIVE,
        *own_code,
        *words,
        MLFLOW_TRACKING_URI=f"http://me:{IN_URL}@127.0.0.1:{server.port}",
        DB_PASSWORD=IN_VARIABLE,
    )
    training.await_file("paused")
    arguments = " ".join(" ".join(process.cmdline()) for process in training.children())
    assert not any(one in arguments for one in CANARIES)
    (training.folder / "go on").touch()
    assert training.end() == 0, training.err
    assert outcome(server.uri) == ("FINISHED", None)
    assert shown_by(training) == []
    (training.folder / "settings.py").unlink()
    assert list(found_in(training.folder, server.folder)) == []
    log = (training.run / "run.log").read_text(encoding="utf-8")
    assert "the password is ***" in log
    diff = (training.run / "artifacts" / "uncommitted.diff").read_text(encoding="utf-8")
    assert "+password = ***" in diff


@pytest.mark.slow
@pytest.mark.parametrize("traceback", ["false", "true"])
def test_an_error_that_quotes_a_secret_is_shown_and_stored_without_it(
    fork: Start, own_code: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, traceback: str
) -> None:
    monkeypatch.setenv("DB_PASSWORD", IN_VARIABLE)
    words = (TALKATIVE, "+callbacks.talkative.fail=true", *own_code)
    training = fork(*SHORT, *words, f"traceback={traceback}", "tracking=none")
    assert training.end() == 1
    assert "the password is ***" in training.err
    assert ("Traceback" in training.err) == (traceback == "true")
    assert shown_by(training) == []
    assert list(found_in(training.folder)) == []
    assert ending(training.run) == ("FAILED", "error")


def test_a_reference_to_the_environment_is_asked_for_again_and_a_masked_secret_too(
    fork: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", IN_VARIABLE)
    endless = ("model=mlp", "data=iris", "trainer.max_epochs=100000", "tracking=none")
    note = "tags={note: '${oc.env:DB_PASSWORD}'}"
    training = fork(*endless, note)
    training.await_epoch(1)
    training.send(signal.SIGTERM)
    assert training.end() == 143
    monkeypatch.setenv("DB_PASSWORD", "another")
    without = fork("resume=last")
    assert without.end() == 2
    assert without.err == (
        "error: tags holds a reference to the environment, which is not taken from a run's folder; "
        f"give it again: {shlex.quote(note)}\n"
    )
    again = fork("resume=last", note, "+tags.api_key=" + ON_COMMAND_LINE)
    again.await_epoch(recorded_epochs(training.run)[-1] + 1)
    again.send(signal.SIGTERM)
    assert again.end() == 143
    begins = [event for event in events(training.run) if event["event"] == "begin"]
    assert [begin["tags"].get("api_key") for begin in begins] == [None, "***"]
    third = fork("resume=last", note)
    assert third.end() == 2
    assert third.err == (
        "error: tags.api_key held a secret, which is not saved; give it again: tags.api_key=…\n"
    )
    assert list(found_in(training.folder)) == []
