"""A Ray cluster of several nodes on this machine, cut off from every network where that may be."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from faults.processes import wait_until

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
SMALL = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block")
OTHER = "node-2"
"""What the second machine is called."""


class Nodes:
    """The machines of a cluster.

    Args:
        folder: Takes what Ray writes; its path is short.
        prefix: Words before a command that let it run where the cluster is.
    """

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self.prefix = tuple(prefix)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._folder = folder
        self._started: list[psutil.Popen] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start_head(self) -> None:
        """Start the first node, of one CPU."""
        port = self.address.partition(":")[2]
        self._start("--head", f"--port={port}", "--include-dashboard=false")

    @contextmanager
    def other(self, *prefix: str) -> Iterator[psutil.Popen]:
        """Another node of one CPU: another machine by its name, where root may say so."""
        if os.geteuid() == 0:
            script = f'hostname {OTHER}; exec "$@"'
            prefix = ("unshare", "--uts", *prefix, "sh", "-c", script, "sh")
        node = self._start(f"--address={self.address}", prefix=prefix)
        try:
            yield node
        finally:
            self.kill(node)

    def kill(self, node: psutil.Popen) -> None:
        """End all processes of a node at once, as a machine without power would."""
        if node.poll() is None:
            for process in [*node.children(recursive=True), node]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        node.wait()

    def stop(self) -> None:
        """End all nodes."""
        for node in reversed(self._started):
            self.kill(node)

    def _start(self, *words: str, prefix: Sequence[str] = ()) -> psutil.Popen:
        folder = self._folder / str(len(self._started))
        log = folder.with_suffix(".log")
        with log.open("wb") as out:
            node = psutil.Popen(
                [
                    *(*self.prefix, *prefix, *RAY, "start", *words, *SMALL),
                    *(f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
            )
        self._started.append(node)

        def is_up() -> bool:
            assert node.poll() is None, log.read_text(encoding="utf-8")
            return "Ray runtime started" in log.read_text(encoding="utf-8")

        wait_until(is_up, what=f"a node: {' '.join(words)}")
        return node


@contextmanager
def nodes() -> Iterator[Nodes]:
    """A cluster without nodes yet; all end with the body."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    try:
        with _network() as prefix:
            cluster = Nodes(folder, prefix)
            try:
                yield cluster
            finally:
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _network() -> Iterator[Sequence[str]]:
    """Words that let a command run in a network of its own, of which only loopback is there."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        yield ()
        return
    keeper = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; exec sleep inf"])
    try:
        prefix = ("nsenter", f"--net=/proc/{keeper.pid}/ns/net", "--")
        up = [*prefix, "ip", "-brief", "address", "show", "up"]
        wait_until(lambda: b"127.0.0.1" in subprocess.check_output(up), what="a network")
        yield prefix
    finally:
        keeper.kill()
        keeper.wait()
