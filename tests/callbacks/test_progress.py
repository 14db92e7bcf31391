"""What a person sees of a training: in a terminal of 80 columns, in a pipe, or nothing."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Patch, Train
from helpers.pty_terminal import Terminal, terminal, width

from pipeline.base.terminal import CAUTION, GOOD, console, folded, say, showing, waiting_for

IRIS = ("model=mlp", "data=iris", "tracking=none", "trainer.max_epochs=4")
FREE = ("run  ", "report  ", "see it  ", "        http", "unsent  ")
"""Lines that may be longer: a path or a command is copied whole."""


@pytest.fixture
def in_terminal(train: Train, monkeypatch: Patch) -> Callable[..., Terminal]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: str) -> Terminal:
        with terminal() as shown:
            assert train(*words) == 0
        return shown

    return call


def epoch_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r" *\d+/\d+  train/loss", line)]


@pytest.mark.parametrize(
    "words",
    [
        IRIS,
        ("model=cnn2d", "data=digits", "tracking=none", "trainer.max_epochs=1"),
        ("model=mlp", "data=diabetes", "tracking=none", "trainer.max_epochs=2"),
        (*IRIS, "monitor=val/precision", "trainer.max_epochs=100"),
    ],
    ids=["table", "images", "regression", "many epochs"],
)
def test_no_line_exceeds_the_terminal_width(
    in_terminal: Callable[..., Terminal], words: tuple[str, ...]
) -> None:
    last = {word.partition("=")[0]: word for word in words}
    shown = in_terminal(*last.values())
    for line in shown.frames():
        assert width(line) <= 80 or line.startswith(FREE), line
    assert len(epoch_lines(shown.screen)) == int(last["trainer.max_epochs"].partition("=")[2])


def test_run_fits_one_screen_without_details(in_terminal: Callable[..., Terminal]) -> None:
    """`details=true` adds the configuration, layers, checks and classes."""
    words = ("name=mlp-iris", "optimizer.lr=0.004", "model.hidden=[5,7]", "model.norm=none")
    screen = in_terminal(*IRIS, *words).screen
    assert [line.split()[0] for line in screen[:3]] == ["mlp-iris", "data", "1/4"]
    assert len(screen) - 4 <= 19  # beside the epochs; the comparison with a baseline takes two
    assert {"config", "checks", "TP"}.isdisjoint(" ".join(screen).split())
    screen = [one.strip() for one in in_terminal(*IRIS, *words, "details=true").screen]
    text = "\n".join(screen)
    assert screen[0].startswith("config        name=mlp-iris  seed=0")
    assert "model         MLP  hidden=[5, 7]  activation=relu" in text
    assert "optimizer     Adam  lr=0.004" in text
    order = ("config", "head", "mlp-iris ·", "checks  no constant", "train/loss", "baselines: ")
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    layers = [line.split() for line in screen if " Linear " in line]
    assert [(row[-2], row[-1]) for row in layers] == [("5", "25"), ("7", "42"), ("3", "24")]
    by_class = [len(line.split()) for line in screen if line.startswith(("setosa", "v"))]
    assert by_class == [10, 10, 10, 9, 9, 9]  # rows in each part, then scores


def test_progress_bar_moves_and_disappears(in_terminal: Callable[..., Terminal]) -> None:
    words = ("data.batch_size=1", "trainer.max_epochs=3", "trainer.gradient_clip_val=null")
    # Wide enough that each epoch takes longer than the tenth of a second between two drawings.
    shown = in_terminal(*IRIS[:3], *words, "model.norm=none", "model.hidden=[1024,1024]")
    bars = [line for line in shown.frames() if re.search(r"\d+/89 .*loss \d", line)]
    assert bars
    # A slow machine also draws the very last step, after which no time is left.
    assert all("eta " in line or re.search(r"3/3 .*89/89", line) for line in bars)
    assert any(re.search(r"best \d\.\d+ \(\d\)", line) for line in bars)
    assert not any("/89" in line for line in shown.screen)
    for tasks in ("preparing the data", "loading Lightning"):
        assert any(tasks in line for line in shown.frames())
        assert not any(tasks in line for line in shown.screen)
    assert [line.split()[0] for line in epoch_lines(shown.screen)] == ["1/3", "2/3", "3/3"]
    assert shown.text.rfind("\x1b[?25h") > shown.text.rfind("\x1b[?25l")


def test_error_restores_the_terminal(train: Train, monkeypatch: Patch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with terminal() as shown:
        assert train(*IRIS, "optimizer.lr=1e30", "optimizer=sgd", "model.norm=none") == 4
    assert shown.text.rfind("\x1b[?25h") >= shown.text.rfind("\x1b[?25l")


@pytest.mark.parametrize("apart", [True, False])
def test_warning_beside_spinner_stays_one_line(
    monkeypatch: Patch, capsys: Capture, apart: bool
) -> None:
    """It stays on its stream."""
    warning = f"warning: 7 values wait; send them with: {'pipeline runs ' * 5}"
    monkeypatch.setenv("TERM", "xterm-256color")
    with terminal() as shown, monkeypatch.context() as patch:
        if not apart:
            patch.setattr(sys, "stderr", sys.stdout)
        with waiting_for("drawing pictures", verbose=None):
            print(warning, file=sys.stderr)
    assert "drawing pictures" in shown.text
    assert capsys.readouterr().err == (f"{warning}\n" if apart else "")
    assert (warning.strip() in shown.screen) is not apart


def test_command_may_fork_beside_a_spinner(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with showing("loading PyTorch", verbose=None):
        pass
    assert capsys.readouterr().out == ""
    with terminal() as shown:
        threads = threading.active_count()
        with showing("loading PyTorch", verbose=0):
            pass
        with showing("loading PyTorch", verbose=None):
            assert threading.active_count() == threads
        print("done")
    assert [line.strip() for line in shown.frames()] == ["⠋ loading PyTorch", "done"]
    assert shown.screen == ["done", ""]


@pytest.fixture
def narrow(monkeypatch: Patch) -> None:
    """Lines of 20 columns."""
    monkeypatch.setenv("COLUMNS", "20")


def test_long_lines_break_between_words(narrow: None) -> None:
    sentence, command = "error: too-long words stay whole", ": pipeline train resume=last seed=3"
    assert folded(sentence + command, StringIO()) == sentence + command
    with terminal(columns=20):
        lines = folded(sentence + command, sys.stdout)
    assert lines == (
        "error: too-long\nwords stay whole:\n  pipeline train \\\n    resume=last \\\n    seed=3"
    )


@pytest.mark.parametrize(
    "lines",
    [
        ("result  B is better", "        than A"),
        ("  lr: 0.1 to 0.2,", "    log scale"),
        ("note: read as one", "      number"),
        ("warning: few rows", "         are left"),
        ("mlp · 3 parameters ·", "  seed 0 · cpu"),
        ("note: 数据数据 数据", "      数据"),  # a character takes two columns
        ("note: the log is", "      runs/a/rather/deep/folder/log.txt", "      now"),
        ("note: the log is", "      runs/数据数据数据数据/log", "      now"),
    ],
)
def test_continued_lines_are_indented(narrow: None, lines: tuple[str, ...]) -> None:
    """A path that is longer than a line stays whole."""
    first, *others = lines
    with terminal(columns=20) as shown:
        say(console(), " ".join([first, *(line.strip() for line in others)]))
    assert shown.text.splitlines() == [*lines]


@pytest.mark.parametrize("colour", [CAUTION, GOOD])
def test_verdicts_are_readable_on_white_and_on_black(colour: str) -> None:
    """The contrast of WCAG AA: 4.5:1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [((part + 0.055) / 1.055) ** 2.4 if part > 0.04045 else part / 12.92 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert min(1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05) >= 4.5


@pytest.mark.parametrize("verbose", ["null", "1", "2"])
def test_pipe_gets_one_line_per_epoch(train: Train, capsys: Capture, verbose: str) -> None:
    assert train(*IRIS, f"verbose={verbose}", "monitor=val/loss") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = epoch_lines(out.splitlines())
    assert len(lines) == 4
    assert len({line.index("val/loss ") for line in lines}) == 1
    losses: list[float] = []
    for line in lines:
        found = re.search(r"val/loss (\S+) .*best (\S+) \((\d+)\)", line)
        assert found
        losses.append(float(found[1]))
        assert float(found[2]) == losses[int(found[3]) - 1] == min(losses)
    best = re.findall(r"\((\d+)\)", lines[-1])[-1]
    assert f"kept    weights of epoch {best} of 4" in out.splitlines()
    if verbose == "null":
        assert ["eta " in line for line in lines] == [True, True, True, False]
        assert "config" not in out.splitlines()[0]


@pytest.mark.slow
def test_real_process_fits_80_columns(own_folder: Path) -> None:
    words = ("model=lstm", "data=airline", "model.hidden=8", "trainer.max_epochs=2")
    with terminal() as shown:
        process = subprocess.run(
            [sys.executable, "-m", "pipeline.train", *words],
            stdout=sys.stdout,
            stderr=sys.stdout,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )
    assert process.returncode == 0, shown.text
    assert all(width(line) <= 80 or line.startswith(FREE) for line in shown.frames())
    assert [line.split()[0] for line in epoch_lines(shown.screen)] == ["1/2", "2/2"]
    assert "Traceback" not in shown.text
    assert "Warning" not in shown.text
