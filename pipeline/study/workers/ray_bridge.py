"""The process that talks to Ray for a driver: `python -m pipeline.study.workers.ray_bridge SPEC`.

It requests an actor from Ray for each worker; the actor runs the worker's process on its node.
The bridge relays messages of driver and workers unchanged. It ends with its driver, and the actors
end with the bridge.
"""

import json
import math
import os
import platform
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from typing import Any

from pipeline.base.errors import EnvironmentFaultError
from pipeline.base.processes.child import Child
from pipeline.base.processes.parent import Parent
from pipeline.study.messages import WorkerDied, encode
from pipeline.study.workers.ray import RaySpec, free_words

ANSWER_SECONDS = 5.0
#: Memory for objects that actors share; ours share none, and Ray would take a third of all memory.
STORE_BYTES = 100 * 2**20
TICK_SECONDS = 1.0
#: How long all workers may wait for room before they are refused.
ROOM_SECONDS = 60.0
#: How long a network file system may take to show a new file on another machine.
SHOWN_SECONDS = 10.0
#: Concurrent calls of an actor: one waits for messages of its process, others can end it.
THREADS = 4

#: `environment` of a process, its working `folder`, `token` (a file that the driver has created),
#: and the versions `pipeline` and `python`.
Order = Mapping[str, Any]


def main() -> None:
    """Serve one driver until it is gone."""
    driver = Parent.claim()
    spec = RaySpec(**json.loads(sys.argv[1]))
    question = driver.first_message()
    try:
        with connected(spec):
            driver.say({"id": question["id"], "free": free_resources()})
            Bridge(driver, spec).serve()
    except EnvironmentFaultError as error:
        driver.say({"id": question["id"], "problem": str(error)})


# ── on a node ───────────────────────────────────────────────────────────────────────────────────


class NodeActor:
    """The actor of a worker's process on a node; calls that may block have their own threads.

    The class is sent to the node by value. It imports nothing of this program before it has checked
    that the node has the same version, so that a problem of the node is reported in one line.
    """

    _process: "Child"  # quoted, since the class sent by value would import it on the node

    def start(self, order: Order) -> dict[str, Any]:
        """Start the process; return its `lease`, or the `problem` of this node in one line."""
        problem = _misfit(order)
        if problem is not None:
            return {"problem": f"node {socket.gethostname()} of the Ray cluster {problem}"}
        from pipeline.study.workers.worker import worker_process

        if "OMP_NUM_THREADS" not in order["environment"]:
            os.environ.pop("OMP_NUM_THREADS", None)  # set by Ray, not by the driver
        self._lock = threading.Lock()
        self._process = worker_process(order["environment"])
        before = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray blocks SIGINT in children
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return {"lease": asdict(self._process.lease)}

    def messages(self) -> list[dict[str, Any]]:
        """Wait for messages of the process; return none once it has ended."""
        while True:
            select.select([self._process], [], [], 1.0)
            with self._lock:
                messages = self._process.messages()
            if messages or self._process.has_ended:
                return messages

    def send(self, message: Mapping[str, Any]) -> None:
        """Send the process a message, or kill it; only `messages` reports whether it has died."""
        with self._lock:
            if message["do"] == "kill":
                self._process.kill()
            else:
                self._process.send(message)

    def see_end(self) -> str:
        """Return how the process ended."""
        return self._process.see_end()


def _misfit(order: Order) -> str | None:
    """Return what this node lacks, or how it differs from the driver; `None` = it fits."""
    shared = "shared by all machines under one path"
    token = Path(order["token"])
    deadline = time.monotonic() + SHOWN_SECONDS
    while not token.exists():
        if time.monotonic() > deadline:
            folder = str(token.parent)
            return f"does not see the study's folder {folder!r}; set output= to a folder {shared}"
        time.sleep(0.2)
    try:
        os.chdir(order["folder"])
    except OSError:
        return (
            f"has no folder {order['folder']!r}, in which the sweep was started; start the sweep "
            f"in one {shared}"
        )
    python = f"Python {platform.python_version()}"
    remedy = "use the same environment on both"
    if python != order["python"]:
        return f"has {python}, and the driver {order['python']}; {remedy}"
    sys.path[:0] = order["environment"]["PYTHONPATH"].split(os.pathsep)
    try:
        import pipeline
    except ImportError:
        return f"lacks this program in {sys.executable}; install the driver's version there"
    version = pipeline.__version__
    if version == order["pipeline"]:
        return None
    return f"has pipeline {version}, and the driver {order['pipeline']}; {remedy}"


# ── beside the driver ───────────────────────────────────────────────────────────────────────────


class Bridge:
    """Requests actors from Ray for a driver, and relays messages by the number of the worker."""

    def __init__(self, driver: Parent, spec: RaySpec) -> None:
        ray = library()
        ray.cloudpickle.register_pickle_by_value(sys.modules[NodeActor.__module__])
        self._driver = driver
        self._spec = spec
        # Messages to a process have their own thread, which keeps them in order.
        self._actors = ray.remote(concurrency_groups={"send": 1})(NodeActor).options(
            num_cpus=spec.cpus, num_gpus=spec.gpus, max_restarts=0, max_concurrency=THREADS
        )
        self._relays: dict[int, Relay] = {}

    def serve(self) -> None:
        """Serve the driver's orders until it is gone."""
        while not self._driver.is_gone:
            for order in self._driver.hear(TICK_SECONDS):
                number = order.pop("worker")
                if order["do"] == "start":
                    relay = Relay(self._driver, number, self._actors.remote(), order["process"])
                    self._relays[number] = relay
                    relay.start()
                else:
                    self._relays[number].send(order)
            self._look_for_room()
        # Ray exits a process that calls it after its shutdown, so the relays end first. Those that
        # were told to end may still have messages; a driver that was killed has told none to end.
        for relay in self._relays.values():
            relay.join(TICK_SECONDS)
            relay.end_actor()
            relay.join(ANSWER_SECONDS)

    def _look_for_room(self) -> None:
        """Refuse all workers if none has been placed on a node within `ROOM_SECONDS`."""
        live = [relay for relay in self._relays.values() if relay.is_alive()]
        if any(relay.node is not None for relay in live):
            return
        asked_at = min((relay.asked_at for relay in live), default=math.inf)
        if time.monotonic() - asked_at < ROOM_SECONDS:
            return
        problem = (
            f"the Ray cluster has had no room for a worker for {ROOM_SECONDS:.0f} s: each needs "
            f"{self._spec.needs}, free: {free_words(free_resources())}"
        )
        for relay in live:
            relay.refuse(problem)


class Relay(threading.Thread):
    """Relays the messages of an actor's process to the driver.

    `process` is what the node has to start and to provide. The actor may have to wait for room;
    `node` is the host on which it was placed, and `None` before.
    """

    def __init__(self, driver: Parent, number: int, actor: Any, process: Order) -> None:
        super().__init__(name="relay", daemon=True)
        self.node: str | None = None
        self.asked_at = time.monotonic()
        self._driver = driver
        self._number = number
        self._actor = actor
        self._process = process
        self._refusal: str | None = None

    def run(self) -> None:
        """Relay until the process has ended, its actor has died, or it was refused."""
        self._say(encode(self._relay_until_end()))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send the process a message without waiting; before it is placed, it can only be ended."""
        if message["do"] == "abandon":
            self.end_actor()
        elif self.node is not None:
            self._actor.send.options(concurrency_group="send").remote(message)
        elif message["do"] in ("quit", "kill"):
            self.end_actor()

    def refuse(self, problem: str) -> None:
        """Give the actor up because of a problem that holds for all workers."""
        self._refusal = problem
        self.end_actor()

    def _relay_until_end(self) -> WorkerDied:
        ray = library()
        try:
            started = ray.get(self._actor.start.remote(self._process))
            if "problem" in started:
                return WorkerDied(message=started["problem"], final=True)
            self.node = started["lease"]["host"]
            self._say({"say": "placed", **started})
            while messages := ray.get(self._actor.messages.remote()):
                self._say(*messages)
            return WorkerDied(message=ray.get(self._actor.see_end.remote()))
        except ray.exceptions.RayTaskError as error:
            return WorkerDied(message=f"its Ray actor failed: {type(error.cause).__name__}")
        except ray.exceptions.RayError:
            if self._refusal is not None:
                return WorkerDied(message=self._refusal, final=True)
            place = f" on node {self.node}" if self.node else ", which was not placed yet,"
            return WorkerDied(message=f"its Ray actor{place} died")
        finally:
            self.end_actor()

    def end_actor(self) -> None:
        """Kill the actor, and with it the process that it has started."""
        with suppress(Exception):  # it may be gone, or Ray itself
            library().kill(self._actor)

    def _say(self, *messages: Mapping[str, Any]) -> None:
        self._driver.say(*({**message, "worker": self._number} for message in messages))


# ── the connection to a cluster ─────────────────────────────────────────────────────────────────


@contextmanager
def connected(spec: RaySpec) -> Iterator[None]:
    """Connect this process to Ray while the body runs; a cluster started here ends with the body.

    A cluster started here is private, and listens on this machine only. Raises
    EnvironmentFaultError if the cluster can't be reached or refuses this process.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        if spec.address is None:
            os.environ.pop("RAY_ADDRESS", None)
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            # This turns off clusters of several machines on every system, despite its name, so
            # that Ray binds to 127.0.0.1.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            _initialise(
                "this machine",
                address="local",
                num_cpus=spec.local_cpus,
                num_gpus=spec.local_gpus,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=spec.folder,
            )
        else:
            _require_answer(spec.address)
            _initialise(spec.address, address=spec.address)
        yield
    finally:
        with suppress(Exception):  # fails if the cluster has died
            library().shutdown()
        if spec.folder:
            rmtree(spec.folder, ignore_errors=True)


def free_resources() -> list[dict[str, float]]:
    """Return the free resources of each node at this moment, by Ray's names."""
    # Ray's public functions return the sum over all nodes, but a worker runs on one node.
    by_node: dict[str, dict[str, float]] = library()._private.state.available_resources_per_node()
    return list(by_node.values())


def library() -> Any:
    """Return the module `ray`, which is an optional package with incomplete types."""
    return import_module("ray")


def _require_answer(address: str) -> None:
    """Raise EnvironmentFaultError if no answer from `address`; Ray would wait for minutes."""
    try:
        head = str(library()._private.services.canonicalize_bootstrap_address(address))
    except ConnectionError as error:
        raise EnvironmentFaultError(
            "sweep.ray.address=auto found no Ray cluster on this machine; start one with "
            "'ray start --head', or set sweep.ray.address=null for a local one"
        ) from error
    host, _, port = head.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        cause = error.strerror or "no answer"
        raise EnvironmentFaultError(
            f"no answer from {head}, sweep.ray.address={address} ({cause}); check the cluster "
            "with: ray status"
        ) from error


def _initialise(place: str, **options: Any) -> None:
    ray = library()
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise EnvironmentFaultError(
            f"the Ray cluster at {place} refused authentication: {_line(error)}; if it uses a "
            "token, set the same RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or ~/.ray/auth_token, here"
        ) from error
    except Exception as error:  # other versions, no node on this machine, whatever Ray finds
        raise EnvironmentFaultError(
            f"Ray at {place} refused this process: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__


if __name__ == "__main__":
    main()
