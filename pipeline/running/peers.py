"""The processes that train one network together, each on its own device.

The first of them starts the others on this machine, reads their messages, and ends them
when it ends. It tells them where the training starts; they don't look for a checkpoint themselves.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NoReturn, Self

from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined] # in its documentation

from pipeline.base.ends import End
from pipeline.base.errors import (
    ConfigError,
    DivergedError,
    EnvironmentFaultError,
    OutOfMemoryFaultError,
    PipelineError,
)
from pipeline.base.processes.child import Child, Launch, Message, new_process, python_module
from pipeline.base.ranks import HERE_ALONE, Rank, launched_rank
from pipeline.base.signals import stop
from pipeline.config.check import check
from pipeline.config.plain import plain
from pipeline.running.devices import Devices
from pipeline.running.plan import BY_ITSELF, Plan, RunContext, make_plan
from pipeline.running.recording import RunJournal, say_how_to_go_on
from pipeline.running.resuming import SavedCheckpoint, Start
from pipeline.running.run_end import failed_end

#: Longest wait of a rank for the others, which may be compiling the network or reading the data.
PATIENCE = timedelta(minutes=30)
TICK_SECONDS = 0.2
#: Longest wait for the message of a failed rank, after the others have noticed the failure.
HEAR_SECONDS = 5.0
#: Longest wait for the ends of the other ranks' parts, after the training ended on the first one.
REPORT_SECONDS = 10.0
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


def starts_peers(plan: Plan) -> bool:
    """Return whether a run trains on several devices and torchrun or srun has not started them."""
    return plan.rank.world > 1 and launched_rank() is None


def planned_peer(
    config: Any,
    *,
    trust: Sequence[str] | None,
    rank: Rank | None,
    context: RunContext = BY_ITSELF,
    **changes: Any,
) -> Plan:
    """Plan a run as one of its other ranks.

    Arguments are those of `check` and `make_plan`; `changes` are options that replace others.
    """
    options = check(config, trust=trust)
    options = options.model_copy(update={"verbose": 0, "resume": None, **changes})
    started_at = perf_counter()
    return make_plan(options, plain(config), started_at=started_at, context=context, rank=rank)


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
    """One process and what it does, as far as it has said so.

    `idle`: it waits for a training; `preparing` or `ready`: it takes part in one; `ended`: it has
    died, or said that it ends.
    """

    rank: Rank
    child: Child
    state: Literal["loading", "idle", "preparing", "ready", "ended"] = "loading"


class Peers:
    """The other processes that train with this one. A context manager: none of them outlives it.

    Args:
        world: Number of processes with this one, each of which has a device of this machine.
        keeps: Keep the processes and their data for further trainings; else each ends with its
            part of the first one.
        launch: Starts a process, as `Child` asks for it.
        on_death: Ends this process if one of them has died, before the training fails; `None` =
            the training fails.
    """

    def __init__(
        self,
        world: int,
        *,
        keeps: bool = False,
        launch: Launch = new_process,
        on_death: Callable[[], NoReturn] | None = None,
    ) -> None:
        self._keeps = keeps
        self._on_death = on_death
        self._peers: list[_Peer] = []
        for number in range(1, world):
            rank = Rank(number=number, world=world, local=number)
            child = Child(python_module("pipeline.running.peer"), launch=launch)
            self._peers.append(_Peer(rank, child))
        #: The first failure of a training, with the class that it would have in a single run.
        self._failure: PipelineError | None = None
        #: When this process is ended if its training has not failed by then.
        self._deadline = math.inf
        #: Held while a message is sent or received, and where states change.
        self._changed = threading.Condition()
        self._listener = threading.Thread(target=self._listen, name="peers", daemon=True)
        self._is_over = False
        self._started_at = 0.0
        self._record: RunJournal | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
        for peer in self._peers:
            peer.child.dismiss()
        self._listener.join()
        for peer in self._peers:
            peer.child.close(ENDED_SECONDS)

    def start(self) -> None:
        """Start the processes, which load their libraries and end with this one."""
        for name, interface in HERE_ALONE.items():  # nothing listens on the network
            os.environ.setdefault(name, interface)
        for peer in self._peers:
            peer.child.start()
            peer.child.send({"rank": asdict(peer.rank), "keeps": self._keeps})
        self._listener.start()

    def prepare(self, plan: Plan) -> None:
        """Let the others prepare their part in a training, without waiting for them."""
        config = {key: value for key, value in plan.config.items() if key != "format"}
        # The freest GPUs were chosen for this run; by now they may not be the freest any more.
        config["trainer"] = {**config["trainer"], "devices": plan.devices.devices}
        order = {
            "config": config,
            "trust": plan.options.trust,
            "test": plan.options.test,
            "lean": plan.context.lean,
            "prunes": plan.context.prunes is not None,
            **start_message(plan),
        }
        with self._changed:
            self._started_at = plan.started_at
            for peer in self._peers:
                if peer.state == "ended":
                    self._set_failure(_death(peer))
                else:
                    peer.state = "preparing"
                    peer.child.send(order)

    @contextmanager
    def training_together(self, plan: Plan, record: RunJournal) -> Iterator[None]:
        """Train the plan that was prepared with the other ranks while the body runs.

        Raises:
            PipelineError: A rank has failed or was killed; the class is that of the rank's error.
        """
        with self._changed:  # the others import libraries and read data
            while any(peer.state != "ready" for peer in self._peers) and self._failure is None:
                self._changed.wait(TICK_SECONDS)
                stop.check()
        if self._failure is not None:
            raise self._failure
        self._record = record
        try:
            with self._process_group(plan):
                yield
        except Exception as error:
            if is_cut(error):
                with self._changed:
                    self._changed.wait_for(lambda: self._failure is not None, HEAR_SECONDS)
            if self._failure is None or not is_cut(error):
                raise
            if not record.journal.has_ended:
                say_how_to_go_on(record)
            raise self._failure from error
        finally:
            self._record = None

    @contextmanager
    def _process_group(self, plan: Plan) -> Iterator[None]:
        folder = tempfile.TemporaryDirectory(prefix="pipeline-", ignore_cleanup_errors=True)
        with folder as name:
            meeting = Path(name) / "meeting"
            with self._changed:
                for peer in self._peers:
                    peer.child.send({"meeting": str(meeting)})
            with process_group(plan.rank, plan.devices, meeting):
                yield

    def can_go_on(self, end: End) -> bool:
        """Return whether the others can take part in another training after one that ended so.

        This waits for them to report the end of their part, for a limited time.
        """
        with self._changed:
            self._changed.wait_for(self._have_ended, REPORT_SECONDS)
            # A divergence leaves all ranks alike; after another failure they may differ.
            can_go_on = self._failure is None or end is End.DIVERGED
            for peer in self._peers:
                can_go_on = can_go_on and peer.state in ("loading", "idle")
            if can_go_on:
                self._failure = None
                self._deadline = math.inf
            return can_go_on

    def _have_ended(self) -> bool:
        return all(peer.state not in ("preparing", "ready") for peer in self._peers)

    # ── messages of the others ──────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer.child, selectors.EVENT_READ, peer)
            while (selector.get_map() or self._failure is not None) and not self._is_over:
                selector.select(TICK_SECONDS)
                for key in list(selector.get_map().values()):
                    if not self._receive(key.data):
                        selector.unregister(key.fileobj)
                if time.monotonic() > self._deadline:
                    self._end_process()

    def _receive(self, peer: _Peer) -> bool:
        """Process the messages of a rank, and return whether more can come."""
        with self._changed:
            for message in peer.child.messages():
                # No rank waits any more for one that has done its part; if it was cut off, another
                # rank has failed.
                is_training = peer.state not in ("idle", "ended")
                if "problem" in message and is_training and not message["is_cut"]:
                    name = f"rank {peer.rank.number}"
                    logging.getLogger("pipeline").error("%s: %s", name, message["traceback"])
                    self._set_failure(_error_of(f"{name}: {message['problem']}", message))
                peer.state = message["state"]
            if peer.child.has_ended and peer.state != "ended" and not self._is_over:
                if self._on_death is not None:
                    self._on_death()
                peer.state = "ended"
                self._set_failure(_death(peer))
            self._changed.notify_all()
        return not peer.child.has_ended

    def _set_failure(self, failure: PipelineError) -> None:
        if self._failure is None:
            self._failure = failure
            self._deadline = time.monotonic() + STUCK_SECONDS

    def _end_process(self) -> None:
        """End this process, whose step does not end: no signal interrupts a wait between GPUs."""
        self._deadline = math.inf
        record = self._record
        failure = self._failure
        if record is None or failure is None:
            return
        if record.journal.is_begun and not record.journal.has_ended:
            if record.saves is not None:
                with suppress(EnvironmentFaultError):
                    record.saves()
            with suppress(EnvironmentFaultError):
                record.journal.end(failed_end(failure, perf_counter() - self._started_at))
            say_how_to_go_on(record)
            print(f"error: {failure}", file=sys.stderr, flush=True)
            os._exit(failure.exit_code)


def _error_of(problem: str, message: Message) -> PipelineError:
    """Return the error of a failed rank, with the class that it would have in a single run."""
    if message["is_out_of_memory"]:
        return OutOfMemoryFaultError(problem)
    if message["code"] in _KINDS:
        return _KINDS[message["code"]](problem)
    return PipelineError(f"{problem}. This is a bug in the program; for the traceback see run.log")


def _death(peer: _Peer) -> PipelineError:
    code = peer.child.wait(ENDED_SECONDS)
    ending = "exited"
    if code is not None and code < 0:
        ending = f"was ended by {signal.Signals(-code).name}"
    return EnvironmentFaultError(
        f"rank {peer.rank.number} of {peer.rank.world} {ending}, which stopped the training; try "
        "again with fewer devices or more memory"
    )
