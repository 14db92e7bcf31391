"""A worker's process on some node of a Ray cluster, as the driver speaks to it."""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pipeline.errors import EnvironmentFaultError
from pipeline.processes.lease import Lease

QUIT_SECONDS = 5.0
Tell = Callable[[Mapping[str, Any], socket.socket | None], None]


class RayProcess:
    """A worker's process on some node of a cluster, behind an actor: a transport of `crew.py`.

    Args:
        tell: Gives the bridge an order, and the end of a socket with it.
        number: Tells the worker from others of this driver.
        process: What to start, and what the node has to have: `ray_actor.Order`.
    """

    def __init__(self, tell: Tell, number: int, process: Mapping[str, Any]) -> None:
        self.lease: Lease | None = None
        self._tell = tell
        self._number = number
        self._process = process
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Ask for the actor, which starts the process once it has its place.

        Raises:
            EnvironmentFaultError: The connection to Ray is lost.
        """
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            order = {"do": "hire", "worker": self._number, "process": self._process}
            self._tell(order, theirs)

    @property
    def inlet(self) -> int:
        """The socket to the bridge."""
        return self._open().fileno()

    @property
    def outlet(self) -> int:
        """The same socket."""
        return self._open().fileno()

    def is_closed(self) -> bool:
        """Tell whether nobody can give it an order any more."""
        return self._open().fileno() < 0

    def has_ended(self) -> bool:
        """Tell whether it is known to have ended; here its socket tells."""
        return False

    def kill(self) -> None:
        """End the process and whatever it has started."""
        self._ask("kill")

    def see_end(self) -> str:
        """Say how it ended, where its last word does not."""
        return "the connection to Ray was lost"

    def close(self) -> None:
        """Let go of it, which ends it, and see it gone."""
        connection = self._open()
        deadline = time.monotonic() + QUIT_SECONDS
        with connection, suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            connection.setblocking(True)
            while (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                if not connection.recv(1 << 16):
                    return

    def _ask(self, word: str) -> None:
        with suppress(EnvironmentFaultError):  # that Ray is lost, the closed socket tells
            self._tell({"do": word, "worker": self._number}, None)

    def _open(self) -> socket.socket:
        assert self._socket is not None, "start it first"
        return self._socket
