"""The way into a command: Hydra's own command line whole, exit codes, streams, cold starts."""

import errno
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from command_line import choices
from fixture_types import Capture, Patch
from omegaconf import DictConfig

from pipeline.entry import command
from pipeline.errors import (
    ConfigError,
    DataError,
    DivergedError,
    EnvironmentFaultError,
    Interrupted,
    RecordsDifferError,
)
from pipeline.paths import conf_folder

SCRIPT = """
import sys
from pipeline.entry import command

def body(config):
    from pipeline.config.check import check
    check(config)
    {body}
    return 0

code = command("train", body)(None)
sys.stderr.write("loaded: " + " ".join(
    name for name in ("torch", "pytorch_lightning", "mlflow") if name in sys.modules) + "\\n")
sys.exit(code)
"""


def process(
    *words: str, body: str = "pass", environment: dict[str, str] | None = None, **more: object
) -> subprocess.CompletedProcess[str]:
    """Run a command line as a process of its own, from an empty folder."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return] # options of the process
        [sys.executable, "-c", SCRIPT.format(body=body), *words],
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **(environment or {})},
        **({"capture_output": True} | more),
    )


def ending(error: BaseException | None) -> Callable[[Sequence[str] | None], int]:
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
        (RecordsDifferError("a"), 5, ["error: a"]),
        (OSError(errno.ENOSPC, "x", "/f"), 3, ["error: the disk is full at '/f'; choose"]),
        (PermissionError(errno.EACCES, "x", "/f"), 3, ["error: permission is denied at '/f'"]),
        (type("MisconfigurationException", (Exception,), {})("a\n b"), 2, ["error: a b"]),
        (MemoryError(), 3, ["error: out of memory; try a smaller data.batch_size"]),
        (Interrupted(signal.SIGINT), 130, []),
        (Interrupted(signal.SIGTERM), 143, []),
        (Interrupted(signal.SIGHUP), 129, []),
        (KeyboardInterrupt(), 130, []),
        (SystemExit(7), 7, []),
        (RuntimeError("odd\nthing"), 1, ["error: RuntimeError: odd thing (test_entry.py:"]),
    ],
)
def test_each_end_has_its_exit_code_and_its_lines(
    error: BaseException, code: int, lines: list[str], capsys: Capture
) -> None:
    assert ending(error)([]) == code
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(lines)
    assert all(line.startswith(start) for line, start in zip(printed, lines, strict=True))


def test_a_traceback_is_shown_only_where_it_was_asked_for_and_without_a_password(
    capsys: Capture, monkeypatch: Patch
) -> None:
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


def test_a_run_does_not_see_the_variable_that_makes_hydra_raise() -> None:
    seen: list[str | None] = []

    def body(_config: DictConfig) -> int:
        seen.append(os.environ.get("HYDRA_FULL_ERROR"))
        return 0

    assert command("train", body)([]) == 0
    assert seen == [None]
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_multirun_goes_on_after_a_failure_and_ends_with_the_highest_code(
    capsys: Capture, own_folder: Path
) -> None:
    seen: list[tuple[str, int]] = []

    def body(config: DictConfig) -> int:
        seen.append((config.name, config.seed))
        if config.seed == 1:
            raise DivergedError("lost")
        return 0

    code = command("train", body)(["-m", "model=lstm,gru", "seed=1,2"])
    assert code == 4
    assert seen == [(f"{model}-mnist1d", seed) for model in ("lstm", "gru") for seed in (1, 2)]
    assert capsys.readouterr().err == "error: lost\nerror: lost\n"
    assert list(own_folder.iterdir()) == []


def test_a_stop_ends_the_whole_multirun() -> None:
    runs: list[int] = []

    def body(config: DictConfig) -> int:
        runs.append(config.seed)
        raise Interrupted(signal.SIGTERM)

    assert command("train", body)(["-m", "seed=1,2"]) == 143
    assert runs == [1]


def test_a_multirun_checks_the_names_of_all_its_runs_first(capsys: Capture) -> None:
    assert ending(None)(["-m", "model=lstm,grru", "optimizer.lrr=1,2"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: model=grru is unknown; expected one of {choices('model')}. Did you mean 'gru'?",
        "error: optimizer.lrr is unknown. Did you mean 'optimizer.lr'?",
    ]


def test_overrides_and_flags_may_stand_in_any_order(capsys: Capture) -> None:
    assert ending(None)(["model=gru", "--cfg", "job", "seed=7", "--package", "model"]) == 0
    assert "pipeline.networks.recurrent.GRU" in capsys.readouterr().out


@pytest.mark.parametrize("words", ["--cfg job", "--info", "--help", "--hydra-help", "--cfg hydra"])
def test_hydras_own_questions_are_answered_and_nothing_is_created(
    words: str, capsys: Capture, own_folder: Path
) -> None:
    assert ending(AssertionError("no run was asked for"))(words.split()) == 0
    said = capsys.readouterr().out
    assert said.strip()
    assert list(own_folder.iterdir()) == []
    if words == "--help":
        assert "python -m pipeline.train model=lstm" in said
        assert f"model: {choices('model')}\n" in said
        assert "trainer.max_epochs" in said


def test_shell_completion_completes_choices() -> None:
    result = process("-sc", "query=bash", environment={"COMP_LINE": "x model=l", "COMP_POINT": "9"})
    assert "model=lstm" in result.stdout


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["--info"], ["modle=lstm"]])
def test_names_and_questions_are_answered_without_torch(words: list[str]) -> None:
    assert process(*words).stderr.splitlines()[-1] == "loaded: "


def test_the_tree_of_a_plain_command_line_is_composed_once() -> None:
    file = str(conf_folder() / "model" / "lstm.yaml")
    counting = (
        "import sys; read = []; sys.addaudithook(lambda name, given: "
        f"read.append(0) if name == 'open' and given[0] == {file!r} else None); "
        "from pipeline.entry import command; command('train', lambda tree: 0)(sys.argv[1:]); "
        "print(len(read))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", counting, "model=lstm", "optimizer.lr=0.01"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert ended.stdout == "1\n"


@pytest.mark.parametrize(
    "start",
    [
        "from pipeline.predict import main; main()",
        "from pipeline.processes.child import Parent; Parent.claim()",
    ],
)
def test_no_process_searches_its_libraries_for_garbage_at_its_end(start: str) -> None:
    seen = "str((gc.get_threshold()[0], gc.get_freeze_count() > 1000)).encode()"
    script = f"import atexit, gc, os; atexit.register(lambda: os.write(fd, {seen})); fd = os.dup(1)"
    ended = subprocess.run(
        [sys.executable, "-c", f"{script}; {start}"], stdout=subprocess.PIPE, text=True, check=True
    )
    assert ended.stdout == "(10000, True)"


@pytest.mark.parametrize("broken", ["pipe", "disk"])
def test_a_closed_pipe_or_a_full_disk_changes_nothing_about_the_run(
    own_folder: Path, broken: str
) -> None:
    body = "print('x' * 100_000, flush=True); print('more', flush=True); open('end', 'w').close()"
    reader, writer = os.pipe()
    if broken == "disk":
        writer = os.open("/dev/full", os.O_WRONLY)
    os.close(reader)
    result = process(body=body, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert result.returncode == 0
    assert result.stderr == "loaded: torch\n"
    assert (own_folder / "end").exists()


def test_any_text_can_be_printed_where_the_encoding_is_narrow() -> None:
    result = process(
        body=r"print('\u6570')",
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert result.returncode == 0
    assert result.stdout == "\\u6570\n"


def test_the_package_lists_its_commands_with_examples(capsys: Capture) -> None:
    runpy.run_module("pipeline", run_name="__main__")
    assert "python -m pipeline.train model=lstm" in capsys.readouterr().out


def test_what_one_of_several_ranks_alone_has_found_is_told_with_its_number(
    monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr("pipeline.failures.LEADER_SECONDS", 0.0)  # the first rank finds nothing
    rank = {"TORCHELASTIC_RUN_ID": "any", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    assert ending(DataError("rows.csv is not on this machine"))([]) == 2
    assert capsys.readouterr().err == "error: rank 1: rows.csv is not on this machine\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "seed=1,2", "trainer.devices=2"], "error: trainer.devices=2 can't be joined with"),
        (["--resolve"], "error: The --resolve flag can only be used in conjunction with --cfg"),
        (["--run", "--cfg", "job"], "error: Only one of --run, --multirun, --cfg, --info and "),
        (["--colour"], "error: unrecognized arguments: --colour; --help shows what there is\n"),
        (["--experimental-rerun", "x.pickle"], "error: --experimental-rerun runs code from a file"),
    ],
)
def test_flags_that_can_not_be_joined_are_refused(
    words: list[str], said: str, capsys: Capture
) -> None:
    assert ending(None)(words) == 2
    assert capsys.readouterr().err.startswith(said)
