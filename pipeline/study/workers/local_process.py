"""A worker's process on this machine, and the pipes to and from it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pipeline.paths import python_path
from pipeline.processes.lease import Lease, lease_of_process
from pipeline.ranks import HERE_ALONE

QUIT_SECONDS = 5.0
WORKER = "pipeline.study.workers.worker"
MORE = {"PYTHONSAFEPATH": "1", **HERE_ALONE}
"""Variables of every worker: it imports nothing from its folder, and its ranks meet here alone."""
LAUNCHERS = ("SLURM_", "TORCHELASTIC_")


def worker_command(ranks: int) -> tuple[str, ...]:
    """Return what Python is told to run.

    Args:
        ranks: Processes that train each trial together; torchrun starts several, and ends all of
            them where one dies.
    """
    if ranks == 1:
        return ("-P", "-m", WORKER)
    meeting = ("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1")
    launcher = ("-P", "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={ranks}")
    return (*launcher, *meeting, "-m", WORKER)


COMMAND = worker_command(1)


def _inherited() -> dict[str, str]:
    """Return this process's variables without those by which srun or torchrun gave it a rank.

    They start drivers; a trial is trained by its worker, not by all that were started with it.
    """
    return {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}


class LocalProcess:
    """A process that dies with the one that started it, in a session of its own.

    So a terminal's Ctrl-C reaches the driver alone.

    Args:
        environment: Variables beside this process's own, such as CUDA_VISIBLE_DEVICES.
        command: Words for Python.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.lease: Lease | None = None
        self._environment = dict(environment or {})
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**MORE, **_inherited(), "PYTHONPATH": python_path(), **self._environment},
            start_new_session=True,
            bufsize=0,
        )
        for descriptor in (self.inlet, self.outlet):
            os.set_blocking(descriptor, False)
        self.lease = lease_of_process(self._process.pid)

    @property
    def inlet(self) -> int:
        """The pipe that takes orders."""
        pipe = self._running().stdin
        assert pipe is not None
        return pipe.fileno()

    @property
    def outlet(self) -> int:
        """The pipe on which it speaks."""
        pipe = self._running().stdout
        assert pipe is not None
        return pipe.fileno()

    def is_closed(self) -> bool:
        """Tell whether nobody can give it an order any more."""
        pipe = self._running().stdin
        assert pipe is not None
        return pipe.closed

    def has_ended(self) -> bool:
        """Tell whether it runs no more."""
        return self._running().poll() is not None

    def kill(self) -> None:
        """End the process and whatever it has started, at once."""
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.killpg(self._running().pid, signal.SIGKILL)

    def see_end(self) -> str:
        """Wait for its end, which its closed pipe foretells, and say how it ended."""
        process = self._running()
        with suppress(subprocess.TimeoutExpired):
            process.wait(QUIT_SECONDS)
        self.kill()
        code = process.wait()
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def close(self) -> None:
        """Let go of it, which ends it, and see it gone."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.close()
        self.see_end()
        assert process.stdout is not None
        process.stdout.close()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start it first"
        return self._process
