"""Ray clusters of this machine alone, which a study starts for itself and takes down again."""

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faults.processes import wait_until
from faults.sweeps import behaving
from ray_sweeps import (
    Start,
    await_end,
    await_family,
    folder_of,
    forget_waiting,
    is_running,
    sweeps,
)

from pipeline.errors import EnvironmentFaultError
from pipeline.study.workers.messages import Answer, Gone
from pipeline.study.workers.ray import BRIDGE, RayCluster, RaySpec, token_in
from pipeline.study.workers.worker_pool import Worker


@pytest.fixture
def sweep(own_folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a sweep in the current folder."""
    with sweeps(tmp_path) as start:
        yield start


LOOK = """
import json, os, sys
from pathlib import Path
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MADE")}
Path("seen.tmp").write_text(json.dumps(seen))
os.replace("seen.tmp", f"seen-{os.getpid()}")
sys.stdin.read()
"""


@pytest.mark.slow
def test_workers_see_the_gpus_that_ray_reserves_and_die_with_what_speaks_to_it(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    spec = RaySpec(address=None, cpus=0.1, gpus=2.0, cores=1, cards=4)  # Ray believes in any number
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


@pytest.mark.slow
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
