"""How the process that speaks to Ray reaches a cluster, or starts one on this machine."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from shutil import rmtree
from typing import Any

from pipeline.study.workers.ray_needs import Needs

ANSWER_SECONDS = 5.0
STORE_BYTES = 100 * 2**20
"""Memory for objects that actors share; ours share none, and Ray takes a third of it all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A cluster, and what each worker reserves there.

    Args:
        address: `auto` or HOST:PORT of an existing one; `None` = one on this machine.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.
        cores: CPUs of this machine.
        cards: GPUs of this machine.
        folder: Takes what a cluster on this machine writes, and goes with it. Its path is short:
            those of Ray's sockets below it hold 107 bytes.
    """

    address: str | None
    cpus: float
    gpus: float
    cores: int
    cards: int
    folder: str = ""

    @property
    def needs(self) -> Needs:
        """What each worker reserves."""
        return Needs(cpus=self.cpus, gpus=self.gpus)

    @property
    def here(self) -> Mapping[str, float]:
        """What this machine has, as Ray names it."""
        return {"CPU": self.cores, "GPU": self.cards}


class NoClusterError(Exception):
    """Ray can't be reached: one line for people."""


@contextmanager
def connected(spec: Spec) -> Iterator[None]:
    """Connect this process to Ray while the body runs; a cluster of its own ends with it.

    Raises:
        NoClusterError: It can't be reached, or won't have us.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    opened = _existing(spec.address) if spec.address else _own(spec)
    with opened:
        yield


def free_resources() -> list[dict[str, float]]:
    """Return what each node has to give at this moment, as Ray names it."""
    # Ray's public functions add the nodes up, and a worker lives on one node.
    found: dict[str, dict[str, float]] = library()._private.state.available_resources_per_node()
    return list(found.values())


def library() -> Any:
    """Return the module `ray`, which is not everywhere, and whose types are not whole."""
    return import_module("ray")


@contextmanager
def _existing(address: str) -> Iterator[None]:
    _require_answer(address)
    _initialise(address, address=address)
    try:
        yield
    finally:
        _shut_down()


@contextmanager
def _own(spec: Spec) -> Iterator[None]:
    """Start a cluster that nobody else may use, and that listens on this machine alone."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Without clusters of several machines, whatever system it names, Ray binds to 127.0.0.1.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        _initialise(
            "this machine",
            address="local",
            num_cpus=spec.cores,
            num_gpus=spec.cards,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _temp_dir=spec.folder,
        )
        yield
    finally:
        _shut_down()
        rmtree(spec.folder, ignore_errors=True)


def _require_answer(address: str) -> None:
    """See whether anybody listens; Ray itself would wait for minutes.

    Raises:
        NoClusterError: Nobody does.
    """
    try:
        found = str(library()._private.services.canonicalize_bootstrap_address(address))
    except ConnectionError as error:
        raise NoClusterError(
            "sweep.ray.address=auto found no Ray cluster on this machine; start one with "
            "'ray start --head', or leave sweep.ray.address=null for one of this machine alone"
        ) from error
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        why = error.strerror or "no answer"
        raise NoClusterError(
            f"nothing answers at {found}, sweep.ray.address={address} ({why}); see whether the "
            "cluster is up with: ray status"
        ) from error


def _initialise(place: str, **options: Any) -> None:
    ray = library()
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise NoClusterError(
            f"the Ray cluster at {place} does not let this process in: {_line(error)}; where it "
            "has a token, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or ~/.ray/auth_token, are to be "
            "the same here"
        ) from error
    except Exception as error:  # other versions, no node on this machine, whatever Ray finds
        raise NoClusterError(f"Ray at {place} refused this process: {_line(error)}") from error


def _shut_down() -> None:
    with suppress(Exception):  # a cluster that has died can't be left in order
        library().shutdown()


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
