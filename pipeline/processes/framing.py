"""Messages between two processes: JSON with a length before it, read and written without waiting.

A frame is the length of its content, four bytes, big-endian, and the content, a JSON object in
ASCII. A process that is stopped in the middle of a frame, or that does not read, delays nobody:
what has come so far is kept until the rest comes, and what can't be written now is written later.
"""

import json
import os
import select
import struct
from collections.abc import Iterator, Mapping
from typing import Any

Message = dict[str, Any]

HEADER = struct.Struct(">I")
CHUNK = 1 << 16
MAX_BYTES = 1 << 26
"""Longest content of a frame."""


class FrameWriter:
    """Writes messages to a pipe or socket.

    Args:
        descriptor: Becomes non-blocking; it is closed by whoever has opened it.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._unsent = bytearray()
        self._is_closed = False

    @property
    def is_flushed(self) -> bool:
        """Whether all that was sent is written."""
        return not self._unsent

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def send(self, *messages: Mapping[str, object]) -> None:
        """Write messages together, as far as they are taken now; `flush` writes the rest.

        Raises:
            ValueError: One is longer than `MAX_BYTES`.
        """
        frames = bytearray()
        for content in (json.dumps(message).encode("ascii") for message in messages):
            if len(content) > MAX_BYTES:
                raise ValueError(f"a message of {len(content):,} bytes exceeds {MAX_BYTES:,}")
            frames += HEADER.pack(len(content)) + content
        if not self._is_closed:
            self._unsent += frames
            self.flush()

    def flush(self) -> None:
        """Write what the other end takes now; one that is gone takes all and loses it."""
        while self._unsent:
            # Taken out first: where a signal's handler raises, nothing is written twice.
            content = self._unsent[:CHUNK]
            del self._unsent[:CHUNK]
            try:
                written = os.write(self._descriptor, content)
            except BlockingIOError:
                self._unsent[:0] = content
                return
            except OSError:
                self.close()
                return
            self._unsent[:0] = content[written:]

    def close(self) -> None:
        """Write nothing more."""
        self._is_closed = True
        self._unsent.clear()

    def wait(self, seconds: float) -> None:
        """Wait until more can be written, at most so long."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll(seconds * 1000)


class FrameReader:
    """Reads messages from a pipe or socket.

    Args:
        descriptor: Becomes non-blocking; it is closed by whoever has opened it.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self.ended = False
        """Nothing more will come: the other end is closed, or has sent what is not a frame."""
        self._descriptor = descriptor
        self._content = bytearray()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def receive(self) -> list[Message]:
        """Return the messages that have come whole, without waiting for more."""
        while not self.ended and len(self._content) < HEADER.size + MAX_BYTES:
            try:
                content = os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                break
            except OSError:
                content = b""
            self.ended = not content
            self._content += content
        messages: list[Message] = []
        try:
            messages.extend(self._frames())
        except ValueError:  # where the next frame begins is not known any more
            self.ended = True
            self._content.clear()
        return messages

    def wait(self, seconds: float, writer: FrameWriter | None = None) -> bool:
        """Wait until there is something to read, or `writer` can write what it has not.

        Args:
            seconds: At most so long.
            writer: Of the same conversation.

        Returns:
            Whether there is something to read, the end included.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if writer is not None and not writer.is_flushed:
            poll.register(writer.fileno(), select.POLLOUT)
        ready = [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)]
        return self._descriptor in ready

    def _frames(self) -> Iterator[Message]:
        while len(self._content) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._content)
            if length > MAX_BYTES:
                raise ValueError(f"a frame of {length:,} bytes")
            end = HEADER.size + length
            if len(self._content) < end:
                return
            message = json.loads(self._content[HEADER.size : end])
            del self._content[:end]
            yield message
