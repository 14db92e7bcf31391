"""Studies on real Ray clusters: of one node and two, and one of this machine alone."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults.processes import wait_until
from faults.study_records import Records
from faults.sweeps import behaving
from ray_clusters import (
    BRIDGE,
    OTHER,
    Nodes,
    Start,
    actors_of,
    await_end,
    await_family,
    await_waiting,
    bridge_of,
    folder_of,
    forget_waiting,
    is_running,
    nodes,
    sweeps,
)

from pipeline.errors import EnvironmentFaultError
from pipeline.runs import main as runs
from pipeline.study.messages import Answer, Gone
from pipeline.study.workers.ray import RayCluster, RaySpec, token_in
from pipeline.study.workers.worker import Worker

pytestmark = pytest.mark.slow

LOST, COMPLETE = ("FAIL", "lost"), ("COMPLETE", None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """A cluster of a head, which is a node of one CPU."""
    with nodes() as cluster:
        cluster.start_head()
        yield cluster


@pytest.fixture
def sweep(own_folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a sweep in the current folder."""
    with sweeps(tmp_path) as start:
        yield start


def test_trials_come_to_the_same_on_a_cluster_as_in_processes_of_this_machine(
    sweep: Start, cluster: Nodes
) -> None:
    words = ("sweep.n_trials=3", "tracking=none")
    asked = "sweep.workers=5"
    there = sweep(*words, "sweep.name=there", asked, cluster=cluster)
    here = sweep(*words, "sweep.name=here", "sweep.workers=1")
    for running in (there, here):
        assert running.end() == 0, running.err
        assert running.err == ""
    assert there.out.startswith("there: 3 trials about val/f1 (max) on 1 worker\n")
    assert (
        "\nnote: sweep.workers=5: the Ray cluster has room for 1; each reserves 1 CPU, free are "
        "1 CPU on 1 node\n"
    ) in there.out
    points = [
        [(trial.params, trial.values, trial.end) for trial in Records(name).trials()]
        for name in ("there", "here")
    ]
    assert points[0] == points[1]
    assert len(points[0]) == 3
    assert not list(Path("runs/there").glob(".*.tmp"))


def test_neither_a_killed_driver_nor_a_killed_node_costs_a_study_a_trial(
    sweep: Start, cluster: Nodes
) -> None:
    records = Records()
    words = ("sweep.n_trials=4", "sweep.grace=2", *behaving("wait"))
    with cluster.other() as node:
        first = sweep(*words, cluster=cluster)
        workers = await_waiting(first, 2)
        left = [*workers, *actors_of(workers), bridge_of(first)]
        first.finish()
        await_end(left)
        assert records.ends() == [("RUNNING", None)] * 2

        forget_waiting()
        second = sweep(*words, cluster=cluster)
        workers = await_waiting(second, 2)
        # The lease of the other machine is known to be dead once it has stood still for a while.
        second.wait_until(lambda: records.ends()[:2] == [LOST] * 2, what="the loss of both")
        cluster.kill(node)
        second.wait_until(lambda: records.ends().count(LOST) == 3, what="the loss with the node")
    lost = next(trial for trial in records.trials()[2:] if trial.end == LOST)
    if os.geteuid() == 0:
        assert lost.attributes["lease"]["host"] == OTHER
    (survivor,) = (worker for worker in workers if is_running(worker))
    assert records.ends().count(("RUNNING", None)) == 1
    left = [survivor, *actors_of([survivor]), bridge_of(second)]
    Path("go on").touch()
    assert second.end() == 0, second.err
    assert f"warning: trial {lost.number} was lost with its process" in second.err
    assert len(second.err.splitlines()) == 3
    assert records.ends().count(COMPLETE) == 4
    records.require_whole(4)
    assert runs(["action=check", "study=study"]) == 0
    await_end(left)


def test_a_stop_reaches_the_trials_on_a_cluster_and_the_same_command_goes_on(
    sweep: Start, cluster: Nodes
) -> None:
    records = Records()
    words = ("sweep.n_trials=2", "sweep.grace=1", *behaving("wait"))
    first = sweep(*words, cluster=cluster)
    stranger = sweep(*words, "sweep.name=other", cluster=cluster, RAY_AUTH_TOKEN="0" * 64)
    workers = await_waiting(first, 1)
    bridge = bridge_of(first)
    actors = actors_of(workers)
    assert stranger.end() == 3
    assert stranger.err.startswith(
        f"error: the Ray cluster at {cluster.address} does not let this process in: "
    )
    first.send(signal.SIGINT)
    assert first.end() == 130
    assert first.err == "stopped after 0 trials (1 interrupted); the same command goes on\n"
    assert not any(map(is_running, [*workers, bridge]))
    await_end(actors)  # they belong to Ray, which ends them in its own time
    assert records.ends() == [("FAIL", "interrupted"), ("WAITING", None)]

    forget_waiting()
    here = {"RAY_ADDRESS": cluster.address}
    second = sweep(*words, "sweep.ray.address=auto", cluster=cluster, **here)
    (worker,) = await_waiting(second, 1)
    worker.kill()
    second.wait_until(lambda: LOST in records.ends(), what="the loss with the process")
    Path("go on").touch()
    assert second.end() == 0, second.err
    records.require_whole(2)


def test_a_node_that_does_not_see_the_folder_of_a_study_ends_it_in_one_line(
    sweep: Start, cluster: Nodes
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may hide a folder from a process")
    folder = Path.cwd()
    script = f'mount -t tmpfs tmpfs {folder}; exec "$@"'
    with cluster.other("unshare", "--mount", "sh", "-c", script, "sh"):
        running = sweep("sweep.n_trials=4", "tracking=none", *behaving("wait"), cluster=cluster)
        assert running.end() == 3
    assert running.err == (
        f"error: node {OTHER} of the Ray cluster does not see the study's folder "
        f"'{folder}/runs/study'; set output= to a folder that all machines share under one path\n"
    )


# ── a cluster of this machine alone ─────────────────────────────────────────────────────────────

LOOK = """
import json, os, sys
from pathlib import Path
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MADE")}
Path("seen.tmp").write_text(json.dumps(seen))
os.replace("seen.tmp", f"seen-{os.getpid()}")
sys.stdin.read()
"""


def test_workers_see_the_gpus_that_ray_reserves_and_die_with_what_speaks_to_it(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    spec = RaySpec(
        address=None, cpus=0.1, gpus=2.0, local_cpus=1, local_gpus=4
    )  # Ray believes in any number
    with (
        token_in(own_folder / "study") as token,
        RayCluster(spec, token=token, environment={"MADE": "yes"}, command=("-c", LOOK)) as cluster,
    ):
        workers = [Worker(cluster.worker()) for _ in range(2)]
        for worker in workers:
            worker.start()
        files: list[Path] = []

        def both_look() -> bool:
            files[:] = own_folder.glob("seen-*")
            return len(files) == 2

        wait_until(both_look, what="two workers that look around")
        seen = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        assert {tuple(sorted(one["CUDA_VISIBLE_DEVICES"].split(","))) for one in seen} == {
            ("0", "1"),
            ("2", "3"),
        }
        assert {(one["OMP_NUM_THREADS"], one["MADE"]) for one in seen} == {(None, "yes")}
        (bridge,) = (p for p in psutil.Process().children() if BRIDGE in p.cmdline())
        looking = [psutil.Process(int(file.name.partition("-")[2])) for file in files]
        family = [*bridge.children(recursive=True), *looking]
        folder = folder_of(family)
        bridge.kill()
        said: list[Answer] = []

        def is_gone() -> bool:
            said.extend(workers[0].answers())
            return workers[0].is_gone

        wait_until(is_gone, what="the loss of the connection")
        assert said[-1] == Gone(message="the connection to Ray was lost")
        with pytest.raises(EnvironmentFaultError, match=r"connection to Ray on this machine was l"):
            cluster.worker().start()
        for worker in workers:
            worker.quit()
    await_end(family)
    assert not folder.exists()


def test_a_cluster_of_this_machine_alone_listens_to_nobody_else_and_leaves_nothing(
    sweep: Start,
) -> None:
    words = ("sweep.n_trials=1", "sweep.launcher=ray", "sweep.workers=1", *behaving("wait"))
    first = sweep(*words)
    family = await_family(first)
    folder = folder_of(family)
    assert folder.exists()
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in family
        if is_running(process)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    first.finish()
    await_end(family)
    assert not folder.exists()

    forget_waiting()
    second = sweep(*words)
    family = await_family(second)
    folder = folder_of(family)
    Path("go on").touch()
    assert second.end() == 0, second.err
    assert second.err == "warning: trial 0 was lost with its process; its point is tried again\n"
    assert not any(map(is_running, family))
    assert not folder.exists()
