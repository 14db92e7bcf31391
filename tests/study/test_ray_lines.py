"""What a person is told where a study can't run on Ray, and the arithmetic of what fits."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # it brings no types
import pytest
from helpers.fixture_types import Capture, Patch

import pipeline
from pipeline.study.workers import ray_bridge
from pipeline.study.workers.ray import RayCluster, RaySpec, free_words
from pipeline.study.workers.ray_bridge import NodeActor
from pipeline.sweep import main as sweep

ON_RAY = (
    *("model=mlp", "data=iris", "tracking=none", "trainer=cpu", "trainer.threads=1"),
    *("sweep.launcher=ray", "optimizer.lr=tag(log, interval(1e-3, 1e-1))"),
)


CORES = free_words([{"CPU": len(os.sched_getaffinity(0))}])
ADDRESS = "expected auto, HOST:PORT of the cluster's head, or null"
NO_ANSWER = (  # Ray puts the machine's own address in the place of 127.0.0.1
    r"no answer from [\d.]+:1, sweep\.ray\.address={} \(Connection refused\); check the "
    "cluster with: ray status"
)


def test_ray_actor_loads_without_the_package() -> None:
    cloudpickle.register_pickle_by_value(ray_bridge)
    content = cloudpickle.dumps(NodeActor)
    cloudpickle.unregister_pickle_by_value(ray_bridge)
    code = "import pickle, sys; sys.modules['pipeline'] = None; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", code], input=content, check=True)


REFUSED = {
    **{
        f"sweep.ray.address='{address}'": (2, re.escape(f"sweep.ray.address={address}: {ADDRESS}"))
        for address in ("ray://head:10001", "head", "head:x")
    },
    "sweep.ray.num_gpus=2.5": (
        2,
        "sweep.ray.num_gpus=2.5: expected a fraction of one, or whole GPUs",
    ),
    "sweep.ray.num_cpus=4096 sweep.workers=2": (
        3,
        f"the Ray cluster has no room for a worker: each needs 4096 CPUs, free: {CORES}; wait "
        "until other jobs end, or lower sweep.ray.num_cpus or sweep.ray.num_gpus",
    ),
    "sweep.ray.address=127.0.0.1:1": (3, NO_ANSWER.format("127.0.0.1:1")),
    "sweep.ray.address=auto": (3, NO_ANSWER.format("auto")),
    "": (
        2,
        "sweep.launcher=ray needs the package ray, which is not installed; install it with: "
        r"pip install 'ray>=2.60,<3'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", REFUSED)
def test_study_impossible_on_ray_is_refused(
    capsys: Capture, monkeypatch: Patch, words: str
) -> None:
    code, says = REFUSED[words]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    if not words:
        monkeypatch.setitem(sys.modules, "ray", None)  # not installed
    assert sweep([*ON_RAY, *words.split()]) == code
    assert re.fullmatch(f"error: {says}\n", capsys.readouterr().err)
    assert list(Path.cwd().rglob("*")) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"token": "/nowhere/token"}, "does not see the study's folder '/nowhere'; set output="),
        ({"folder": "/nowhere"}, "has no folder '/nowhere', in which the sweep was started"),
        ({"python": "Python 3.9.1"}, f"has Python {platform.python_version()}, and the driver Py"),
        ({"pipeline": "9.9"}, f"has pipeline {pipeline.__version__}, and the driver 9.9; use"),
    ],
)
def test_unsuitable_node_is_reported_in_one_line(
    monkeypatch: Patch, changes: dict[str, Any], line: str
) -> None:
    monkeypatch.setattr("pipeline.study.workers.ray_bridge.SHOWN_SECONDS", 0.1)
    monkeypatch.setattr(sys, "path", list(sys.path))
    token = Path("token").absolute()
    token.touch()
    order = RayCluster(needs(cpus=1), token=token).order
    problem = NodeActor().start({**order, **changes})["problem"]
    assert line in problem
    assert problem.startswith("node ")
    assert len(problem.splitlines()) == 1


def needs(cpus: float, gpus: float = 0.0) -> RaySpec:
    """A worker that reserves so much."""
    return RaySpec(address=None, cpus=cpus, gpus=gpus, local_cpus=1, local_gpus=0)


@pytest.mark.parametrize(
    ("spec", "free", "fit"),
    [
        (needs(cpus=1), [{"CPU": 4.0}, {"CPU": 0.5}, {"memory": 1e9}], 4),
        (needs(cpus=3), [{"CPU": 4.0}, {"CPU": 2.0}], 1),  # not one of three on two nodes
        (needs(cpus=0.1), [{"CPU": 0.3}], 3),  # 0.3 / 0.1 < 3 in binary
        (needs(cpus=1, gpus=0.5), [{"CPU": 9.0, "GPU": 2.0}, {"CPU": 9.0}], 4),
        (needs(cpus=4, gpus=2), [{"CPU": 8.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 4.0}], 3),
        (needs(cpus=1, gpus=1), [], 0),
    ],
)
def test_worker_needs_all_its_resources_on_one_node(
    spec: RaySpec, free: list[dict[str, float]], fit: int
) -> None:
    assert spec.room(free) == fit


def test_free_resources_are_listed_with_numbers() -> None:
    assert free_words([{"CPU": 1.0}]) == "1 CPU on 1 node"
    two = [{"CPU": 2.5, "GPU": 1.0}, {"CPU": 8.0, "GPU": 4.0}]
    assert free_words(two) == "2.5 CPUs and 1 GPU + 8 CPUs and 4 GPUs on 2 nodes"
