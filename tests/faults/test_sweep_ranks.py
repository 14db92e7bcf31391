"""Trials on several devices: each is trained by a worker and its peers, and lost whole."""

import json
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from helpers.fixture_types import Capture

from faults.conftest import StartSweep, SweepHere
from faults.processes import await_end
from faults.study_records import COMPLETE, LOST, Records, ask_file
from faults.sweeps import Sweeping
from pipeline.sweep import main
from pipeline.train import main as train

TWO = ("trainer=cpu", "sweep.devices_per_trial=2")

pytestmark = pytest.mark.slow


def test_study_on_two_devices_equals_one_device(own_folder: Path, capsys: Capture) -> None:
    words = ["model=mlp", "data=iris", "trainer.max_epochs=8", "trainer.precision=64-true"]
    words += ["sweep.sampler=random", "sweep.n_trials=8", "sweep.workers=1", "verbose=0"]
    words += ["sweep.pruner=asha", "sweep.base_trial=false"]
    words += ["optimizer.lr=tag(log, interval(1e-5, 1e-1))", "tracking=none"]
    found = []
    for name, device_words in (("alone", ["trainer=cpu"]), ("shared", list(TWO))):
        storage = f"sweep.storage=sqlite:///{own_folder}/{name}.db"
        assert main([*words, *device_words, f"output={name}", storage, "sweep.name=study"]) == 0
        found.append(Records(ask=partial(ask_file, own_folder / f"{name}.db")).trials())
    alone, shared = found
    assert [trial.state for trial in shared] == [trial.state for trial in alone]
    assert "PRUNED" in [trial.state for trial in shared]
    for alone_trial, shared_trial in zip(alone, shared, strict=True):
        assert shared_trial.values == pytest.approx(alone_trial.values, abs=1e-6)
    # The winner's command brings its devices along, and gives its value again.
    conf = own_folder / "shared" / "study" / "conf"
    capsys.readouterr()
    experiment_words = [f"--config-dir={conf}", "experiment=study", "tracking=none", "verbose=0"]
    assert train([*experiment_words, "output=again"]) == 0
    (journal,) = (own_folder / "again").glob("*/journal.jsonl")
    begin_event = json.loads(journal.read_text(encoding="utf-8").splitlines()[0])
    assert begin_event["params"]["trainer.devices"] == 2
    values = [json.loads(line).get("values", {}) for line in journal.open(encoding="utf-8")]
    (best,) = (found["best/val/f1"] for found in values if "best/val/f1" in found)
    winner = max(trial.values[0] or 0 for trial in shared if trial.state == "COMPLETE")
    assert best == pytest.approx(winner, abs=1e-9)


def test_killed_rank_loses_only_its_trial(sweep: StartSweep, sweep_here: SweepHere) -> None:
    """So does a stuck rank; a killed driver leaves no process."""
    records = Records()
    words = ("sweep.n_trials=1", "sweep.grace=5", "sweep.max_retry=9", "tracking=local", *TWO)
    study = sweep("trainer.max_epochs=3000", *words)

    def await_ranks() -> list[psutil.Process]:
        study.process.wait_until(lambda: "RUNNING" in states(records), what="a trial")
        study.process.wait_until(lambda: len(ranks(study)) == 2, what="two ranks")
        return ranks(study)

    await_ranks()[1].send_signal(signal.SIGKILL)
    study.process.wait_until(lambda: "FAIL" in states(records), what="the loss")
    together = await_ranks()
    assert "was lost because its process died; it is retried" in study.err
    together[1].suspend()
    await_end(*together)
    study.process.wait_until(lambda: states(records).count("FAIL") == 2, what="the other loss")
    assert "gave no sign of life for 5 s (sweep.grace); it is killed and replaced" in study.err
    await_ranks()
    study.kill()
    study.require_no_orphan()
    assert sweep_here("trainer.max_epochs=2", "sweep.allow_change=true", *words) == 0
    assert records.ends() == [*[LOST] * 3, COMPLETE]


def states(records: Records) -> list[str]:
    return [trial.state for trial in records.trials()]


def ranks(study: Sweeping) -> list[psutil.Process]:
    """The processes that train: the worker, and the peer that it has started."""
    processes = study.children()
    with suppress(psutil.NoSuchProcess):
        pids = {process.pid for process in processes}
        processes.sort(key=lambda process: process.ppid() in pids)
    return processes


def test_trial_failure_shows_reason_of_its_rank(sweep_here: SweepHere, capsys: Capture) -> None:
    callback_words = ("+callbacks.own._target_=rank_parts.Raises", "+callbacks.own.epoch=2")
    words = ("sweep.sampler=grid", "sweep.n_trials=null", "optimizer.lr=0.01", "tracking=local")
    assert sweep_here(*callback_words, *words, "trainer.max_epochs=choice(1,3)", *TWO) == 0
    assert sorted(Records().ends()) == [COMPLETE, ("FAIL", "oom")]
    assert "no room here" in capsys.readouterr().out


def test_ranks_train_one_trial_after_another(sweep_here: SweepHere) -> None:
    """They go on after a trial that has diverged, since it diverges on all of them."""
    words = ("sweep.sampler=grid", "sweep.n_trials=null", "sweep.workers=1", "tracking=local")
    callback_words = ("+callbacks.own._target_=rank_parts.Processes", "trainer.max_epochs=2")
    assert sweep_here(*callback_words, *words, "optimizer.lr=choice(0.01,1e30,1e31)", *TWO) == 0
    assert sorted(Records().ends()) == [COMPLETE, *[("FAIL", "diverged")] * 2]
    for rank in (0, 1):
        pids = Path(f"processes-{rank}").read_text(encoding="utf-8").split()
        assert len(pids) == 3
        assert len(set(pids)) == 1
