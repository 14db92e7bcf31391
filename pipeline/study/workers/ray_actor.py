"""What runs on a node of a Ray cluster: an actor that keeps a worker's process and relays for it.

It travels to the node by value, and imports nothing of this program before it has seen that the
node has the same: a node that lacks something is to be named in one line.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.study.workers.local_process import LocalProcess

CHUNK = 1 << 16
SHOWN_SECONDS = 10.0
"""How long a network's file system may take to show a new file on another machine."""

Order = dict[str, Any]
"""`command` and `environment` of the process, `folder` to work in, `token` (a file that the driver
has written) and `secret` (its content), `pipeline` and `python` (their versions)."""


class Outpost:
    """A worker's process on this node; what may block is called on threads of its own."""

    _process: "LocalProcess"

    def start(self, order: Order) -> dict[str, Any]:
        """Start the process; return its `lease`, or the `problem` of this node in one line."""
        problem = _misfit(order)
        if problem is not None:
            return {"problem": f"node {socket.gethostname()} of the Ray cluster {problem}"}
        from pipeline.study.workers.local_process import LocalProcess

        if "OMP_NUM_THREADS" not in order["environment"]:
            os.environ.pop("OMP_NUM_THREADS", None)  # Ray's own idea, which the driver hasn't
        self._process = LocalProcess(order["environment"], order["command"])
        before = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray blocks SIGINT, for all below
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for descriptor in (self._process.inlet, self._process.outlet):
            os.set_blocking(descriptor, True)
        assert self._process.lease is not None
        return {"lease": asdict(self._process.lease)}

    def read(self) -> bytes:
        """Wait for what the process says; nothing once it has ended."""
        return os.read(self._process.outlet, CHUNK)

    def write(self, orders: bytes) -> None:
        """Give the process orders; that it has died is told by `read`."""
        with suppress(BrokenPipeError):
            while orders:
                orders = orders[os.write(self._process.inlet, orders) :]

    def kill(self) -> None:
        """End the process and whatever it has started."""
        self._process.kill()

    def see_end(self) -> str:
        """Say how the process ended."""
        return self._process.see_end()


def _misfit(order: Order) -> str | None:
    """Return what this node lacks, or has otherwise than the driver."""
    if not _sees(Path(order["token"]), order["secret"]):
        folder = str(Path(order["token"]).parent)
        return (
            f"does not see the study's folder {folder!r}; set output= to a folder that all "
            "machines share under one path"
        )
    try:
        os.chdir(order["folder"])
    except OSError:
        return (
            f"has no folder {order['folder']!r}, in which the sweep was started; start it in one "
            "that all machines share under one path"
        )
    there = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    if there != order["python"]:
        return f"has {there}, and the driver {order['python']}; give both the same environment"
    sys.path[:0] = order["environment"]["PYTHONPATH"].split(os.pathsep)
    try:
        import pipeline
    except ImportError:
        return f"lacks this program in {sys.executable}; install it there as it is on the driver"
    if pipeline.__version__ != order["pipeline"]:
        return (
            f"has pipeline {pipeline.__version__}, and the driver {order['pipeline']}; give both "
            "the same environment"
        )
    return None


def _sees(token: Path, secret: str) -> bool:
    deadline = time.monotonic() + SHOWN_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):
            if token.read_text(encoding="ascii") == secret:
                return True
        time.sleep(0.2)
    return False
