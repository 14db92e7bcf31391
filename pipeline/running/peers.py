"""The other processes of a training on this machine: started, listened to, and never left alone."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.errors import (
    ConfigError,
    DivergedError,
    EnvironmentFaultError,
    PipelineError,
)
from pipeline.processes.child import Child, python_module
from pipeline.ranks import Rank
from pipeline.running.plan import Plan
from pipeline.running.process_group import (
    is_cut,
    keep_to_this_machine,
    process_group,
    start_message,
)
from pipeline.running.recording import Record, say_how_to_go_on
from pipeline.signals import stop

TICK_SECONDS = 0.2
HEAR_SECONDS = 5.0
"""How long the word of a rank that has failed may take, after the others have noticed."""
STUCK_SECONDS = 15.0
"""After which a step that waits for a rank that is gone is ended with the whole process."""
ENDED_SECONDS = 10.0

_KINDS = {kind.exit_code: kind for kind in (ConfigError, EnvironmentFaultError, DivergedError)}


@dataclass(slots=True, eq=False)
class _Peer:
    """One process and what it has said."""

    rank: Rank
    child: Child
    is_ready: bool = False
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a rank has failed.

    Args:
        problem: One line for people.
        code: What a single run would have ended with.
    """

    problem: str
    code: int = EnvironmentFaultError.exit_code

    def error(self) -> PipelineError:
        """Return it as the error that ends the run."""
        if self.code in _KINDS:
            return _KINDS[self.code](self.problem)
        return PipelineError(
            f"{self.problem}. This is a bug of the program; run.log says where it comes from"
        )


class Peers:
    """The processes that train together with this one. A context manager: none outlives it.

    Args:
        plan: The run, of which this process has the first rank.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._peers: list[_Peer] = []
        self._folder = tempfile.TemporaryDirectory(prefix="pipeline-", ignore_cleanup_errors=True)
        self._failure: Failure | None = None
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, name="peers", daemon=True)
        self._is_over = False
        self._give_up: Callable[[Failure], None] | None = None

    def __enter__(self) -> Self:
        keep_to_this_machine()
        for number in range(1, self._plan.rank.world):
            rank = Rank(number=number, world=self._plan.rank.world, local=number)
            child = Child(python_module("pipeline.running.peer"))
            child.start()
            child.send(self._order(rank))
            self._peers.append(_Peer(rank, child))
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
        for peer in self._peers:
            peer.child.dismiss()
        self._listener.join()
        for peer in self._peers:
            peer.child.close(ENDED_SECONDS)
        self._folder.cleanup()

    @contextmanager
    def met(self, record: Record) -> Iterator[None]:
        """Train together with them while the body runs.

        Raises:
            PipelineError: A rank has failed, or was killed; of the kind of its own error.
        """
        self._give_up = lambda failure: _ended_by_force(record, failure)
        self._wait_until_ready()
        try:
            with process_group(self._plan.rank, self._plan.devices, self._meeting):
                yield
        except Exception as error:
            failure = self._heard(HEAR_SECONDS) if is_cut(error) else None
            if failure is None:
                raise
            say_how_to_go_on(record)
            raise failure.error() from error
        finally:
            self._give_up = None

    @property
    def _meeting(self) -> Path:
        return Path(self._folder.name) / "meeting"

    def _order(self, rank: Rank) -> dict[str, Any]:
        plan = self._plan
        config = {key: value for key, value in plan.config.items() if key != "format"}
        # Of several GPUs the freest were chosen, and these are not that free any more.
        config["trainer"] = {**config["trainer"], "devices": plan.devices.devices}
        return {
            "rank": asdict(rank),
            "config": config,
            "trust": plan.options.trust,
            "meeting": str(self._meeting),
            **start_message(plan),
        }

    def _wait_until_ready(self) -> None:
        """Wait for their libraries and data.

        Raises:
            PipelineError: One of them can't take part.
        """
        with self._changed:
            while not all(peer.is_ready for peer in self._peers) and self._failure is None:
                self._changed.wait(TICK_SECONDS)
                stop.check()
        if self._failure is not None:
            raise self._failure.error()

    def _heard(self, seconds: float) -> Failure | None:
        """Return how a rank has failed, as soon as that is known."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None, seconds)
        return self._failure

    # ── what they say ───────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer.child, selectors.EVENT_READ, peer)
            while selector.get_map() and not self._is_over:
                selector.select(TICK_SECONDS)
                for key in list(selector.get_map().values()):
                    if not self._hear(key.data):
                        selector.unregister(key.fileobj)
                if self._failure is not None:
                    self._require_end(self._failure)
                    return

    def _hear(self, peer: _Peer) -> bool:
        """Take in what a rank says, and tell whether more can come."""
        words = peer.child.messages()
        with self._changed:
            for word in words:
                if word["say"] == "ready":
                    peer.is_ready = True
                elif word["say"] == "done" or word["is_cut"]:
                    peer.is_done = True  # where it was cut off, somebody else has failed
                elif not peer.is_done:  # else nobody waits for it any more
                    name = f"rank {peer.rank.number}"
                    logging.getLogger("pipeline").error("%s: %s", name, word["traceback"])
                    self._fail(f"{name}: {word['problem']}", word["code"])
            if peer.child.has_ended and not peer.is_done and not self._is_over:
                self._fail(_death(peer))
            self._changed.notify_all()
        return not peer.child.has_ended

    def _fail(self, problem: str, code: int = EnvironmentFaultError.exit_code) -> None:
        self._failure = self._failure or Failure(problem=problem, code=code)

    def _require_end(self, failure: Failure) -> None:
        """End this process where its step does not end by itself.

        Between GPUs it may wait for a rank that is gone, deaf to everything.
        """
        deadline = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < deadline:
            if self._is_over or self._give_up is None:
                return
            time.sleep(TICK_SECONDS)
        if self._give_up is not None:
            self._give_up(failure)


def _death(peer: _Peer) -> str:
    code = peer.child.wait(ENDED_SECONDS)
    how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else "by itself"
    return (
        f"rank {peer.rank.number} of {peer.rank.world} was ended {how}, and with it the training; "
        "the same command may work later, with fewer devices or more memory"
    )


def _ended_by_force(record: Record, failure: Failure) -> None:
    with suppress(EnvironmentFaultError):
        record.journal.end("FAILED", "error")
    say_how_to_go_on(record)
    print(f"error: {failure.problem}", file=sys.stderr, flush=True)
    os._exit(failure.code)
