"""Fault F36 for sweeps: folders with every sign in their names, and the longest of names."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.fixture_types import Patch

from faults.conftest import StartSweep, SweepHere
from faults.study_records import Records, ask_file
from pipeline.train import main as train

pytestmark = pytest.mark.slow

ODD = "a b=c,d#e%f[g]{h}'i 数据 🎲"


def test_sweep_works_in_folders_of_any_name(
    sweep: StartSweep,
    sweep_here: SweepHere,
    own_folder: Path,
    monkeypatch: Patch,
) -> None:
    """So does the printed command of its winner."""
    folder = own_folder / ODD
    folder.mkdir()
    for module in own_folder.glob("*.py"):
        module.rename(folder / module.name)
    monkeypatch.chdir(folder)
    name = "a" * 64  # as long as it may be
    output = "out " + ODD.replace("'", "\\'")
    words = (f"output='{output}'", "sweep.storage=null", f"sweep.name={name}")
    assert sweep_here("sweep.n_trials=1", *words) == 0
    again = sweep("sweep.n_trials=2", *words)
    again.require_success()
    assert again.err == ""
    records = Records(name)
    records.require_whole(2)
    assert max(len(run.name) for run in records.children().values()) <= 64
    best_trial = records.parent().tags["best.trial"]
    value = records.trials()[int(best_trial)].values[0]
    for start in ("again", "or"):
        (command,) = re.findall(rf"^{start} +pipeline train (.*)$", again.out, re.MULTILINE)
        assert train([*shlex.split(command), f"tracking.experiment={start}", "verbose=0"]) == 0
        query = (
            "SELECT value FROM latest_metrics JOIN runs USING (run_uuid) JOIN experiments "
            f"USING (experiment_id) WHERE experiments.name = '{start}' AND key = 'best/val/f1'"
        )
        assert ask_file(folder / "mlflow.db", query) == [(value,)]
    assert [path.name for path in own_folder.iterdir()] == [ODD]
