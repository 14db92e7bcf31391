"""Studies on real Ray clusters: of one node and two, and one of this machine alone."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from helpers.fixture_types import Patch

from faults.conftest import Start, Words, beside
from faults.processes import Training, await_end, is_running, listening, wait_until
from faults.study_records import COMPLETE, INTERRUPTED, LOST, RUNNING, WAITING, Records
from faults.sweeps import BASE, behaving, require_whole
from pipeline.base.errors import EnvironmentFaultError
from pipeline.study.messages import Answer, WorkerDied
from pipeline.study.workers.pool import Worker
from pipeline.study.workers.ray import BRIDGE, RayCluster, RaySpec
from pipeline.sweep import main as sweep_here
from pipeline.tracking.ownership import is_own

pytestmark = pytest.mark.slow

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()")
SMALL = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats", "--block")
OTHER = "node-2"
"""What the second machine is called."""
Sweep = Callable[..., Training]


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
        places = (f"--temp-dir={folder}", "--node-ip-address=127.0.0.1")
        with log.open("wb") as out:
            node = psutil.Popen(
                [*self.prefix, *prefix, *RAY, "start", *words, *SMALL, *places],
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
def network() -> Iterator[Sequence[str]]:
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


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A cluster of a head, which is a node of one CPU."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder, network() as prefix:
        cluster = Nodes(Path(folder), prefix)
        try:
            cluster.start_head()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def sweep(start: Start, own_code: Words) -> Sweep:
    """Starts a sweep in the current folder, for a cluster or by itself."""

    def call(*words: str, cluster: Nodes | None = None, **environment: str) -> Training:
        defaults = beside(BASE, ["sweep.workers=null", "sweep.launcher=ray", *own_code])
        prefix: Sequence[str] = ()
        if cluster is not None:
            defaults.append(f"sweep.ray.address={cluster.address}")
            environment, prefix = {**cluster.environment, **environment}, cluster.prefix
        return start(*beside(defaults, words), command="sweep", prefix=prefix, **environment)

    return call


def await_waiting(running: Training, count: int) -> list[psutil.Process]:
    """Wait until so many trials wait; return the processes that train them."""
    files: list[Path] = []

    def enough() -> bool:
        files[:] = Path.cwd().glob("waiting-*")
        return len(files) >= count

    running.wait_until(enough, what=f"{count} trials that wait")
    for path in files:  # no sign of those that wait later
        path.unlink()
    return [psutil.Process(int(path.name.partition("-")[2])) for path in files]


def bridge_of(process: int) -> psutil.Process:
    """Return the process that speaks to Ray for a sweep."""
    (bridge,) = (child for child in psutil.Process(process).children() if BRIDGE in child.cmdline())
    return bridge


def with_actors(workers: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return workers, and the processes that have started them."""
    return [*workers, *(actor for worker in workers if (actor := worker.parent()) is not None)]


def folder_of(family: Sequence[psutil.Process]) -> Path:
    """Return where a cluster of this machine writes."""
    words = (word for process in family for word in process.cmdline())
    (path,) = (word for word in words if word.startswith("--raylet_socket_name="))
    return Path(path.partition("=")[2]).parents[2]


# ── a cluster of several machines ───────────────────────────────────────────────────────────────


def test_ray_trials_equal_local_trials(sweep: Sweep, cluster: Nodes) -> None:
    words = ("sweep.n_trials=3", "tracking=none")
    on_ray = sweep(*words, "sweep.name=there", "sweep.workers=5", cluster=cluster)
    assert sweep_here(beside(BASE, [*words, "sweep.name=here", "verbose=0"])) == 0
    assert (on_ray.end(), on_ray.err) == (0, "")
    assert on_ray.out.startswith("there: 3 trials on 1 worker, maximizing val/f1\n")
    assert (
        "\nnote: sweep.workers=5: the Ray cluster has room for 1; each needs 1 CPU, free: 1 "
        "CPU on 1 node\n"
    ) in on_ray.out
    points = [
        [(trial.params, trial.values, trial.end) for trial in Records(name).trials()]
        for name in ("there", "here")
    ]
    assert points[0] == points[1]
    assert len(points[0]) == 3
    assert not list(Path("runs/there").glob(".*.tmp"))
    assert is_own(Path("runs/there"))


def test_ray_study_survives_stops_and_kills(sweep: Sweep, cluster: Nodes) -> None:
    """Its driver, a node and a worker are killed; no trial is lacking in the end."""
    records = Records()
    words = ("sweep.n_trials=4", "sweep.grace=15", "sweep.max_retry=9", *behaving("wait"))
    with cluster.other() as node:
        first = sweep(*words, cluster=cluster)
        stranger = sweep(*words, "sweep.name=other", cluster=cluster, RAY_AUTH_TOKEN="0" * 64)
        workers = await_waiting(first, 2)
        processes, bridge = with_actors(workers), bridge_of(first.pid)
        assert stranger.end() == 3
        assert stranger.err.startswith(
            f"error: the Ray cluster at {cluster.address} refused authentication: "
        )
        first.send(signal.SIGINT)
        assert first.end() == 130
        assert first.err == (
            "stopping trials 0, 1; a second Ctrl-C ends them at once\n"
            "stopped: none finished; 2 interrupted trials will be repeated; "
            "run the same command to continue\n"
        )
        assert not any(map(is_running, [*workers, bridge]))
        await_end(*processes)  # actors belong to Ray, which ends them in its own time
        assert records.ends() == [INTERRUPTED] * 2 + [WAITING] * 2

        second = sweep(*words, cluster=cluster)
        processes = [*with_actors(await_waiting(second, 2)), bridge_of(second.pid)]
        second.finish()
        await_end(*processes)
        assert records.ends()[2:] == [RUNNING] * 2

        auto = {"RAY_ADDRESS": cluster.address}
        third = sweep(*words, "sweep.ray.address=auto", cluster=cluster, **auto)
        workers = await_waiting(third, 2)
        # The lease of the other machine is known to be dead once it has stood still for a while.
        third.wait_until(lambda: records.ends()[2:4] == [LOST] * 2, what="the loss of both")
        cluster.kill(node)
        third.wait_until(lambda: records.ends().count(LOST) == 3, what="the loss with the node")
    lost = next(trial for trial in records.trials()[4:] if trial.end == LOST)
    if os.geteuid() == 0:
        assert lost.attributes["lease"]["host"] == OTHER
    assert records.ends().count(RUNNING) == 1
    (survivor,) = filter(is_running, workers)
    processes = [*with_actors([survivor]), bridge_of(third.pid)]
    survivor.kill()
    third.wait_until(lambda: records.ends().count(LOST) == 4, what="the loss with the process")
    Path("go on").touch()
    third.require_success()
    assert f"warning: trial {lost.number} was lost because its process died" in third.err
    assert len(third.err.splitlines()) == 4
    assert records.ends().count(COMPLETE) == 4
    require_whole(records, 4, max_retry=9)
    await_end(*processes)


def test_node_without_study_folder_ends_the_study(sweep: Sweep, cluster: Nodes) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may hide a folder from a process")
    folder = Path.cwd()
    script = f'mount -t tmpfs tmpfs {folder}; exec "$@"'
    with cluster.other("unshare", "--mount", "sh", "-c", script, "sh"):
        running = sweep("sweep.n_trials=4", "tracking=none", *behaving("wait"), cluster=cluster)
        assert running.end() == 3
    # The other node's trial may have begun by then.
    assert running.err.removeprefix("stopping trial 0\n") == (
        f"error: node {OTHER} of the Ray cluster does not see the study's folder "
        f"'{folder}/runs/study'; set output= to a folder shared by all machines under one path\n"
    )


# ── a cluster of this machine alone ─────────────────────────────────────────────────────────────


def is_ready(worker: Worker) -> bool:
    assert worker.answers() == []
    return worker.is_ready


def test_workers_see_only_gpus_reserved_by_ray(own_folder: Path, monkeypatch: Patch) -> None:
    """They end with the process that is connected to Ray."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    # Ray believes in any number of GPUs.
    spec = RaySpec(address=None, cpus=0.1, gpus=2.0, local_cpus=1, local_gpus=4)
    made = {"MADE": "yes"}
    token = own_folder / "token"
    token.touch()
    with RayCluster(spec, token=token, environment=made) as cluster:
        workers = [Worker(cluster.worker()) for _ in range(2)]
        for worker in workers:
            wait_until(partial(is_ready, worker), what="a worker")
        processes = [psutil.Process(worker.lease.pid) for worker in workers]
        environments = [process.environ() for process in processes]
        gpus = {
            tuple(sorted(environment["CUDA_VISIBLE_DEVICES"].split(",")))
            for environment in environments
        }
        assert gpus == {("0", "1"), ("2", "3")}
        assert {
            (environment.get("OMP_NUM_THREADS"), environment["MADE"])
            for environment in environments
        } == {(None, "yes")}
        bridge = bridge_of(os.getpid())
        family = [*bridge.children(recursive=True), *processes]
        folder = folder_of(family)
        bridge.kill()
        answers: list[Answer] = []

        def is_gone() -> bool:
            answers.extend(workers[0].answers())
            return workers[0].is_gone

        wait_until(is_gone, what="the loss of the connection")
        assert answers[-1] == WorkerDied(message="the connection to Ray was lost")
        with pytest.raises(EnvironmentFaultError, match=r"connection to Ray on this machine was l"):
            Worker(cluster.worker())
        for worker in workers:
            worker.quit()
    await_end(*family)
    assert not folder.exists()


def test_local_ray_cluster_listens_only_on_loopback(sweep: Sweep, monkeypatch: Patch) -> None:
    """It leaves no process and no file."""
    temporary = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = ("sweep.n_trials=1", "sweep.workers=1", "tracking=none", *behaving("wait"))
    for is_killed in (True, False):
        running = sweep(*words)
        await_waiting(running, 1)
        bridge = bridge_of(running.pid)
        family = [bridge, *bridge.children(recursive=True)]
        assert folder_of(family).is_relative_to(temporary)
        assert listening(bridge.pid) == {"127.0.0.1"}
        if is_killed:
            running.finish()
        else:
            Path("go on").touch()
            running.require_success()
        await_end(*family)
        assert list(temporary.glob("ray-*")) == []
    lost = "warning: trial 0 was lost because its process died; it is retried\n"
    assert running.err == lost
    shutil.rmtree(temporary)
