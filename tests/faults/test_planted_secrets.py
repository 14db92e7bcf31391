"""Promise N4 over everything: what a run, a study and their reports leave behind, and print."""

import functools
import io
import os
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from faults.conftest import commit

CANARY = "c4nary"
WORDS = (
    f"+tags.pwd={CANARY}-00",
    f"+tags.auth='Bearer {CANARY}-01 {CANARY}-02'",
    f"+tags.hint='use pass:{CANARY}-03 there'",
    f"+tags.more='{{client_secret: {CANARY}-04 {CANARY}-05, x: 1}}'",
    f"+callbacks.own.passphrase='{CANARY}-06, {CANARY}-07'",
    f"+callbacks.own.credentials={{user: {CANARY}-08, pin: [{CANARY}-09, {CANARY}-10]}}",
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

from pytorch_lightning import Callback

class Own(Callback):
    def __init__(self, **options):
        self.options = options

    def on_fit_start(self, *_):
        logging.getLogger("own").warning("told %s", self.options)
"""


@pytest.fixture
def repository(own_folder: Path) -> Path:
    """The current folder, as a repository with secrets in changes that are not committed."""
    commit(own_folder, dict.fromkeys(CHANGES, "legible = 1\n"))
    for name, content in CHANGES.items():
        (own_folder / name).write_text(content, encoding="utf-8")
    return own_folder


@pytest.fixture
def signed_table(tmp_path: Path) -> Iterator[str]:
    """The address of a table on this machine, with a signature behind its question mark."""
    folder = tmp_path / "served"
    folder.mkdir()
    rows = [f"{n % 7},{n % 5},{'ab'[n % 2]}" for n in range(60)]
    (folder / "far.csv").write_text("\n".join(["x,y,label", *rows]) + "\n")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    serving = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}/far.csv?X-Amz-Signature={CANARY}-50&sig={CANARY}-51"
    serving.shutdown()
    serving.server_close()


def contents(path: Path) -> Iterator[bytes]:
    """Yield what is in a file, and what is in it unpacked."""
    content = path.read_bytes()
    yield content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())


def open_to_all(folder: Path) -> Iterator[Path]:
    """Yield what any user of the machine could read below a folder that all may enter."""
    for path in folder.iterdir():
        mode = path.stat().st_mode
        if mode & stat.S_IROTH:
            yield path
        if path.is_dir() and mode & stat.S_IXOTH:
            yield from open_to_all(path)


@pytest.mark.slow
def test_nothing_that_is_left_behind_or_printed_holds_a_secret_or_is_open_to_all(
    repository: Path, signed_table: str, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "planted.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (own / "own_callback.py").write_text(CALLBACK, encoding="utf-8")
    given = ("--config-dir", str(own), "experiment=planted", "model=mlp", "trainer.max_epochs=1")
    data = ("data=table", "data.target=label", "data.allow_url=true", f"data.path='{signed_table}'")
    callback = ("+callbacks.own._target_=own_callback.Own", "trust=[own_callback]", *WORDS)
    study = ("sweep.name=study", "sweep.n_trials=2", "sweep.workers=1", "sweep.sampler=random")
    environment = {
        **os.environ,
        "PYTHONPATH": str(own),
        "XDG_CACHE_HOME": str(repository / "cache"),
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
        "NO_PROXY": "127.0.0.1",
        "PIPELINE_PICTURES": "1",
    }
    printed = ""
    for words in (
        ("train", *given, *data, *callback),
        ("sweep", *given, *data, *callback, *study, "optimizer.lr=interval(0.001,0.1)"),
        ("report", "run=last"),
        ("report", "study=study"),
        ("runs", "action=list"),
    ):
        command = [sys.executable, "-m", f"pipeline.{words[0]}", *words[1:]]
        how = {"cwd": repository, "env": environment, "umask": 0o022}
        ended = subprocess.run(command, check=False, capture_output=True, text=True, **how)  # type: ignore[call-overload]
        assert ended.returncode == 0, ended.stderr
        printed += ended.stdout + ended.stderr

    assert CANARY not in printed
    for name in CHANGES:
        (repository / name).unlink()
    files = [path for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert [path for path in files if any(CANARY.encode() in one for one in contents(path))] == []
    names = {path.name for path in files}
    assert names >= {"mlflow.db", "optuna.db", "journal.jsonl", "command.json", "report.html"}
    assert names >= {"best.ckpt", "card.md", "config.yaml", "uncommitted.diff", "study.yaml"}
    (run,) = (repository / "runs").glob("2*")
    assert "told {'passphrase': ***" in (run / "run.log").read_text(encoding="utf-8")
    diff = (run / "artifacts" / "uncommitted.diff").read_text(encoding="utf-8")
    assert diff.count("-legible = 1") == len(CHANGES)
    assert [path for path in open_to_all(repository) if ".git" not in path.parts] == []
