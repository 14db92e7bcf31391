"""The side of a process that a `child.Child` has started: what it hears and what it says."""

import os
import threading
import time
from collections.abc import Callable
from typing import Self

from pipeline.processes.child import FrameReader, FrameWriter, Message

WATCH_SECONDS = 1.0
"""How often a process that hears nothing looks whether its parent lives, and says that it does."""


class Parent:
    """The process that has started this one.

    Args:
        reader: Descriptor on which it is heard.
        writer: Descriptor on which it is spoken to.
    """

    def __init__(self, reader: int, writer: int) -> None:
        self.is_gone = False
        """It has closed the pipe, or has ended; nothing more will be heard."""
        self.heartbeat: Message | None = None
        """Said once a second by the thread of `listen`; `None` = nothing is."""
        self._reader = FrameReader(reader)
        self._writer = FrameWriter(writer)
        self._speaking = threading.Lock()
        self._pid = os.getppid()

    @classmethod
    def claim(cls) -> Self:
        """Take standard input and output for messages alone; what libraries print is lost."""
        reader, writer = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        return cls(reader, writer)

    def say(self, *messages: Message) -> None:
        """Say messages, which come together; returns once they are written, or nobody reads."""
        with self._speaking:
            self._writer.send(*messages)
            while not self._writer.is_flushed:
                self._writer.wait(WATCH_SECONDS)
                self._writer.flush()

    def hear(self, seconds: float) -> list[Message]:
        """Return what it says, as soon as it says something within `seconds`."""
        if self._reader.wait(seconds):
            messages = self._reader.receive()
            self.is_gone = self._reader.ended
            return messages
        # A process that the parent has forked may keep the pipe open after the parent's death.
        self.is_gone = os.getppid() != self._pid
        return []

    def first_message(self) -> Message:
        """Wait for the first thing it says, or end this process with it."""
        while not self.is_gone:
            for message in self.hear(WATCH_SECONDS):
                return message
        os._exit(1)

    def listen(
        self, handle: Callable[[Message], object] = lambda _: None, *, exit_code: int = 1
    ) -> None:
        """Hear it on a thread from now on; end this process, whatever it does, when it is gone.

        Args:
            handle: Takes each message.
            exit_code: Of this process in that case.
        """
        threading.Thread(
            target=self._listen, args=(handle, exit_code), name="parent", daemon=True
        ).start()

    def _listen(self, handle: Callable[[Message], object], exit_code: int) -> None:
        beat_at = time.monotonic() + WATCH_SECONDS
        while not self.is_gone:
            for message in self.hear(beat_at - time.monotonic()):
                handle(message)
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + WATCH_SECONDS
                self._beat()
        os._exit(exit_code)

    def _beat(self) -> None:
        # Without waiting: somebody may speak, and the parent may not listen.
        if self.heartbeat is not None and self._speaking.acquire(blocking=False):
            try:
                self._writer.flush()
                if self._writer.is_flushed:
                    self._writer.send(self.heartbeat)
            finally:
                self._speaking.release()
