"""What holds on GPUs alone. A machine without one, or with only one, leaves these tests out."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from faults.processes import wait_until
from helpers.fixture_types import Capture, Made, Train
from helpers.run_files import checkpoint, epochs, events, final_values

from pipeline.base.processes.child import Child, python_module
from pipeline.base.processes.fork_server import ForkServer
from pipeline.running.devices import visible_devices
from pipeline.study.workers.worker import TRIAL, WORKER
from pipeline.sweep import main as sweep

COUNT = torch.cuda.device_count() if torch.cuda.is_available() else 0
IRIS = ("model=mlp", "data=iris", "verbose=0", "trainer.max_epochs=3")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(COUNT < 1, reason="this machine has no CUDA GPU"),
]
# What a fork runs: a GPU that its server had used would fail here.
ON_GPU = """
import torch
from pipeline.base.processes.parent import Parent

def main():
    Parent.claim().say({"id": 1, "sum": float(torch.zeros(1).cuda().sum())})
"""
two_gpus = pytest.mark.skipif(COUNT < 2, reason="this machine has fewer than two CUDA GPUs")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Lets this process take 64 MiB of each GPU."""
    for index in range(COUNT):
        total = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(2**26 / total, index)
    yield
    for index in range(COUNT):
        torch.cuda.set_per_process_memory_fraction(1.0, index)


def device_of(run: Path) -> str:
    """What a run says that it has trained on."""
    tags = next(event["tags"] for event in events(run) if "tags" in event)
    return str(tags["device"])


def study(name: str, *words: str) -> list[str]:
    """Train a study in the current folder; return what MLflow has of the devices of its trials."""
    rates = "optimizer.lr=tag(log, interval(1e-3, 1e-1))"
    how = ("sweep.sampler=random", "sweep.pruner=none", "sweep.n_trials=6", f"output={name}")
    stores = (f"tracking.uri=sqlite:///{name}.db", f"sweep.storage=sqlite:///{name}-optuna.db")
    assert sweep([*IRIS, rates, f"sweep.name={name}", *how, *stores, *words]) == 0
    query = (
        "select tags.value from tags join tags as trials on trials.run_uuid = tags.run_uuid "
        "where tags.key = 'device' and trials.key = 'mlflow.parentRunId'"
    )
    with closing(sqlite3.connect(f"{name}.db")) as connection:
        return [str(value) for (value,) in connection.execute(query)]


def test_auto_equals_naming_the_chosen_gpu(made: Made) -> None:
    run = made(*IRIS, "tracking=none", "trainer=auto", "output=auto")
    assert f"here: {COUNT} gpu" in device_of(run)
    index = device_of(run).removeprefix("gpu ").partition(" ")[0]
    named = made(*IRIS, "tracking=none", f"trainer.devices=[{index}]", "output=named")
    weights = checkpoint(named, "last")["state_dict"]
    for name, tensor in checkpoint(run, "last")["state_dict"].items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-6, atol=1e-7)


def test_gpu_out_of_memory_exits_with_3(train: Train, capsys: Capture, little_memory: None) -> None:
    assert train(*IRIS, "tracking=none", "trainer=gpu", "model.hidden=[4096,4096]") == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == ["error: out of memory; try a smaller data.batch_size or a smaller network."]


def test_forked_worker_can_use_a_gpu(own_folder: Path) -> None:
    (own_folder / "on_gpu.py").write_text(ON_GPU)
    path = f"{own_folder}{os.pathsep}{Path(__file__).parents[1]}"
    with ForkServer(WORKER, TRIAL, "on_gpu", environment={"PYTHONPATH": path}) as server:

        def is_loaded() -> bool:
            server.listen()
            return server.is_loaded

        wait_until(is_loaded, what="the fork server")
        child = Child(python_module("on_gpu"), launch=server.launch)
        child.start()
        assert child.answer(1, 60)["sum"] == 0.0
        child.close(0.0)


@pytest.mark.slow
def test_many_workers_share_a_gpu(own_folder: Path) -> None:
    devices = study("shared", f"sweep.workers={COUNT + 1}")
    assert len(devices) == 6
    assert all("; here: 1 gpu of CUDA_VISIBLE_DEVICES=" in words for words in devices)


@two_gpus
@pytest.mark.slow
def test_two_gpus_reach_the_values_of_one(made: Made) -> None:
    whole = (*IRIS, "tracking=none", "trainer.sync_batchnorm=true")
    one, two = made(*whole, "trainer=gpu", "output=one"), made(*whole, "trainer=ddp", "output=two")
    assert len(set(re.findall(r"gpu \d+ \(", device_of(two)))) == 2
    for values_of in (lambda run: epochs(run)[2], final_values):
        expected = {key: value for key, value in values_of(one).items() if "time/" not in key}
        found = {key: value for key, value in values_of(two).items() if key in expected}
        assert found == pytest.approx(expected, abs=1e-5, nan_ok=True)


@two_gpus
@pytest.mark.slow
def test_workers_use_separate_or_the_named_gpu(own_folder: Path) -> None:
    assert len(set(study("apart", "sweep.workers=2"))) == 2
    named = visible_devices(os.environ.get("CUDA_VISIBLE_DEVICES"), COUNT)[1]
    (words,) = set(study("named", "sweep.workers=2", "trainer.devices=[1]"))
    assert f"here: 1 gpu of CUDA_VISIBLE_DEVICES={named}, " in words
