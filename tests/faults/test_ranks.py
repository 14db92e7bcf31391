"""Processes that train together end together: killed, stopped or wrong, nothing is left running."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from faults.processes import (
    Training,
    checkpoint_epoch,
    ending,
    lines_of,
    recorded_epochs,
    wait_until,
)
from faults.stores import free_port

TWO = ("trainer=ddp", "trainer.accelerator=cpu")
LONG = ("model=mlp", "data=digits", "verbose=2", "trainer.max_epochs=5000", *TWO)
PEER = "pipeline.running.peer"

pytestmark = pytest.mark.slow

Start = Callable[..., Training]


def peers(training: Training) -> list[psutil.Process]:
    """The processes that train together with the one that was started."""
    return training.running(PEER)


def all_gone(processes: Sequence[psutil.Process]) -> None:
    wait_until(
        lambda: not any(p.is_running() and p.status() != "zombie" for p in processes),
        what="the end of all processes",
    )


def test_a_killed_rank_ends_the_run_with_its_reason_and_what_was_trained_is_kept(
    start: Start,
) -> None:
    training = start(*LONG)
    training.await_epoch(2)
    family = training.children()
    (peer,) = peers(training)
    peer.kill()
    assert training.end() == 3
    all_gone(family)
    (said,) = lines_of(training.err, start="error: ")
    assert said.startswith("error: rank 1 of 2 was ended by SIGKILL, and with it the training")
    assert f"resume={training.run.relative_to(training.folder)}" in training.err
    assert ending(training.run) == ("FAILED", "error")
    assert checkpoint_epoch(training.run) >= 2
    assert "Traceback" not in training.err


def test_nothing_listens_on_the_network_and_all_ranks_end_with_the_leading_one(
    start: Start,
) -> None:
    training = start(*LONG)
    training.await_epoch(1)
    family = [psutil.Process(training.pid), *training.children()]
    listening = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) <= {"127.0.0.1", "::1"}
    training.send(signal.SIGKILL)
    assert training.end() == -signal.SIGKILL
    all_gone(family)
    assert recorded_epochs(training.run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_orderly_on_all_ranks(start: Start, number: signal.Signals) -> None:
    training = start(*LONG)
    training.await_epoch(1)
    family = training.children()
    training.send(number)
    assert training.end() == 128 + number
    all_gone(family)
    assert ending(training.run) == ("KILLED", "interrupted")
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


def by_two_machines(own_folder: Path, *more: str) -> tuple[str, str]:
    """What the first and the second machine have printed at the end of a run."""
    words = ("model=mlp", "data=iris", "verbose=2", "scheduler=none", *TWO, *more)
    words += ("trainer.num_nodes=2", "trainer.devices=1")
    meeting = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1")
    port = free_port()
    machines = [
        torchrun(own_folder, words, *meeting, f"--master-port={port}", f"--node-rank={node}")
        for node in range(2)
    ]
    (first, said), (second, _) = (machine.communicate(timeout=300) for machine in machines)
    assert [machine.returncode for machine in machines] == [0, 0], said
    return first, second


def test_two_machines_train_one_network_by_torchrun_and_go_on_with_it(own_folder: Path) -> None:
    first, second = by_two_machines(own_folder, "trainer.max_epochs=3")
    assert "on each of 2 machines" in first
    assert second == ""
    (run,) = (own_folder / "runs").iterdir()
    assert ending(run) == ("FINISHED", None)
    assert recorded_epochs(run) == [1, 2, 3]
    by_two_machines(own_folder, "trainer.max_epochs=5", "resume=last")
    assert list((own_folder / "runs").iterdir()) == [run]
    assert recorded_epochs(run) == [1, 2, 3, 4, 5]


def test_a_wrong_config_is_told_once_however_many_ranks_there_are(own_folder: Path) -> None:
    one = ("--standalone", "--nproc-per-node=2")
    for words, line in (
        (("model=mpl", *TWO), "error: model=mpl is unknown"),
        (("model=mlp", "data=iris"), "error: 2 processes were started together, and the config "),
    ):
        process = torchrun(own_folder, words, *one)
        _, said = process.communicate(timeout=300)
        assert process.returncode != 0
        assert len(list(lines_of(said, start="error: "))) == 1
        assert next(lines_of(said, start="error: ")).startswith(line)
    assert not (own_folder / "runs").exists()
