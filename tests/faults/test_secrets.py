"""Promise N4: nothing secret is stored or shown, by a run, a study and their reports."""

import io
import os
import shlex
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from helpers.fixture_types import Capture, Patch
from helpers.run_files import events

from faults.conftest import Start, Words, commit
from faults.processes import ending, recorded_epochs
from faults.stores import FAILED, FINISHED, TrackingServer, outcome
from pipeline.report import main as report
from pipeline.runs import main as runs

CANARY = "c4nary"
WORDS = (
    f"+tags.pwd={CANARY}-00",
    f"+tags.auth='Bearer {CANARY}-01 {CANARY}-02'",
    f"+tags.hint='use pass:{CANARY}-03 there'",
    f"+tags.more='{{client_secret: {CANARY}-04 {CANARY}-05, x: 1}}'",
    f"+callbacks.own.passphrase='{CANARY}-06, {CANARY}-07'",
    f"+callbacks.own.credentials={{user: {CANARY}-08, pin: [{CANARY}-09, {CANARY}-10]}}",
    f"+tags.api_key={CANARY}-13",
    "+tags.note='${oc.env:DB_PASSWORD}'",
    f"+callbacks.own.headers={{Authorization: Basic {CANARY}-11, X-Api-Key: {CANARY}-12}}",
)
EXPERIMENT = f"""# @package _global_
tags:
  slash: postgresql://user:S3cr/{CANARY}-20@host/db
  blank: postgresql://user:S3 cr {CANARY}-21@host/db
  at: mysql://user:S3@{CANARY}-22@host/db
  mark: http://user:S3?{CANARY}-23#{CANARY}-24@host:5000/x
  signed: https://bucket.example/a.csv?X-Amz-Credential={CANARY}-25&X-Amz-Signature={CANARY}-26
  shared: see (https://bucket.example/a.csv?sv=1&sig={CANARY}-27).
  header: "Authorization: Bearer {CANARY}-28"
  DB_PASS: {CANARY}-29 {CANARY}-30
"""
CHANGES = {
    ".env": f"DB_PASS={CANARY}-40\nexport API_TOKEN='{CANARY}-41 {CANARY}-42'  # comment\n",
    "settings.yaml": f"password: {CANARY}-43  # comment\nauth: {CANARY}-44 {CANARY}-45\n",
    "client.py": f'PWD = "{CANARY}-46"\nurl = "https://u:p/{CANARY}-47@h/x?sig={CANARY}-48"\n',
}
CALLBACK = """
import logging
import os
import warnings

from pytorch_lightning import Callback

class Own(Callback):
    def __init__(self, **options):
        self.options = options

    def on_fit_start(self, *_):
        logging.getLogger("own").warning("told %s", self.options)
        words = f"the password is {os.environ['DB_PASSWORD']}"
        logging.getLogger("own").warning(words)
        warnings.warn(words, stacklevel=1)
"""
ENDLESS = ("model=mlp", "data=iris", "trainer.max_epochs=100000", "tracking=none")


@pytest.fixture
def repository(own_folder: Path) -> Path:
    """The current folder, as a repository with secrets in changes that are not committed."""
    commit(own_folder, dict.fromkeys(CHANGES, "legible = 1\n"))
    for name, content in CHANGES.items():
        (own_folder / name).write_text(content, encoding="utf-8")
    return own_folder


def contents(path: Path) -> Iterator[bytes]:
    """Yield what is in a file, and what is in it unpacked."""
    content = path.read_bytes()
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def holding_a_secret(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return [path for path in files if any(CANARY.encode() in content for content in contents(path))]


def open_to_all(folder: Path) -> Iterator[Path]:
    """Yield what any user of the machine could read below a folder that all may enter."""
    for path in folder.iterdir():
        mode = path.stat().st_mode
        if mode & stat.S_IROTH:
            yield path
        if path.is_dir() and mode & stat.S_IXOTH:
            yield from open_to_all(path)


def printed_by(*words: str, folder: Path, environment: dict[str, str], arguments: set[str]) -> str:
    """Call a command as a process; add to `arguments` what the processes below it were given."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"pipeline.{words[0]}", *words[1:]],
        cwd=folder,
        env={**os.environ, **environment},
        umask=0o022,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while True:
        with suppress(psutil.Error):
            command = psutil.Process(process.pid)
            # A process that is only just being started still shows the words of its parent.
            below = [child.cmdline() for child in command.children(recursive=True)]
            arguments |= {" ".join(line) for line in below if line != command.cmdline()}
        with suppress(subprocess.TimeoutExpired):
            printed, _ = process.communicate(timeout=0.2)
            assert process.returncode == 0, printed
            return printed


@pytest.mark.slow
def test_no_file_or_output_holds_a_secret(
    repository: Path,
    server: TrackingServer,
    tmp_path: Path,
    monkeypatch: Patch,
    capfd: Capture,
) -> None:
    """No file can be read by other users."""
    config_folder = tmp_path / "own"
    (config_folder / "experiment").mkdir(parents=True)
    (config_folder / "experiment" / "planted.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (config_folder / "own_callback.py").write_text(CALLBACK, encoding="utf-8")
    base_words = (
        "--config-dir",
        str(config_folder),
        "experiment=planted",
        "model=mlp",
        "trainer.max_epochs=1",
    )
    data = ("data=table", "data.target=label", f"data.path={tmp_path}/near.csv")
    rows = [f"{n % 7},{n % 5},{'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "near.csv").write_text("\n".join(["x,y,label", *rows]) + "\n", encoding="utf-8")
    callback = ("+callbacks.own._target_=own_callback.Own", "trust=[own_callback]", *WORDS)
    study = ("sweep.name=study", "sweep.n_trials=2", "sweep.workers=1", "sweep.sampler=random")
    for name, value in {
        "PYTHONPATH": str(config_folder),
        "XDG_CACHE_HOME": str(repository / "cache"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
        "NO_PROXY": "127.0.0.1",
        "PIPELINE_PICTURES": "1",
        "DB_PASSWORD": f"{CANARY}-52",
    }.items():
        monkeypatch.setenv(name, value)
    server.start()
    server_environment = {"MLFLOW_TRACKING_URI": server.uri.replace("//", f"//me:{CANARY}-53@")}
    arguments: set[str] = set()
    printed = ""
    for words, environment in (
        (("train", *base_words, *data, *callback, "verbose=2"), server_environment),
        (("sweep", *base_words, *data, *callback, *study, "optimizer.lr=interval(0.001,0.1)"), {}),
    ):
        printed += printed_by(
            *words, folder=repository, environment=environment, arguments=arguments
        )
    mask = os.umask(0o022)
    try:
        assert report(["study=study"]) == runs(["action=list"]) == 0
        monkeypatch.setenv(*server_environment.popitem())
        assert report(["run=last"]) == 0
    finally:
        os.umask(mask)
    printed += "".join(capfd.readouterr())

    assert CANARY not in printed
    below = " ".join(arguments)
    assert "pipeline.tracking.recorder" in below
    assert CANARY not in below
    assert outcome(server.uri) == FINISHED
    for name in CHANGES:
        (repository / name).unlink()
    assert [*holding_a_secret(repository), *holding_a_secret(server.folder)] == []
    names = {path.name for path in repository.rglob("*")}
    assert names >= {"mlflow.db", "optuna.db", "journal.jsonl", "command.json", "report.html"}
    assert names >= {"best.ckpt", "card.md", "config.yaml", "uncommitted.diff", "study.yaml"}
    (run,) = (repository / "runs").glob("2*")
    log = (run / "run.log").read_text(encoding="utf-8")
    assert "told {'passphrase': ***" in log
    assert "the password is ***" in log
    diff = (run / "artifacts" / "uncommitted.diff").read_text(encoding="utf-8")
    assert diff.count("-legible = 1") == len(CHANGES)
    assert [path for path in open_to_all(repository) if ".git" not in path.parts] == []


@pytest.mark.slow
def test_error_is_shown_and_stored_without_secrets(
    fork: Start, own_code: Words, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", f"{CANARY}-60")
    words = ("+callbacks.talkative._target_=slow_parts.Talkative", *own_code)
    training = fork(*ENDLESS, *words, "traceback=true")
    assert training.end() == 2
    assert "the password is ***" in training.err
    assert "Traceback" in training.err
    assert CANARY not in training.out + training.err
    assert holding_a_secret(training.folder) == []
    assert ending(training.run) == FAILED


def test_resume_asks_for_secrets_again(fork: Start, monkeypatch: Patch) -> None:
    """It asks for references to the environment again too."""
    monkeypatch.setenv("DB_PASSWORD", f"{CANARY}-70")
    note = "tags={note: '${oc.env:DB_PASSWORD}'}"
    training = fork(*ENDLESS, note)
    training.await_epoch(1)
    training.send(signal.SIGTERM)
    assert training.end() == 143
    monkeypatch.setenv("DB_PASSWORD", "another")
    without = fork("resume=last")
    assert without.end() == 2
    assert without.err == (
        "error: tags refers to the environment, which is not taken from a run's folder; set it "
        f"again: {shlex.quote(note)}\n"
    )
    again = fork("resume=last", note, f"+tags.api_key={CANARY}-71")
    again.await_epoch(recorded_epochs(training.run)[-1] + 1)
    again.send(signal.SIGTERM)
    assert again.end() == 143
    begins = [event for event in events(training.run) if event["event"] == "begin"]
    assert [begin["tags"].get("api_key") for begin in begins] == [None, "***"]
    third = fork("resume=last", note)
    assert third.end() == 2
    assert third.err == (
        "error: tags.api_key was a secret, which is not saved; set it again: tags.api_key=…\n"
    )
    assert holding_a_secret(training.folder) == []
