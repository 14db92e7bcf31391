"""The process that speaks to Ray for a driver: `python -m pipeline.study.workers.ray_bridge SPEC`.

Ray's library ends its process where a cluster's head is lost, handles its signals and writes to its
streams; none of that may befall a driver. Standard input is a socket to the driver: first it is
told what there is room for, then it asks for workers, each with a socket of its own over which the
messages of `crew.py` pass as they are. The process ends with its driver, and the actors with it.
"""

import json
import os
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.processes.lease import Lease
from pipeline.study.workers import ray_actor
from pipeline.study.workers.messages import Gone, Message, Placed, encode
from pipeline.study.workers.ray_connection import (
    NoClusterError,
    Spec,
    connected,
    free_resources,
    library,
)
from pipeline.study.workers.ray_needs import free_words

CHUNK = 1 << 16
TICK_SECONDS = 1.0
QUIT = b'{"do": "quit"}\n'
QUIT_SECONDS = 5.0
ROOM_SECONDS = 60.0
"""How long all workers may wait for room before that is told."""
THREADS = 4
"""Calls of an actor that may wait at a time: one reads, one writes, others kill."""


def main() -> None:
    """Serve one driver until it is gone."""
    control = _claim_control()
    spec = Spec(**json.loads(sys.argv[1]))
    try:
        with connected(spec):
            _tell(control, {"free": free_resources()})
            Bridge(control, spec).serve()
    except NoClusterError as error:
        _tell(control, {"problem": str(error)})


class Bridge:
    """Asks Ray for the actors that a driver wants, and relays between the two.

    Args:
        control: The socket to the driver.
        spec: The cluster, and what each worker reserves.
    """

    def __init__(self, control: socket.socket, spec: Spec) -> None:
        ray = library()
        ray.cloudpickle.register_pickle_by_value(ray_actor)
        self._control = control
        self._spec = spec
        self._actors = ray.remote(ray_actor.Outpost).options(
            num_cpus=spec.cpus, num_gpus=spec.gpus, max_restarts=0, max_concurrency=THREADS
        )
        self._relays: dict[int, Relay] = {}
        self._descriptors: deque[int] = deque()

    def serve(self) -> None:
        """Do what the driver asks, until it is gone."""
        rest = b""
        while True:
            if select.select([self._control], [], [], TICK_SECONDS)[0]:
                content = self._receive()
                if not content:
                    break
                *lines, rest = (rest + content).split(b"\n")
                for line in lines:
                    self._carry_out(json.loads(line))
            self._look_for_room()
        for relay in self._relays.values():
            relay.join(QUIT_SECONDS)

    def _receive(self) -> bytes:
        try:
            content, descriptors, *_ = socket.recv_fds(self._control, CHUNK, 1)
        except ConnectionError:
            return b""
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        return content

    def _carry_out(self, order: Mapping[str, Any]) -> None:
        number = order["worker"]
        if order["do"] == "hire":
            connection = socket.socket(fileno=self._descriptors.popleft())
            self._relays[number] = Relay(connection, self._actors.remote(), order["process"])
            self._relays[number].start()
        else:
            self._relays[number].kill()

    def _look_for_room(self) -> None:
        """End the waiting where no worker has found a place for long."""
        live = [relay for relay in self._relays.values() if relay.is_alive()]
        if not live or any(relay.placed for relay in live):
            return
        if time.monotonic() - min(relay.asked_at for relay in live) < ROOM_SECONDS:
            return
        problem = (
            f"the Ray cluster has had no room for a worker for {ROOM_SECONDS:.0f} s: each reserves "
            f"{self._spec.needs.words}, free are {free_words(free_resources())}"
        )
        for relay in live:
            relay.refuse(problem)


class Relay(threading.Thread):
    """Carries orders to an actor's process, and what that says to the driver.

    Args:
        connection: The driver's worker.
        actor: Asked for, it may wait for room.
        process: What to start, and what the node has to have: `ray_actor.Order`.
    """

    def __init__(self, connection: socket.socket, actor: Any, process: Mapping[str, Any]) -> None:
        super().__init__(name="relay", daemon=True)
        self.placed = False
        self.asked_at = time.monotonic()
        self._connection = connection
        self._actor = actor
        self._process = process
        self._node = ""
        self._refusal: str | None = None

    def run(self) -> None:
        """Relay until the process has ended, its actor has died, or the driver lets go of it."""
        threading.Thread(target=self._pass_orders, name="orders", daemon=True).start()
        gone = self._relayed()
        with suppress(OSError):
            self._say(gone)
            self._connection.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """End the process and whatever it has started."""
        if self.placed:
            self._actor.kill.remote()
        else:
            self._end_actor()

    def refuse(self, problem: str) -> None:
        """Give the actor up, for a reason that holds for all."""
        self._refusal = problem
        self._end_actor()

    def _relayed(self) -> Gone:
        ray = library()
        try:
            started = ray.get(self._actor.start.remote(self._process))
            if "problem" in started:
                return Gone(message=started["problem"], final=True)
            lease = Lease(**started["lease"])
            self._node, self.placed = lease.host, True
            self._say(Placed(lease=lease))
            while content := ray.get(self._actor.read.remote()):
                self._connection.sendall(content)
            return Gone(message=ray.get(self._actor.see_end.remote()))
        except ray.exceptions.RayTaskError as error:
            return Gone(message=f"its Ray actor failed: {type(error.cause).__name__}")
        except (ray.exceptions.RayError, OSError):
            if self._refusal is not None:
                return Gone(message=self._refusal, final=True)
            where = f" on node {self._node}" if self._node else ", which had no place yet,"
            return Gone(message=f"its Ray actor{where} died")
        finally:
            self._end_actor()

    def _pass_orders(self) -> None:
        """Pass orders on, and let the process end where none can come any more."""
        ray = library()
        with suppress(ray.exceptions.RayError, OSError):
            with self._connection.makefile("rb") as orders:
                for line in orders:
                    if self.placed:
                        ray.get(self._actor.write.remote(line))
            if self.placed:
                ray.get(self._actor.write.remote(QUIT))
                self.join(QUIT_SECONDS)
        self._end_actor()

    def _end_actor(self) -> None:
        with suppress(Exception):  # it may be gone, or Ray itself
            library().kill(self._actor)

    def _say(self, message: Message) -> None:
        self._connection.sendall(encode(message))


def _tell(control: socket.socket, answer: Mapping[str, Any]) -> None:
    with suppress(OSError):  # a driver that is gone needs no answer
        control.sendall(json.dumps(answer).encode() + b"\n")


def _claim_control() -> socket.socket:
    """Return the socket that is standard input, of which Ray's processes inherit nothing."""
    control = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    return control


if __name__ == "__main__":
    main()
