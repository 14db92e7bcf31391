"""Fault F36 for sweeps: folders with every sign in their names."""

import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from faults.conftest import StartSweep
from faults.study_records import Records
from pipeline.config.overrides import quoted

pytestmark = pytest.mark.slow

ODD = "a b=c,d#e%f[g]{h}'i 数据 🎲"


def test_a_sweep_works_in_folders_of_any_name_up_to_the_winners_printed_command(
    sweep: StartSweep, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = own_folder / ODD
    here.mkdir()
    for module in own_folder.glob("*.py"):
        module.rename(here / module.name)
    monkeypatch.chdir(here)
    words = (f"output={quoted(f'out {ODD}')}", "sweep.storage=null")
    first = sweep("sweep.n_trials=1", *words)
    assert first.end() == 0, first.err
    again = sweep("sweep.n_trials=2", *words)
    assert again.end() == 0, again.err
    assert again.err == ""
    records = Records()
    records.require_whole(2)
    said = records.parent().tags["best.trial"]
    value = records.trials()[int(said)].values[0]
    for start in ("again", "or"):
        (command,) = re.findall(rf"^{start} +(python .*)$", again.out, re.MULTILINE)
        python, *rest = shlex.split(command)
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *rest, f"tracking.experiment={start}", "verbose=0"],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert value_of(here, start) == value
    assert [path.name for path in own_folder.iterdir()] == [ODD]


def value_of(folder: Path, experiment: str) -> float:
    query = (
        "SELECT value FROM latest_metrics JOIN runs USING (run_uuid) JOIN experiments "
        "USING (experiment_id) WHERE experiments.name = ? AND key = 'best/val/f1'"
    )
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        ((value,),) = connection.execute(query, (experiment,)).fetchall()
    return float(value)
