"""The driver's side of a worker: told what to do and listened to, without ever waiting for it."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from pipeline.processes.lease import Lease
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.job import Job, TestJob
from pipeline.study.workers.local_process import LocalProcess
from pipeline.study.workers.messages import Gone, Message, Placed, Ready, Tested, decode
from pipeline.tracking.facts import command_tags

CHUNK = 1 << 16

State = Literal["starting", "idle", "training", "testing", "gone"]


class Transport(Protocol):
    """A worker's process, wherever it runs, and the two ends through which it is spoken to."""

    lease: Lease | None
    """What tells whether the process is still there; `None` = it has no place yet."""

    def start(self) -> None:
        """Start the process, or ask for it."""

    @property
    def inlet(self) -> int:
        """The descriptor, not blocking, that takes orders."""

    @property
    def outlet(self) -> int:
        """The descriptor, not blocking, on which it speaks."""

    def is_closed(self) -> bool:
        """Tell whether nobody can give it an order any more."""

    def has_ended(self) -> bool:
        """Tell whether the process is known to run no more."""

    def kill(self) -> None:
        """End it and whatever it has started."""

    def see_end(self) -> str:
        """Wait for its end, which its closed outlet foretells, and say how it ended."""

    def close(self) -> None:
        """Let go of it, which ends it, and see it gone."""


class Worker:
    """A process that trains trials one after another, and dies with the process that started it.

    Args:
        environment: Variables beside this process's own, such as CUDA_VISIBLE_DEVICES.
        transport: Where it runs, not started yet; `None` = on this machine.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        transport: Transport | None = None,
    ) -> None:
        self.state: State = "starting"
        self._transport = transport or LocalProcess(environment)
        self._said = b""
        self._unsent = b""

    def start(self) -> None:
        """Start the process, which says Ready once it has loaded its libraries."""
        self._transport.start()

    @property
    def pid(self) -> int:
        """Id of the process on its own machine."""
        return self.lease.pid

    @property
    def lease(self) -> Lease:
        """What tells whether the process is still there."""
        assert self._transport.lease is not None, "start it first"
        return self._transport.lease

    def fileno(self) -> int:
        """Return the descriptor to wait on for what it says."""
        return self._transport.outlet

    def train(self, job: Job) -> None:
        """Let it train a trial; it answers with Rung, and with TrialEnd once."""
        self.state = "training"
        job = replace(job, tags={**command_tags(), **job.tags})
        self._send({"do": "train", "job": job.to_json()})

    def test(self, job: TestJob) -> None:
        """Let it test the kept weights of a trial; it answers with Tested."""
        self.state = "testing"
        self._send({"do": "test", "job": job.to_json()})

    def verdict(self, prune: bool) -> None:
        """Answer a Rung."""
        self._send({"do": "verdict", "prune": prune})

    def interrupt(self) -> None:
        """Stop what it does now; it answers as ever and stays for more."""
        if self.state in ("training", "testing"):
            self._send({"do": "interrupt"})

    def kill(self) -> None:
        """End the process and whatever it has started, at once."""
        self._transport.kill()

    def quit(self) -> None:
        """Let the process end, whatever it does, and see it gone."""
        if self._transport.is_closed():
            return
        self._send({"do": "quit"})
        self._transport.close()
        self.state = "gone"

    def messages(self) -> list[Message]:
        """Return what it has said since the last call; Gone, once, where it has died."""
        if self.state == "gone":
            return []
        self._send_rest()
        has_ended = self._transport.has_ended()
        is_closed = self._read()
        *lines, self._said = self._said.split(b"\n")
        messages = [decode(line) for line in lines]
        for message in messages:
            self._heed(message)
        own_word = [message for message in messages if isinstance(message, Gone)]
        if not (has_ended or is_closed or own_word):
            return messages
        gone = Gone(message=self._transport.see_end())
        self.state = "gone"
        return messages if own_word else [*messages, gone]

    def _heed(self, message: Message) -> None:
        if isinstance(message, Placed):
            self._transport.lease = message.lease
        elif isinstance(message, Ready | TrialEnd | Tested):
            self.state = "idle"

    def _read(self) -> bool:
        """Read all there is, and tell whether the other end is closed."""
        while True:
            try:
                content = os.read(self._transport.outlet, CHUNK)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            if not content:
                return True
            self._said += content

    def _send(self, order: Mapping[str, Any]) -> None:
        self._unsent += json.dumps(order, ensure_ascii=False).encode() + b"\n"
        self._send_rest()

    def _send_rest(self) -> None:
        """Write what the other end takes; the rest goes with the next call."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._transport.inlet, self._unsent) :]
        except BlockingIOError:
            return
        except ConnectionError:  # that it has died is told by `messages`
            self._unsent = b""
