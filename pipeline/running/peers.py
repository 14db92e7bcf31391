"""The processes that train one network together, each on its own device.

The first of them starts the others on this machine, reads their messages, and ends them
when it ends. It tells them where the training starts; they don't look for a checkpoint themselves.
"""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined] # in its documentation

from pipeline.base.ends import End
from pipeline.base.errors import ConfigError, DivergedError, EnvironmentFaultError, PipelineError
from pipeline.base.processes.child import Child, python_module
from pipeline.base.ranks import HERE_ALONE, Rank
from pipeline.base.signals import stop
from pipeline.config.check import check
from pipeline.config.plain import plain
from pipeline.running.devices import Devices
from pipeline.running.plan import Plan, make_plan
from pipeline.running.recording import RunJournal, say_how_to_go_on
from pipeline.running.resuming import SavedCheckpoint, Start

#: Longest wait of a rank for the others, which may be compiling the network or reading the data.
PATIENCE = timedelta(minutes=30)
TICK_SECONDS = 0.2
#: Longest wait for the message of a failed rank, after the others have noticed the failure.
HEAR_SECONDS = 5.0
#: Time after which a process whose step waits for a lost rank is ended.
STUCK_SECONDS = 15.0
ENDED_SECONDS = 10.0

_KINDS = {kind.exit_code: kind for kind in (ConfigError, EnvironmentFaultError, DivergedError)}


@contextmanager
def process_group(rank: Rank, devices: Devices, meeting: Path | None) -> Iterator[None]:
    """Make this process a member of the process group while the body runs.

    The ranks of one machine find each other through the file `meeting`; `None` means that torchrun
    or srun gives the address in the environment.
    """
    if rank.world == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if devices.accelerator == "gpu" else "gloo",
        init_method=_rendezvous_address() if meeting is None else None,
        store=None if meeting is None else FileStore(str(meeting), rank.world),
        rank=rank.number,
        world_size=rank.world,
        timeout=PATIENCE,
    )
    with ExitStack() as stack:
        # Ranks that torchrun has started stay together: they may not be able to meet again.
        if meeting is None:
            atexit.register(distributed.destroy_process_group)
        else:
            stack.callback(distributed.destroy_process_group)
        yield


def is_cut(error: BaseException) -> bool:
    """Return whether an error only means that another rank is gone."""
    if isinstance(error, distributed.DistError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and ("gloo" in message or "NCCL" in message)


def _rendezvous_address() -> str:
    """Return the address at which the ranks that torchrun or srun has started meet."""
    if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return "env://"
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    # The constructor would refuse a job with --ntasks and without --ntasks-per-node.
    nodes = os.environ.get("SLURM_NODELIST", "127.0.0.1")
    address = os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)
    port = os.environ.get("MASTER_PORT") or 15_000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])
    return f"tcp://{address}:{port}"


def planned_peer(config: Any, *, trust: Sequence[str] | None, rank: Rank | None) -> Plan:
    """Plan a run as one of its other ranks; arguments are those of `check` and `make_plan`."""
    options = check(config, trust=trust).model_copy(update={"verbose": 0, "resume": None})
    return make_plan(options, plain(config), started_at=perf_counter(), rank=rank)


def start_message(plan: Plan) -> dict[str, Any]:
    """Return what other ranks must know about a plan beside its config, as plain values."""
    checkpoint = plan.start.checkpoint
    return {
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "adopts": plan.start.parent is not None,
        "data": plan.prepared.content_hash,
    }


def start_from(message: Mapping[str, Any], plan: Plan) -> Start:
    """Return the start that `start_message` describes; the first rank has checked its checkpoint.

    Raises:
        ConfigError: This rank has read other data than the first.
    """
    content_hash = plan.prepared.content_hash
    hash_of_first = message["data"]
    if content_hash != hash_of_first:
        raise ConfigError(
            f"rank {plan.rank.number} and rank 0 read different data (hash {content_hash[:12]} and "
            f"{hash_of_first[:12]}): the data changed, or the source is not deterministic"
        )
    if message["checkpoint"] is None:
        return Start()
    saved = SavedCheckpoint(path=Path(message["checkpoint"]), shapes={}, facts={})
    return Start(saved=saved, parent=saved.path.parent if message["adopts"] else None)


def shared_start(plan: Plan) -> Start:
    """Return the start of the first of the ranks that torchrun or srun has started.

    Raises:
        ConfigError: This rank has read other data than the first.
    """
    messages = [start_message(plan)]
    distributed.broadcast_object_list(messages, src=0)
    return plan.start if plan.rank.leads else start_from(messages[0], plan)


# ── the processes that the first one starts ─────────────────────────────────────────────────


@dataclass(slots=True, eq=False)
class _Peer:
    """One process and the state that it has reported."""

    rank: Rank
    child: Child
    is_ready: bool = False
    is_done: bool = False


def _error_of(problem: str, code: int) -> PipelineError:
    """Return the error of a failed rank, with the class that it would have in a single run."""
    if code in _KINDS:
        return _KINDS[code](problem)
    return PipelineError(f"{problem}. This is a bug in the program; for the traceback see run.log")


class Peers:
    """The other processes that train with this one. A context manager: none of them outlives it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._peers: list[_Peer] = []
        self._folder = tempfile.TemporaryDirectory(prefix="pipeline-", ignore_cleanup_errors=True)
        self._meeting = Path(self._folder.name) / "meeting"
        self._failure: tuple[str, int] | None = None  # message and exit code
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, name="peers", daemon=True)
        self._is_over = False
        self._record: RunJournal | None = None

    def __enter__(self) -> Self:
        for name, interface in HERE_ALONE.items():  # nothing listens on the network
            os.environ.setdefault(name, interface)
        plan = self._plan
        world = plan.rank.world
        config = {key: value for key, value in plan.config.items() if key != "format"}
        # The freest GPUs were chosen for this run; by now they may not be the freest any more.
        config["trainer"] = {**config["trainer"], "devices": plan.devices.devices}
        order = {
            "config": config,
            "trust": plan.options.trust,
            "meeting": str(self._meeting),
            **start_message(plan),
        }
        for number in range(1, world):
            rank = Rank(number=number, world=world, local=number)
            child = Child(python_module("pipeline.running.peer"))
            child.start()
            child.send({"rank": asdict(rank), **order})
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
    def training_together(self, record: RunJournal) -> Iterator[None]:
        """Train together with the other ranks while the body runs.

        Raises:
            PipelineError: A rank has failed or was killed; the class is that of the rank's error.
        """
        self._record = record
        with self._changed:  # the others import libraries and read data
            while not all(peer.is_ready for peer in self._peers) and self._failure is None:
                self._changed.wait(TICK_SECONDS)
                stop.check()
        if self._failure is not None:
            raise _error_of(*self._failure)
        try:
            with process_group(self._plan.rank, self._plan.devices, self._meeting):
                yield
        except Exception as error:
            if is_cut(error):
                with self._changed:
                    self._changed.wait_for(lambda: self._failure is not None, HEAR_SECONDS)
            if self._failure is None or not is_cut(error):
                raise
            if not record.journal.has_ended:
                say_how_to_go_on(record)
            raise _error_of(*self._failure) from error
        finally:
            self._record = None

    # ── messages of the others ──────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer.child, selectors.EVENT_READ, peer)
            while selector.get_map() and not self._is_over:
                selector.select(TICK_SECONDS)
                for key in list(selector.get_map().values()):
                    if not self._receive(key.data):
                        selector.unregister(key.fileobj)
                if self._failure is not None:
                    self._require_end(*self._failure)
                    return

    def _receive(self, peer: _Peer) -> bool:
        """Process the messages of a rank, and return whether more can come."""
        messages = peer.child.messages()
        name = f"rank {peer.rank.number}"
        with self._changed:
            failure = self._failure
            for message in messages:
                if message["say"] == "ready":
                    peer.is_ready = True
                elif message["say"] == "done" or message["is_cut"]:
                    peer.is_done = True  # if it was cut off, another rank has failed
                elif not peer.is_done:  # otherwise no rank waits for it any more
                    logging.getLogger("pipeline").error("%s: %s", name, message["traceback"])
                    failure = failure or (f"{name}: {message['problem']}", message["code"])
            if peer.child.has_ended and not peer.is_done and not self._is_over:
                failure = failure or (_death(peer), EnvironmentFaultError.exit_code)
            self._failure = failure
            self._changed.notify_all()
        return not peer.child.has_ended

    def _require_end(self, problem: str, code: int) -> None:
        """End this process if its step does not end: no signal interrupts a wait between GPUs."""
        deadline = time.monotonic() + STUCK_SECONDS
        while time.monotonic() < deadline:
            if self._is_over or self._record is None:
                return
            time.sleep(TICK_SECONDS)
        record = self._record
        if record is not None and record.journal.is_begun and not record.journal.has_ended:
            if record.saves is not None:
                with suppress(EnvironmentFaultError):
                    record.saves()
            with suppress(EnvironmentFaultError):
                record.journal.end(End.ERROR)
            say_how_to_go_on(record)
            print(f"error: {problem}", file=sys.stderr, flush=True)
            os._exit(code)


def _death(peer: _Peer) -> str:
    code = peer.child.wait(ENDED_SECONDS)
    ending = "exited"
    if code is not None and code < 0:
        ending = f"was ended by {signal.Signals(-code).name}"
    return (
        f"rank {peer.rank.number} of {peer.rank.world} {ending}, which stopped the training; try "
        "again with fewer devices or more memory"
    )
