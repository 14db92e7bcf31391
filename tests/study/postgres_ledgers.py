"""A wire to a PostgreSQL server that can be cut."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LATE_SECONDS = 0.3


class Wire:
    """A way to a server on loopback that can be cut at any message, with its answer or without."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._left: int | None = None
        self._late = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def is_armed(self) -> bool:
        """Whether it still is to be cut."""
        return self._left is not None

    def cut_after(self, messages: int) -> None:
        """Cut the wire when the server has answered so many messages more, the last unheard."""
        self._left, self._late = messages, False

    def cut_at_commit(self) -> None:
        """Cut the wire at the next commit, which reaches the server only some time later."""
        self._left, self._late = 1, True

    def disarm(self) -> None:
        """Leave the wire whole."""
        self._left = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Leave the wire whole meanwhile."""
        remaining, self._left = self._left, None
        yield
        self._left = remaining

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for source, sink, pump in (
                    (client, server, self._ask),
                    (server, client, self._answer),
                ):
                    threading.Thread(target=pump, args=(source, sink), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        _pump(client, server, lambda content: self._is_cut_late(content, client))

    def _is_cut_late(self, content: bytes, client: socket.socket) -> bool:
        if not (self._late and self._left is not None and _COMMIT in content):
            return False
        self._left = None
        _close(client)
        time.sleep(LATE_SECONDS)
        return False  # it is sent on, and then the client's end is seen

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        _pump(server, client, self._is_cut)

    def _is_cut(self, content: bytes) -> bool:
        if self._late or self._left is None or not content.endswith(_READY):
            return False
        self._left -= 1
        if self._left > 0:
            return False
        self._left = None
        return True


_COMMIT = b"\x0bCOMMIT\0"
"""The whole of the message; the one that begins a transaction holds this word as well."""
_READY = (b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E")
"""Ends whatever a PostgreSQL server answers to one message."""


def _pump(source: socket.socket, sink: socket.socket, is_cut: Callable[[bytes], bool]) -> None:
    with suppress(OSError):
        while (content := source.recv(1 << 16)) and not is_cut(content):
            sink.sendall(content)
    _close(source)
    _close(sink)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def at_each_moment(wire: Wire, act: Callable[[], None], *, stride: int = 1) -> int:
    """Act again and again, the wire being cut later each time; return after how many messages.

    The last time it is cut at the commit itself, which the server gets after the next try begins.
    """
    messages = 0
    while True:
        messages += stride
        wire.cut_after(messages)
        act()
        if wire.is_armed:
            break
    wire.cut_at_commit()
    act()
    assert not wire.is_armed
    return messages
