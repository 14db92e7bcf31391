"""The side of a child process: messages to and from the process that has started it.

`Parent.say` blocks while the pipe is full and the parent lives.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

from pipeline.base.processes.child import CHUNK, WATCH_SECONDS, Channel, Message, tune_process
from pipeline.base.processes.lease import StuckWatch


def claim_streams() -> tuple[int, int]:
    """Return new descriptors for standard input and output, which lead nowhere from now on."""
    tune_process()
    reader = os.dup(0)
    writer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return reader, writer


class Parent:
    """The process that has started this one, reached over two descriptors."""

    def __init__(self, reader: int, writer: int) -> None:
        #: The parent has closed the pipe or has ended; nothing more will be heard.
        self.is_gone = False
        #: Message that the thread of `listen` sends once a second; `None` = no message. It also
        #: has `stuck: true` while this process or one that it has started stands still.
        self.heartbeat: Message | None = None
        self._channel = Channel(reader, writer)
        self._speaking = threading.Lock()
        self._pid = os.getppid()

    @classmethod
    def claim(cls) -> Self:
        """Reserve standard input and output for messages; what libraries print is lost."""
        return cls(*claim_streams())

    def say(self, *messages: Message) -> None:
        """Send messages together; return once the pipe has taken them, or its other end is closed.

        This may take as long as the parent is stopped.
        """
        with self._speaking:
            self._channel.send(*messages)
            while not self._channel.flush():
                self._channel.wait(WATCH_SECONDS, reading=False)

    def hear(self, seconds: float) -> list[Message]:
        """Return the parent's messages as soon as some arrive, or none after `seconds`."""
        if self._channel.wait(seconds, writing=False):
            messages = self._channel.receive()
            self.is_gone = self._channel.ended
            return messages
        # A process that the parent has forked may keep the pipe open after the parent's death.
        self.is_gone = os.getppid() != self._pid
        return []

    def first_message(self) -> Message:
        """Return the first message of the parent; end this process if the parent is gone before."""
        while not self.is_gone:
            for message in self.hear(WATCH_SECONDS):
                return message
        os._exit(1)

    def first_descriptor(self) -> tuple[Message, int]:
        """Return what `send_descriptor` of the parent sends first; end as `first_message` does."""
        while not self._channel.wait(WATCH_SECONDS, writing=False):
            if os.getppid() != self._pid:
                os._exit(1)
        with socket.socket(fileno=os.dup(self._channel.reader)) as stream:
            content, descriptors, *_ = socket.recv_fds(stream, CHUNK, 1)
        if not content:
            os._exit(1)
        return json.loads(content), *descriptors

    def listen(
        self,
        handle: Callable[[Message], object] = lambda _: None,
        *,
        exit_code: int = 1,
    ) -> None:
        """Handle the parent's messages on a thread; end this process when the parent is gone."""
        watch = StuckWatch(os.getpid())
        threading.Thread(
            target=self._listen, args=(handle, exit_code, watch), name="parent", daemon=True
        ).start()

    def _listen(
        self, handle: Callable[[Message], object], exit_code: int, watch: StuckWatch
    ) -> None:
        beat_at = time.monotonic() + WATCH_SECONDS
        while not self.is_gone:
            for message in self.hear(beat_at - time.monotonic()):
                handle(message)
            if time.monotonic() < beat_at:
                continue
            beat_at = time.monotonic() + WATCH_SECONDS
            if self.heartbeat is None:
                continue
            stuck = {"stuck": True} if watch.is_stuck() else {}
            # Without waiting: another thread may be sending, and the parent may not read.
            if self._speaking.acquire(blocking=False):
                try:
                    if self._channel.flush():
                        self._channel.send({**self.heartbeat, **stuck})
                finally:
                    self._speaking.release()
        os._exit(exit_code)
