"""The way into a command: Hydra's own command line whole, exit codes, streams, cold starts."""

import errno
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.config_command import choices
from helpers.fixture_types import Capture, Patch
from omegaconf import DictConfig

from pipeline import COMMANDS, __version__
from pipeline.__main__ import main
from pipeline.base.errors import (
    ConfigError,
    DataError,
    DivergedError,
    EnvironmentFaultError,
    Interrupted,
    StoresDifferError,
)
from pipeline.base.paths import conf_folder
from pipeline.commands.entry import command
from pipeline.running.failures import print_error

Command = Callable[[Sequence[str] | None], int]
SCRIPT = """
import sys
from pipeline.commands.entry import command

def body(config):
    {body}
    return 0

sys.exit(command("train", body)(None))
"""
INSTALLED = "import sys; from pipeline.__main__ import main; sys.exit(main())"


ROOT = Path(__file__).parent.parent
#: Begins a command that heeds these signals, which a shell may have set to be ignored.
HEEDING = ("env", "--default-signal=HUP,INT", sys.executable)


def ended(
    *words: str,
    stdout: int = subprocess.PIPE,
    folders: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run Python as a process of its own, which imports from these folders first."""
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    return subprocess.run(
        [*HEEDING, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **(variables or {})},
    )


def system_error(code: int) -> OSError:
    """Return the error of a system call, as Python raises it."""
    return OSError(code, os.strerror(code))


def ending(error: BaseException | None) -> Command:
    """Return a command that ends with an error."""

    def body(_config: DictConfig) -> int:
        if error is not None:
            raise error
        return 0

    return command("train", body)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ConfigError("a", "b"), 2, ["error: a", "error: b"]),
        (DataError("a"), 2, ["error: a"]),
        (EnvironmentFaultError("a"), 3, ["error: a"]),
        (DivergedError("a"), 4, ["error: a"]),
        (StoresDifferError("a"), 5, ["error: a"]),
        (OSError(errno.ENOSPC, "x", "/f"), 3, ["error: the disk is full at '/f'; choose"]),
        (PermissionError(errno.EACCES, "x", "/f"), 3, ["error: permission is denied at '/f'"]),
        (type("MisconfigurationException", (Exception,), {})("a\n b"), 2, ["error: a b"]),
        (MemoryError(), 3, ["error: out of memory; try a smaller data.batch_size"]),
        (system_error(errno.EAGAIN), 3, ["error: no more processes or threads can be started; "]),
        (RuntimeError("can't start new thread"), 3, ["error: no more processes or threads can"]),
        (system_error(errno.ENOMEM), 3, ["error: no memory is left; end other programs, or "]),
        (system_error(errno.EMFILE), 3, ["error: this process has too many open files; raise"]),
        (system_error(errno.ENFILE), 3, ["error: this machine has too many open files; end "]),
        (Interrupted(signal.SIGINT), 130, ["stopped"]),
        (Interrupted(signal.SIGTERM), 143, ["stopped"]),
        (Interrupted(signal.SIGHUP), 129, ["stopped"]),
        (KeyboardInterrupt(), 130, ["stopped"]),
        (SystemExit(7), 7, []),
        (RuntimeError("odd\nthing"), 1, ["error: RuntimeError: odd thing (test_entry.py:"]),
    ],
)
def test_each_error_has_its_exit_code_and_lines(
    error: BaseException, code: int, lines: list[str], capsys: Capture
) -> None:
    assert ending(error)([]) == code
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(lines)
    assert all(line.startswith(start) for line, start in zip(printed, lines, strict=True))


FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (7, 7))"
#: Limits on processes do not hold for root.
NO_PROCESSES = """
import errno, os, subprocess
def fork_exec(*_):
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
subprocess._fork_exec = fork_exec
"""


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        (FEW_FILES, "this process has too many open files; raise the limit with ulimit -n. "),
        (NO_PROCESSES, "no more processes or threads can be started; end other programs, or "),
    ],
)
def test_limit_of_the_machine_is_named(limit: str, problem: str, own_folder: Path) -> None:
    start = "import sys; sys.argv[0] = 'pipeline-train'; from pipeline.train import main; main()"
    refused = ended("-c", f"{limit}\n{start}", "model=mlp", "data=iris")
    assert refused.returncode == 3
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: {problem}")
    assert list(own_folder.iterdir()) == []


def test_traceback_is_shown_only_on_request(capsys: Capture, monkeypatch: Patch) -> None:
    """It holds no password."""
    fails = ending(RuntimeError("no answer from http://me:canary@host"))
    fails([])
    assert "Traceback" not in capsys.readouterr().err
    fails(["traceback=true"])
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "http://me:***@host" in said
    assert "canary" not in said.replace('"no answer from http://me:canary@host"', "")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    fails([])
    assert "Traceback" in capsys.readouterr().err


def seeing(seen: list[Any], look: Callable[[DictConfig], Any], error: Any = None) -> Command:
    """Return a command that notes something of each run, and raises for seed 1 if asked to."""

    def body(config: DictConfig) -> int:
        seen.append(look(config))
        if error is not None and config.seed == 1:
            raise error
        return 0

    return command("train", body)


def test_hydra_full_error_is_hidden_from_the_run() -> None:
    seen: list[str | None] = []
    assert seeing(seen, lambda _: os.environ.get("HYDRA_FULL_ERROR"))([]) == 0
    assert seen == [None]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_multirun_continues_and_returns_the_highest_code(capsys: Capture, own_folder: Path) -> None:
    """A run that fails does not stop the others."""
    seen: list[tuple[str, int]] = []
    fails = seeing(seen, lambda config: (config.name, config.seed), DivergedError("lost"))
    assert fails(["-m", "model=lstm,gru", "seed=1,2"]) == 4
    pairs = [(model, seed) for model in ("lstm", "gru") for seed in (1, 2)]
    assert seen == [(f"{model}-mnist1d-seed{seed}", seed) for model, seed in pairs]
    assert capsys.readouterr().err == "error: lost\nerror: lost\n"
    assert list(own_folder.iterdir()) == []


def test_interrupt_ends_the_whole_multirun() -> None:
    seen: list[int] = []
    stops = seeing(seen, lambda config: config.seed, Interrupted(signal.SIGTERM))
    assert stops(["-m", "seed=1,2"]) == 143
    assert seen == [1]


def test_multirun_checks_all_names_first(capsys: Capture) -> None:
    assert ending(None)(["-m", "model=lstm,grru", "optimizer.lrr=1,2"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: model=grru is unknown; expected one of {choices('model')}. Did you mean 'gru'?",
        "error: optimizer.lrr is unknown. Did you mean 'optimizer.lr=1,2'?",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Overrides and flags may stand in any order.
        ("model=gru --cfg job seed=7 --package model", ["pipeline.networks.recurrent.GRU"]),
        ("--cfg job", []),
        ("--info", []),
        (
            "--help",
            [
                "pipeline train model=lstm",
                f"model: {choices('model')}\n",
                "trainer.max_epochs",
            ],
        ),
        ("--hydra-help", []),
        ("--cfg hydra", []),
    ],
)
def test_hydra_flags_print_and_create_nothing(
    words: str, said: list[str], capsys: Capture, own_folder: Path
) -> None:
    assert ending(AssertionError("no run was asked for"))(words.split()) == 0
    printed = capsys.readouterr().out
    assert printed.strip()
    assert all(one in printed for one in said)
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("pipeline ", " ".join(COMMANDS)),
        ("pipeline  ev", "evaluate"),
        ("pipeline train model=ls", "model=lstm"),
        ("pipeline runs acti", "action="),
        ("pipeline nonsense model=ls", ""),
    ],
)
def test_commands_keys_and_choices_are_completed(
    line: str, completions: str, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.strip() == completions


ZSH = "autoload -Uz compinit bashcompinit && compinit -D && bashcompinit; "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "before"), [(["bash", "--norc", "-i"], ""), (["zsh", "-f", "-i"], ZSH)]
)
def test_tab_key_completes_in_a_real_shell(shell: list[str], before: str, own_folder: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    script = own_folder / "pipeline"
    script.write_text(f"#!{sys.executable}\n{INSTALLED}\n", encoding="utf-8")
    script.chmod(0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            paths = {"PATH": f"{own_folder}:{os.environ['PATH']}", "TERM": "dumb"}
            given = {**os.environ, **paths, "PYTHONPATH": str(ROOT)}
            os.execvpe(shell[0], shell, {**given, "LANG": "C.UTF-8"})
        finally:  # otherwise the child would go on as a second pytest
            os._exit(127)
    os.write(terminal, f'{before}eval "$(pipeline -sc install=bash)"; echo rea"dy"\n'.encode())
    shown = b""
    try:
        for wanted, then in ((b"ready", b"pipeline train model=ls\t"), (b"model=lstm", b"")):
            while wanted not in shown:
                assert select.select([terminal], [], [], 60)[0], shown
                shown += os.read(terminal, 4096)
            os.write(terminal, then)
    finally:
        os.close(terminal)  # which hangs up
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# tests/test_imports.py starts the others in such an interpreter.
@pytest.mark.parametrize("name", ["pipeline", "pipeline.evaluate", "pipeline.export"])
def test_each_command_works_in_a_fresh_interpreter(name: str) -> None:
    helped = ended("-m", name, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert f"usage: {name.replace('.', ' ')} " in helped.stdout


KILLS, TORN = "os.kill(os.getpid(), {})", "raise ImportError('password=torn')"
BROKEN = (
    "error: a library can't be imported; install it, or reinstall this program. "
    "ImportError: password=*** (LIBRARY/__init__.py:2)\n"
)


@pytest.mark.parametrize(
    ("library", "does", "code", "said"),
    [
        ("hydra", KILLS.format(2), 130, ""),  # before `main`
        ("hydra", KILLS.format(15), 143, ""),
        ("hydra", KILLS.format(1), 129, ""),
        ("hydra", TORN, 3, BROKEN),
        ("torch", KILLS.format(15), 143, "stopped\n"),  # within it
        ("torch", TORN, 3, BROKEN),
    ],
)
def test_stop_or_broken_library_during_import_is_brief(
    library: str, does: str, code: int, said: str, own_folder: Path
) -> None:
    """At most one line is printed."""
    file = own_folder / "given" / library / "__init__.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"import os\n{does}\n", encoding="utf-8")
    words = ("-m", "pipeline.train", "model=mlp", "output=given/runs")
    stopped = ended(*words, folders=[own_folder / "given"])
    assert (stopped.returncode, stopped.stdout) == (code, "")
    assert stopped.stderr == said.replace("LIBRARY", library)
    assert not Path("given/runs").exists()


#: Stops the process at the first import after that of the program has begun.
STOPS_EARLY = """
import os, sys
class Stops:
    begun = False
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline":
            Stops.begun = True
        elif Stops.begun:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), 2)
sys.meta_path.insert(0, Stops())
"""


@pytest.mark.parametrize("words", [["-m", "pipeline"], ["-m", "pipeline.sweep"], ["./pipeline"]])
def test_interrupt_during_first_import_is_silent(words: list[str], own_folder: Path) -> None:
    (own_folder / "pipeline").write_text(INSTALLED, encoding="utf-8")
    (own_folder / "given").mkdir()
    (own_folder / "given" / "sitecustomize.py").write_text(STOPS_EARLY, encoding="utf-8")
    stopped = ended(*words, "--version", folders=[own_folder / "given"])
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "", "")


@pytest.mark.parametrize("words", [["./pipeline-x/mine/study.py"], ["-m", "mine.study"]])
def test_importing_package_keeps_signals_and_excepthook(
    words: Sequence[str], own_folder: Path
) -> None:
    folder = own_folder / "pipeline-x" / "mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import pipeline", encoding="utf-8")
    look = "import mine, signal, sys; print(signal.getsignal(2).__name__, sys.excepthook.__name__)"
    (folder / "study.py").write_text(look, encoding="utf-8")
    printed = ended(*words, "pipeline.train", folders=[folder.parent]).stdout
    assert printed == "default_int_handler excepthook\n"


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [("pipeline-runs", 2, "late\n"), ("my-study", 7, "late\nlast\n")],
)
def test_command_exits_after_all_exit_handlers(program: str, code: int, said: str) -> None:
    """Another program that imports the package ends as it does without it."""
    script = (
        f"import atexit, sys; sys.argv[0] = {program!r}; atexit.register(print, 'last'); "
        "import pipeline; atexit.register(print, 'late'); "
        "from pipeline.runs import main; main(); sys.exit(7)"
    )
    refused = ended("-c", script, "--colour")
    assert (refused.returncode, refused.stdout) == (code, said)


def test_log_names_the_import_error(caplog: pytest.LogCaptureFixture) -> None:
    assert print_error(ImportError("torn"), traceback=False) == 3
    assert "ImportError: torn" in caplog.text


def test_config_of_a_command_is_composed_once() -> None:
    file = str(conf_folder() / "model" / "lstm.yaml")
    counting = (
        "import sys; read = []; sys.addaudithook(lambda name, given: "
        f"read.append(0) if name == 'open' and given[0] == {file!r} else None); "
        "from pipeline.commands.entry import command; "
        "command('train', lambda tree: 0)(sys.argv[1:]); "
        "print(len(read))"
    )
    assert ended("-c", counting, "model=lstm", "optimizer.lr=0.01").stdout == "1\n"


@pytest.mark.parametrize(
    "start",
    [
        "from pipeline.predict import main; main()",
        "from pipeline.base.processes.parent import Parent; Parent.claim()",
    ],
)
def test_garbage_is_not_collected_at_exit(start: str) -> None:
    seen = "str((gc.get_threshold()[0], gc.get_freeze_count() > 1000)).encode()"
    script = f"import atexit, gc, os; atexit.register(lambda: os.write(fd, {seen})); fd = os.dup(1)"
    assert ended("-c", f"{script}; {start}").stdout == "(200000, True)"


@pytest.mark.parametrize("broken", ["pipe", "disk"])
def test_run_survives_closed_pipe_or_full_disk(broken: str) -> None:
    body = "print('x' * 100_000, flush=True); print('more', flush=True); open('end', 'w').close()"
    reader, writer = os.pipe()
    os.close(reader)
    if broken == "disk":
        writer = os.open("/dev/full", os.O_WRONLY)
    result = ended("-c", SCRIPT.format(body=body), stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")
    assert Path("end").exists()


def test_any_text_is_printable_with_narrow_encoding() -> None:
    narrow = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = ended("-c", SCRIPT.format(body=r"print('\u6570')"), variables=narrow)
    assert (result.returncode, result.stdout) == (0, "\\u6570\n")
    assert "[GROUP=CHOICE \\u2026]" in ended("-c", INSTALLED, variables=narrow).stdout
    with Path("/dev/full").open("w") as full:
        result = ended("-c", INSTALLED, "--help", stdout=full.fileno())
    assert (result.returncode, result.stderr) == (0, "")


def test_pipeline_program_runs_every_command(capsys: Capture) -> None:
    assert main(["train", "model=lstm", "--cfg", "job"]) == 0
    assert "_target_: pipeline.networks.recurrent.LSTM" in capsys.readouterr().out
    for words in (["--version"], ["train", "--version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"pipeline {__version__}\n"


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("trian", " Did you mean 'train'?"),
        ("model=lstm", " Did you mean 'train model=lstm'?"),
        ("model=lstmm", " Did you mean 'train model=lstm'?"),
        ("lstm", " Did you mean 'train model=lstm'?"),
        ("epochs=5", " Did you mean 'train trainer.max_epochs=5'?"),
        ("sweep.n_trials=3", ""),
        ("init", ""),
        ("serve", ""),
        ("--colour", ""),
    ],
)
def test_unknown_command_suggests_the_nearest(word: str, near: str, capsys: Capture) -> None:
    assert main([word]) == 2
    expected = f"error: {word!r} is not a command; expected one of {', '.join(COMMANDS)}.{near}\n"
    assert capsys.readouterr().err == expected


def test_error_of_one_rank_names_the_rank(monkeypatch: Patch, capsys: Capture) -> None:
    # The first rank finds nothing.
    monkeypatch.setattr("pipeline.running.failures.LEADER_SECONDS", 0.0)
    rank = {"TORCHELASTIC_RUN_ID": "any", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    assert ending(DataError("rows.csv is not on this machine"))([]) == 2
    assert capsys.readouterr().err == "error: rank 1: rows.csv is not on this machine\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-m seed=1,2 trainer.devices=2", "error: trainer.devices=2 can't be combined with"),
        ("--resolve", "error: The --resolve flag can only be used in conjunction with --cfg"),
        ("--run --cfg job", "error: Only one of --run, --multirun, --cfg, --info and "),
        ("--colour", "error: unrecognized arguments: --colour; see --help\n"),
        ("--experimental-rerun x.pickle", "error: --experimental-rerun runs code from a file"),
    ],
)
def test_incompatible_flags_are_refused(words: str, said: str, capsys: Capture) -> None:
    assert ending(None)(words.split()) == 2
    assert capsys.readouterr().err.startswith(said)
