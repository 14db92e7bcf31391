"""Workers on a Ray cluster: what each reserves, how many fit, and the connection to the cluster.

Ray's library exits its process if the cluster's head is lost, handles its signals and writes to its
streams. None of that may happen to a driver, so a separate process (`ray_bridge.py`) talks to Ray.
It relays the messages between a driver and its workers, each with the number of the worker.
"""

import json
import os
import platform
import re
import secrets
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import count
from math import floor
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Self

import pipeline
from pipeline.base.errors import ConfigError, EnvironmentFaultError, pip_install
from pipeline.base.paths import python_path
from pipeline.base.processes.child import Child, ChildEndedError, ChildGoneError, python_module
from pipeline.base.processes.lease import Lease

if TYPE_CHECKING:
    from pipeline.study.study_plan import StudyPlan

BRIDGE = "pipeline.study.workers.ray_bridge"
OPEN_SECONDS = 60.0
#: How long a connection to a cluster, or the start of one, may take.
START_SECONDS = 180.0
CLOSE_SECONDS = 20.0
QUIT_SECONDS = 5.0
#: Ray counts in ten-thousandths, and a binary sum of them may be slightly too small.
ROUNDING = 1e-6
#: Variables that workers take from the driver and not from their node: the folder of the data, and
#: settings that may change results.
CARRIED = ("XDG_CACHE_HOME", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")

#: Free resources of each node, by Ray's names CPU and GPU.
Free = Iterable[Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySpec:
    """A cluster, and what each worker reserves there.

    Args:
        address: `auto` or HOST:PORT of an existing cluster; `None` = start one on this machine.
        cpus: CPUs that each worker reserves, > 0.
        gpus: GPUs that each worker reserves, >= 0; 0.5 = half of one.
        local_cpus: CPUs of this machine.
        local_gpus: GPUs of this machine.
        folder: Folder for the files of a cluster on this machine, removed with it. Its path is
            short, since the paths of Ray's sockets below it are limited to 107 bytes.
    """

    address: str | None
    cpus: float
    gpus: float = 0.0
    local_cpus: int = 0
    local_gpus: int = 0
    folder: str = ""

    @property
    def needs(self) -> str:
        """What each worker reserves, as text."""
        return _amounts(self.cpus, self.gpus)

    @property
    def place(self) -> str:
        """Where workers run, as text."""
        return f"the Ray cluster at {self.address}" if self.address else "Ray on this machine"

    def room(self, free: Free) -> int:
        """Return how many workers fit on the nodes; a worker can't be split between nodes."""
        workers = 0
        for node in free:
            counts = []
            if self.cpus:
                counts.append(floor(node.get("CPU", 0.0) / self.cpus + ROUNDING))
            if self.gpus:
                counts.append(floor(node.get("GPU", 0.0) / self.gpus + ROUNDING))
            workers += min(counts)
        return workers


def free_words(free: Free) -> str:
    """Return the free resources of the nodes as text."""
    amounts = [_amounts(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in free]
    nodes = "1 node" if len(amounts) == 1 else f"{len(amounts)} nodes"
    return f"{' + '.join(amounts)} on {nodes}"


def _amounts(cpus: float, gpus: float) -> str:
    text = f"{cpus:g} CPU" if cpus == 1 else f"{cpus:g} CPUs"
    if gpus:
        text += f" and {gpus:g} GPU" if gpus <= 1 else f" and {gpus:g} GPUs"
    return text


# ── a study on a cluster ────────────────────────────────────────────────────────────────────────


def fitted_to_cluster(plan: "StudyPlan") -> "StudyPlan":
    """Return the plan with as many workers as are wanted and fit on the cluster.

    Raises ConfigError if Ray is not installed or the resources can't be reserved, and
    EnvironmentFaultError if there is no cluster, or no room for a single worker.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "sweep.launcher=ray needs the package ray, which is not installed; install it with: "
            f"{pip_install('ray')}"
        )
    spec = _spec(plan)
    requested = plan.options.workers
    free: Free = [{"CPU": spec.local_cpus, "GPU": spec.local_gpus}]
    if spec.address is not None:
        with RayCluster(spec) as cluster:
            free = cluster.free
    room = spec.room(free)
    resources = f"each needs {spec.needs}, free: {free_words(free)}"
    if not room:
        raise EnvironmentFaultError(
            f"the Ray cluster has no room for a worker: {resources}; wait until other jobs end, or "
            "lower sweep.ray.num_cpus or sweep.ray.num_gpus"
        )
    workers = min(room, requested or room)
    notes = plan.notes
    if requested is not None and requested > room:
        note = f"note: sweep.workers={requested}: the Ray cluster has room for {room}; {resources}"
        notes = (*notes, note)
    # Substudies don't ask the cluster again, since this study's workers then hold a part of it.
    options = plan.options.model_copy(update={"workers": workers})
    return replace(plan, options=options, gpus=((),) * workers, notes=notes)


@contextmanager
def cluster_of(plan: "StudyPlan", environment: Mapping[str, str]) -> Iterator["RayCluster"]:
    """Connect to a study's cluster; a file in the study's folder shows which nodes see it.

    `environment` is added to the variables of the workers.
    """
    from pipeline.running.devices import PLACED
    from pipeline.study.study_run import begin_study_folder, remove_unused_folder

    spec = _spec(plan)
    placed = {PLACED: "1"} if spec.gpus else {}
    begin_study_folder(plan.folder)
    token = plan.folder.absolute() / f".{secrets.token_hex(16)}.tmp"
    try:
        token.touch()
        with RayCluster(spec, token=token, environment={**placed, **environment}) as cluster:
            yield cluster
    finally:
        token.unlink(missing_ok=True)
        remove_unused_folder(plan.folder)


def _spec(plan: "StudyPlan") -> RaySpec:
    """Return what a worker reserves; raise ConfigError if that is impossible."""
    from pipeline.running.devices import available

    options = plan.options
    trainer = plan.run.trainer
    address = options.ray.address
    devices = options.devices_per_trial
    if address not in (None, "auto") and not re.fullmatch(r"[^\s:/]+:\d{1,5}", str(address)):
        raise ConfigError(
            f"sweep.ray.address={address}: expected auto, HOST:PORT of the cluster's head, or null"
        )
    on_gpus = trainer.accelerator == "gpu"
    gpus = options.ray.num_gpus
    if gpus is None:
        gpus = float(devices) if on_gpus else 0.0
    if gpus > 1 and gpus % 1:
        raise ConfigError(f"sweep.ray.num_gpus={gpus:g}: expected a fraction of one, or whole GPUs")
    fewest_gpus = devices if devices > 1 else 1e-4
    if on_gpus and gpus < fewest_gpus:
        raise ConfigError(
            f"sweep.ray.num_gpus={gpus:g} leaves a worker too few GPUs for trials on {devices}; "
            f"expected null, or trainer=cpu"
        )
    present = available()
    return RaySpec(
        address=address,
        cpus=options.ray.num_cpus or float((trainer.threads or 1) * devices),
        gpus=gpus,
        local_cpus=present.cores,
        local_gpus=len(present.gpus),
    )


# ── the connection ──────────────────────────────────────────────────────────────────────────────


class RayCluster:
    """A connection to Ray, which a separate process keeps; a context manager.

    The nodes of workers have to see the file `token`; `None` = no worker is started. `environment`
    is added to the variables of the nodes. Entering the context raises EnvironmentFaultError if the
    cluster can't be reached.
    """

    def __init__(
        self,
        spec: RaySpec,
        *,
        token: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.free: list[dict[str, float]] = []
        self.spec = spec
        #: The process that talks to Ray; its messages have the number of a worker.
        self.bridge: Child
        carried = {name: os.environ[name] for name in CARRIED if name in os.environ}
        #: What a node has to start and to provide: `ray_bridge.Order`.
        self.order = {
            "token": str(token),
            "environment": {**carried, "PYTHONPATH": python_path(), **(environment or {})},
            "folder": str(Path.cwd()),
            "pipeline": pipeline.__version__,
            "python": f"Python {platform.python_version()}",
        }
        self._numbers = count()
        self._received: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)

    def __enter__(self) -> Self:
        if self.spec.address is None:
            self.spec = replace(self.spec, folder=mkdtemp(prefix="ray-"))
        self.bridge = Child((*python_module(BRIDGE), json.dumps(asdict(self.spec))))
        self.bridge.start()
        self._pid = self.bridge.pid
        seconds = START_SECONDS if self.spec.address is None else OPEN_SECONDS
        try:
            answer = self.bridge.ask(seconds)
            if "problem" in answer:
                raise EnvironmentFaultError(answer["problem"])
        except BaseException as error:  # also a stop, since Ray may take minutes to fail
            self._end(0.0)
            if not isinstance(error, ChildGoneError):
                raise
            problem = f"did not answer within {seconds:.0f} s"
            if isinstance(error, ChildEndedError):
                problem = "closed the connection"
            raise EnvironmentFaultError(f"{self.spec.place} {problem}") from error
        self.free = answer["free"]
        return self

    def __exit__(self, *_: object) -> None:
        self._end(CLOSE_SECONDS)

    def worker(self) -> "RayProcess":
        """Return the process of a worker, not started yet, on a node that sees the token."""
        return RayProcess(self, next(self._numbers))

    def receive(self, number: int) -> list[dict[str, Any]]:
        """Return the messages of a worker since the last call."""
        if self.bridge.is_open:
            for message in self.bridge.messages():
                self._received[message.pop("worker")].append(message)
        return self._received.pop(number, [])

    @property
    def is_lost(self) -> bool:
        """Whether the connection is lost, so that no more messages arrive."""
        return not self.bridge.is_open or self.bridge.has_ended

    def _end(self, seconds: float) -> None:
        """End the bridge, and kill it after `seconds`; no part of a local cluster is left."""
        code = None
        if self.bridge.is_open:
            self.bridge.dismiss()
            code = self.bridge.wait(seconds)
        if code != 0:
            with suppress(ProcessLookupError):  # else parts of a cluster stay for a minute
                os.killpg(self._pid, signal.SIGKILL)
        self.bridge.close()
        rmtree(self.spec.folder, ignore_errors=True)


class RayProcess:
    """The process of a worker on some node of a cluster, with the methods of `Child`."""

    def __init__(self, cluster: RayCluster, number: int) -> None:
        self.has_ended = False
        #: Shows whether the process is alive; known once it has been placed on a node.
        self.lease: Lease
        self._cluster = cluster
        self._number = number

    def start(self) -> None:
        """Request the actor, which starts the process once it has been placed on a node.

        Raises EnvironmentFaultError if the connection is lost.
        """
        if self._cluster.is_lost:
            raise EnvironmentFaultError(
                f"the connection to {self._cluster.spec.place} was lost; check it with 'ray "
                "status', then continue with the same command"
            )
        self.send({"do": "start", "process": self._cluster.order})

    def fileno(self) -> int:
        """Return the file descriptor to wait on for messages."""
        return self._cluster.bridge.fileno()

    def send(self, message: Mapping[str, object]) -> None:
        """Send the process a message without waiting."""
        self._cluster.bridge.send({**message, "worker": self._number})

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages of the process since the last call, without waiting."""
        messages = []
        is_gone = False
        for message in self._cluster.receive(self._number):
            if message["say"] == "placed":
                self.lease = Lease(**message["lease"])
                continue
            messages.append(message)
            if message["say"] == "WorkerDied":
                is_gone = True
        self.has_ended = self._cluster.is_lost or is_gone
        return messages

    def kill(self) -> None:
        """Kill the process and whatever it has started."""
        self.send({"do": "kill"})

    def see_end(self) -> str:
        """Return how the process ended, if its last message does not say so."""
        return "the connection to Ray was lost"

    def abandon(self) -> None:
        """Give the process up with its actor, so that another one fits on its node."""
        self.send({"do": "abandon"})

    def close(self) -> bool:
        """Wait up to `QUIT_SECONDS` for the process to end, then kill it, and then give it up.

        Returns whether it has ended.
        """
        self._await_end()
        if not self.has_ended:
            self.kill()
            self._await_end()
        if not self.has_ended:
            self.abandon()
        return self.has_ended

    def _await_end(self) -> None:
        deadline = time.monotonic() + QUIT_SECONDS
        while not self.has_ended:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            select.select([self], [], [], left)
            self.messages()
