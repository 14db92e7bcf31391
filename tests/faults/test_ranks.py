"""Processes that train together end together: killed, stopped or wrong, nothing is left running."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from faults.conftest import Start
from faults.processes import (
    Training,
    await_end,
    checkpoint_epoch,
    ending,
    lines_of,
    listening,
    recorded_epochs,
)
from faults.stores import FAILED, FINISHED, STOPPED, free_port

TWO = ("trainer=ddp", "trainer.accelerator=cpu")

pytestmark = pytest.mark.slow


@pytest.fixture
def training(fork: Start) -> Training:
    """A run of two processes which has begun."""
    training = fork("model=mlp", "data=digits", "verbose=2", "trainer.max_epochs=5000", *TWO)
    training.await_epoch(2)
    return training


def end_of(training: Training, processes: Sequence[psutil.Process]) -> int:
    """Wait for the end of a run and of all its processes; return the exit code."""
    code = training.end()
    await_end(*processes)
    return code


def test_killed_rank_ends_the_run_with_reason(training: Training) -> None:
    """Its checkpoint is kept."""
    family = training.children()
    (peer,) = training.running("pipeline.running.peer")
    peer.kill()
    assert end_of(training, family) == 3
    (line,) = lines_of(training.err, start="error: ")
    assert line.startswith("error: rank 1 of 2 was ended by SIGKILL, which stopped the training")
    assert f"resume={training.run.relative_to(training.folder)}" in training.err
    assert ending(training.run) == FAILED
    assert checkpoint_epoch(training.run) >= 2
    assert "Traceback" not in training.err


def test_all_ranks_end_with_the_first_one(training: Training) -> None:
    """They listen on loopback only."""
    family = training.children()
    assert listening(training.pid) <= {"127.0.0.1", "::1"}
    training.send(signal.SIGKILL)
    assert end_of(training, family) == -signal.SIGKILL
    assert recorded_epochs(training.run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_is_orderly_on_all_ranks(training: Training, number: signal.Signals) -> None:
    family = training.children()
    if number == signal.SIGINT:  # a terminal sends it to all processes
        for process in family:
            process.send_signal(number)
    training.send(number)
    assert end_of(training, family) == 128 + number
    assert ending(training.run) == STOPPED
    assert checkpoint_epoch(training.run) == recorded_epochs(training.run)[-1]


# ── ranks that somebody else starts ─────────────────────────────────────────────────────────────


def torchrun(folder: Path, words: Sequence[str], *flags: str) -> subprocess.Popen[str]:
    """Start a command as torchrun starts it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *flags, "-m", "pipeline.train"]
    return subprocess.Popen(
        [*launcher, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
    )


def test_torchrun_resumes_run_on_two_machines(run: Path, own_folder: Path) -> None:
    words = ("resume=last", "verbose=2", *TWO, "trainer.num_nodes=2", "trainer.devices=1")
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    meeting.append(f"--master-port={free_port()}")
    machines = [
        torchrun(own_folder, (*words, "trainer.max_epochs=5"), *meeting, f"--node-rank={node}")
        for node in range(2)
    ]
    (first, errors), (second, _) = (machine.communicate(timeout=300) for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], errors
    assert "on each of 2 machines" in first
    assert second == ""
    assert list((own_folder / "runs").iterdir()) == [run]
    assert ending(run) == FINISHED
    assert recorded_epochs(run) == [1, 2, 3, 4, 5]


def test_wrong_config_is_reported_once_for_all_ranks(own_folder: Path) -> None:
    process = torchrun(own_folder, ("model=mpl", *TWO), "--standalone", "--nproc-per-node=2")
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    (line,) = lines_of(errors, start="error: ")
    assert line.startswith("error: model=mpl is unknown")
    assert not (own_folder / "runs").exists()
