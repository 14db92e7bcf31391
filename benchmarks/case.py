"""A case of a fuzz: a command line and its files, how it is run, and whether it ended as it should.

A case fails where it prints a traceback, ends with exit code 1 (or any that the documentation does
not know), takes too long, prints an error that is not a line `error: …`, leaves a half-written
file, or leaves anything at all where it ends with exit code 2.
"""

import contextlib
import importlib
import io
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

LONGEST_CASE = 120
"""Seconds."""
LARGEST_FILE = 1 << 24
"""Bytes of a file whose content is compared."""
CODES = (0, 2, 3, 4)
ROOT = Path(__file__).parents[1]

Main = Callable[[Sequence[str]], int]


Snapshot = dict[str, tuple[object, ...]]


@dataclass(frozen=True)
class Case:
    """A command line and the files that lie beside it.

    Args:
        command: Name of the command, or of one of `CHECKS`.
        words: What follows it.
        files: Their content by name.
    """

    command: str
    words: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.command} {list(self.words)!r}" + "".join(
            f"\n    {name}: {content!r}" for name, content in self.files.items()
        )

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes that the documentation knows."""
        return CODES

    def write(self, folder: Path) -> None:
        """Write the files into an empty folder."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    def damage(self, before: Snapshot, after: Snapshot, code: int | str) -> list[str]:
        """Return what is wrong about the files after the command."""
        problems = []
        left = sorted(after.keys() - before.keys())
        if code == 2 and left:
            problems.append(f"exit code 2, and it left {left[:5]}")
        if half_written := [name for name in left if name.endswith(".tmp")]:
            problems.append(f"half-written files: {half_written}")
        if changes(before, after) and "overwrite=true" not in self.words:
            problems.append("a file that was given has changed")
        return problems


def changes(before: Snapshot, after: Snapshot, *, below: str = "") -> list[str]:
    """Return the names whose file has changed or is gone, of those that begin with `below`."""
    names = [name for name in before if name.startswith(below)]
    return [name for name in names if after.get(name) != before[name]]


def snapshot(folder: Path) -> Snapshot:
    """Return kind, size, time and content of all that lies in a folder; no link is followed."""
    state: Snapshot = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = path.readlink()
            elif stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_FILE:
                content = hash(path.read_bytes())
            kind = stat.S_IFMT(status.st_mode)
            is_folder = stat.S_ISDIR(status.st_mode)
            facts = () if is_folder else (status.st_size, status.st_mtime_ns, content)
            state[str(path.relative_to(folder))] = (kind, *facts)
    return state


class Hang(BaseException):
    """A case took too long."""


# How a case ends.


def _checked_run(config: DictConfig) -> int:
    from pipeline.config.check import check

    check(config)
    return 0


def _checked_study(config: DictConfig) -> int:
    from pipeline.running.command_line import Command
    from pipeline.study.planning import make_study_plan

    said = Command.of_this_process()
    make_study_plan(config, said.overrides, said.config_dir)
    return 0


def _main(command: str) -> Main:
    if command in CHECKS:
        return CHECKS[command]()
    return importlib.import_module(f"pipeline.{command}").main  # type: ignore[no-any-return] # its main


def _check_of_run() -> Main:
    from pipeline.commands.entry import command

    return command("train", _checked_run)


def _check_of_study() -> Main:
    from pipeline.commands.entry import command
    from pipeline.config.options import SweepConfig
    from pipeline.study.space.space import with_space
    from pipeline.study.space.space_reading import names_of_study

    return command(
        "sweep", _checked_study, options=SweepConfig, rewrite=with_space, more_names=names_of_study
    )


CHECKS: dict[str, Callable[[], Main]] = {
    "check of train": _check_of_run, "check of sweep": _check_of_study
}  # fmt: skip


@contextlib.contextmanager
def empty_folder() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def _hang(*_: object) -> None:
    raise Hang


def called(case: Case) -> tuple[int | str, str]:
    """Return the exit code of a command in this process, and what it printed as errors."""
    errors = io.StringIO()
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(LONGEST_CASE)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
            code: int | str = _main(case.command)(case.words)
    except SystemExit as error:  # of --help
        code = error.code if isinstance(error.code, int) else str(error.code)
    except BaseException as error:
        code = f"raises {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return code, errors.getvalue()


def _as_process(case: Case) -> tuple[int | str, str]:
    words = [sys.executable, "-m", f"pipeline.{case.command}", *case.words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            words, capture_output=True, env=environment, timeout=LONGEST_CASE, check=False
        )
    except subprocess.TimeoutExpired:
        return "takes too long", ""
    return done.returncode, done.stderr.decode(errors="replace")


def ended(case: Case, *, as_process: bool = False) -> tuple[int | str, list[str]]:
    """Run a case in an empty folder; return its exit code and what is wrong about its end."""
    with empty_folder() as folder:
        case.write(folder)
        before = snapshot(folder)
        code, errors = _as_process(case) if as_process else called(case)
        damage = case.damage(before, snapshot(folder), code)
    problems = []
    if code not in case.codes:
        problems.append(f"exit code {code}: {errors[-500:]}")
    if "Traceback" in errors:
        problems.append(f"a traceback: {errors[-500:]}")
    if code == 2 and not all(line.startswith("error: ") for line in _lines(errors)):
        problems.append(f"a line that is no error: {errors[-500:]}")
    if code == 2 and not errors:
        problems.append("exit code 2 without a word")
    return code, problems + [f"{line}: {errors[-300:]}" for line in damage]


def _lines(errors: str) -> list[str]:
    notes = ("warning: ", "note: ", "rows ")  # printed before a problem is found
    return [line for line in errors.splitlines() if line.strip() and not line.startswith(notes)]
