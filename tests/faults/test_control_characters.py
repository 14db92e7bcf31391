"""Control characters in text from files and servers never reach the terminal."""

import io
import json
import os
import pty
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from rich.table import Table

from faults.portal import Portal
from pipeline.base.streams import filtered, single_line, unfiltered, visible
from pipeline.base.terminal import console, draw_over, redrawing, say

#: A title, a cleared screen, a colour in the 8-bit form, and a reversed direction.
CANARY = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e"
SHOWN = r"\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e"
#: Rich's own sequences: colours, the cursor, an emptied line.
OWN = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
QUICK = ("model=mlp", "scheduler=none", "trainer.max_epochs=2")

#: What a command prints, standard output before standard error.
Printed = Callable[..., str]


def in_pipe(words: tuple[str, ...], folder: Path) -> str:
    """Return what a command prints to pipes."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=folder, capture_output=True, check=False
    )
    return (ended.stdout + ended.stderr).decode("utf-8")


def in_terminal(words: tuple[str, ...], folder: Path) -> str:
    """Return what a command prints to a terminal, without the sequences of Rich."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "400"},
    ):
        os.close(terminal)
        content = b"".join(chunks(controller))
    os.close(controller)
    return OWN.sub("", content.decode("utf-8"))


def chunks(descriptor: int) -> Iterator[bytes]:
    """Return what a terminal shows until its other end is closed."""
    while True:
        try:
            content = os.read(descriptor, 1 << 16)
        except OSError:
            return
        yield content


@pytest.fixture
def printed(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Returns what a command prints to a terminal, or to a pipe, without a control character."""
    run = getattr(request, "param", in_terminal)

    def call(folder: Path, *words: str) -> str:
        text: str = run(words, folder)
        assert CONTROL.findall(text) == []
        return text

    return call


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a run, and a study, whose names hold the canary."""
    folder = tmp_path_factory.mktemp("hostile")
    draw = random.Random(0)
    lines = [f"a,b{CANARY},label"]
    for number in range(90):
        label = number % 3
        lines.append(f"{draw.gauss(label, 1):.3f},{draw.gauss(-label, 1):.3f},k{label}{CANARY}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = ("data=table", "data.path=data.csv", "data.target=label")
    for words in (
        ("train", *table, *QUICK, "tracking=none"),
        ("sweep", *table, *QUICK, "sweeps=quick", "sweep.n_trials=1", "sweep.workers=1"),
    ):
        in_pipe(words, folder)
    with closing(sqlite3.connect(folder / "optuna.db")) as database, database:
        database.execute("UPDATE studies SET study_name = study_name || ?", (CANARY,))
    journal = run_of(folder) / "journal.jsonl"
    first, *later_lines = journal.read_text(encoding="utf-8").splitlines()
    begin = {**json.loads(first), "name": f"run{CANARY}"}
    journal.write_text("\n".join([json.dumps(begin), *later_lines, ""]), encoding="utf-8")
    return folder


def run_of(folder: Path) -> Path:
    """Return the folder of the first run; the second is the study's."""
    return min(folder.glob("runs/*/model")).parent


@pytest.mark.slow
def test_table_names_are_shown_as_escapes(hostile: Path, printed: Printed) -> None:
    table = ("data=table", "data.path=data.csv", "data.target=label", "output=other")
    text = printed(hostile, "train", *table, *QUICK, "tracking=none", "details=true")
    assert f"k0{SHOWN}" in text
    message = printed(hostile, "train", *table[:2], "data.target=b", *QUICK, "tracking=none")
    assert f"columns are a, b{SHOWN}" in message.replace("\\\\", "\\")


@pytest.mark.slow
@pytest.mark.parametrize("printed", [in_pipe, in_terminal], indirect=True)
def test_run_names_are_shown_as_escapes(hostile: Path, printed: Printed) -> None:
    model = f"model_from={run_of(hostile)}"
    assert f"run{SHOWN}" in printed(hostile, "runs")
    assert "f1" in printed(hostile, "evaluate", model, "tracking=none", "details=true")
    again = "overwrite=true"
    assert "rows" in printed(hostile, "predict", model, "input=data.csv", "output=out.csv", again)
    assert "interface" in printed(hostile, "export", model, "output=exported", again)
    assert "report" in printed(hostile, "report", f"run={run_of(hostile)}")


@pytest.mark.slow
def test_study_names_are_shown_as_escapes(hostile: Path, printed: Printed) -> None:
    assert SHOWN in printed(hostile, "runs").replace("\\\\", "\\")


@pytest.mark.slow
def test_server_answers_are_shown_as_escapes(hostile: Path, printed: Printed) -> None:
    content = json.dumps({"error_code": "PERMISSION_DENIED", "message": f"no{CANARY}"})
    with Portal("http://127.0.0.1:9") as portal:
        portal.answer = (403, {"Content-Type": "application/json"}, content.encode())
        portal.is_taken = lambda *_: True
        text = printed(hostile, "train", "data=iris", *QUICK, f"tracking.uri={portal.uri}")
    assert f"no{SHOWN}" in text


@pytest.mark.slow
def test_predictions_are_unescaped_only_in_a_pipe(hostile: Path) -> None:
    words = ("predict", f"model_from={run_of(hostile)}", "input=data.csv")
    assert f"k1{CANARY}" in in_pipe(words, hostile)
    text = in_terminal(words, hostile)
    assert f"k1{SHOWN}" in text
    assert CONTROL.findall(text) == []


@pytest.mark.parametrize("text", ["a\nb\tc", "a\r\nb", "\x1b[2J\n"])
def test_single_line_has_no_line_break(text: str) -> None:
    escaped = single_line(text)
    assert escaped.isprintable()
    assert escaped.encode("ascii").decode("unicode_escape") == text


@pytest.mark.parametrize("text", ["naïve", "日本語", "👩‍👩‍👧", "שלום", "a\tb\n", "½", "\xa0x"])
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert visible(text) == text


def test_console_escapes_text_but_keeps_own_styles(monkeypatch: Patch) -> None:
    raw = io.StringIO()
    raw.isatty = lambda: True  # type: ignore[method-assign] # a terminal in memory
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", filtered(raw))
    table = Table(f"head{CANARY}", title=f"title{CANARY}")
    table.add_row(f"[red]cell{CANARY}[/red]")
    with redrawing(lambda: table):
        print(f"printed{CANARY}")
        say(console(), f"said{CANARY}", style="bold")
    draw_over(sys.stdout, "\x1b[2K")
    text = raw.getvalue()
    assert text.endswith("\x1b[2K")
    assert "\x1b[1m" in text
    assert CONTROL.findall(OWN.sub("", text)) == []
    for word in ("head", "title", "cell", "printed", "said"):
        assert f"{word}{SHOWN}" in text.replace("\n", "")
    assert unfiltered(sys.stdout) is raw
