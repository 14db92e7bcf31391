"""Faults F38 and F40: nobody reads what is printed, a reader of data dies."""

import logging
import multiprocessing.resource_sharer
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.fixture_types import Train

from faults.conftest import Start
from faults.processes import ending
from faults.stores import FAILED, FINISHED
from pipeline.base.errors import EnvironmentFaultError
from pipeline.running.run_end import explain

ENDLESS = ("model=mlp", "data=iris", "trainer.max_epochs=100000", "tracking=none")
TRAIN = f"{shlex.quote(sys.executable)} -m pipeline.train model=mlp data=iris tracking=none"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["| head -n 1", ">/dev/full", ">&- 2>&- <&-"])
def test_closed_or_full_streams_change_no_result(own_folder: Path, streams: str) -> None:
    ended = shell(f"{TRAIN} trainer.max_epochs=3 {streams}")
    assert ended.returncode == 0, ended.stderr
    if "head" in streams:
        assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""
    (run,) = (own_folder / "runs").iterdir()
    assert ending(run) == FINISHED


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells what is open")
def test_closed_streams_are_not_reused_for_files(start: Start) -> None:
    closing = ("bash", "-c", '"$@" <&- >&- 2>&-; exit $?', "bash")
    training = start(*ENDLESS, prefix=closing)
    training.wait_until(lambda: list(training.folder.glob("runs/*/checkpoints/*")), what="a file")
    process = psutil.Process(training.pid).children()[0]  # what bash has started
    opened = {Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 1, 2)}
    assert opened == {Path("/dev/null")}
    process.terminate()
    assert training.end() == 143


@pytest.mark.slow
def test_exit_code_is_kept_without_output_streams(own_folder: Path) -> None:
    assert shell(f"{TRAIN} optimizer.lr=-1 >/dev/full 2>/dev/full").returncode == 2
    assert shell(f"{TRAIN} optimizer.lrr=1 2>&-").returncode == 2
    assert list(own_folder.iterdir()) == []


def test_killed_data_loader_is_reported_with_hint(fork: Start) -> None:
    training = fork(*ENDLESS, "data.memory_budget=0", "data.num_workers=2")
    training.await_epoch(2)
    command = psutil.Process(training.pid).cmdline()
    readers = [
        process for process in training.children() if process.cmdline() == command
    ]  # its forks
    assert len(readers) >= 2
    os.kill(readers[0].pid, signal.SIGKILL)
    assert training.end() == 3
    (line,) = training.err.splitlines()
    assert line.startswith("error: a data loading process died (")
    assert line.endswith("; try data.num_workers=0, or more shared memory")
    assert ending(training.run) == FAILED


def test_data_loader_death_is_named_behind_other_errors() -> None:
    error = EnvironmentFaultError("last.ckpt can't be written; make room")
    error.__cause__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert str(explain(error)).startswith("a data loading process died (DataLoader worker (pid 7)")


def test_data_loader_death_is_named_while_fetching(tmp_path: Path) -> None:
    """Its memory is asked for through a socket that it has not closed in order."""
    with pytest.raises(OSError, match=r".") as raised:
        Missing(tmp_path).detach()
    assert str(explain(raised.value)).startswith("a data loading process died (")


class Missing(multiprocessing.resource_sharer.DupFd):
    """What torch sends for a batch, with the address of a process that is gone."""

    def __init__(self, folder: Path) -> None:
        self._id = (str(folder / "socket"), 0)


def test_hydra_info_leaves_logging_unchanged(train: Train) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    assert train("--info", "plugins") == 0
    assert (list(root.handlers), root.level) == before


def test_hydra_info_is_printed_on_standard_output() -> None:
    # In a process of its own: the answer is logged, and what other tests do to logging stays.
    assert "Hydra" in shell(f"{TRAIN} --info plugins").stdout
