"""Small studies in real databases, without a network, also in processes of their own."""

import json
import math
import multiprocessing
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeVar

import optuna
from omegaconf import OmegaConf
from sqlalchemy import event

from pipeline.base.ends import End, TrialEnd
from pipeline.base.paths import conf_folder
from pipeline.base.processes.lease import Lease, own_lease
from pipeline.config.options import SweepOptions
from pipeline.study.ledger.definition import Objective, StudyDefinition
from pipeline.study.ledger.ledger import Ledger
from pipeline.study.ledger.rows import Row
from pipeline.study.ledger.storage import WAIT_SECONDS, open_storage, storage_url
from pipeline.study.space.space import Space, in_order, read_ranges
from pipeline.tracking.uri import sqlite_uri

Outcome = TypeVar("Outcome")
Settings = dict[str, Any]
"""Options of a study, and what else `open_ledger` takes, by their names."""

LR = {"optimizer.lr": "tag(log, interval(1e-4, 1e-1))"}
GRID = {"seed": "range(0, 4)", "optimizer.lr": "choice(0.1, 0.01, 0.001)"}
COMPLETE = TrialEnd(end=End.COMPLETE, values=(0.5,))
F1 = (Objective(name="val/f1", direction="max"),)
BASE = {"format": 1, "seed": 0, "optimizer": {"lr": 0.01}, "trainer": {"max_epochs": 5}}


def options(**changed: Any) -> SweepOptions:
    """The options of a study as conf/sweep.yaml has them, apart from what is given."""
    tree = OmegaConf.load(conf_folder() / "sweep.yaml")
    values = OmegaConf.to_container(tree.sweep)
    assert isinstance(values, dict)
    return SweepOptions(**{**values, **changed})


def space_of(
    space: Mapping[str, Any] = LR, when: Mapping[str, Any] | None = None, **base: str
) -> Space:
    """A space as it is read from YAML, over a run in which conditions find `base`."""
    ranges, problems = read_ranges(space, when)
    assert not problems
    assert not any(parameter.problems for parameter in ranges)
    return Space(in_order(ranges), base)


def open_ledger(place: Path | str, *, name: str = "lr", seed: int = 0, **settings: Any) -> Ledger:
    """Open a study in a file or at an address: by default `LR`, 20 trials, over `BASE`."""
    facts: dict[str, Any] = {"base": BASE, "objectives": F1}
    for key in ("base", "base_point", "data", "objectives"):
        if key in settings:
            facts[key] = settings.pop(key)
    wait = settings.pop("wait", WAIT_SECONDS)
    space = settings.pop("space", None) or space_of()
    definition = StudyDefinition(
        url=sqlite_uri(place) if isinstance(place, Path) else storage_url(place),
        name=name,
        options=options(**settings),
        space=space,
        seed=seed,
        **facts,
    )
    return Ledger.open(definition, wait=wait)


def failed(reason: str) -> TrialEnd:
    """The end of a trial that failed."""
    return TrialEnd(end=End[reason.upper()])


def take(ledger: Ledger, holder: Lease | None = None) -> Row:
    """Take a trial that is there, for this process unless another holder is given."""
    trial = ledger.take(holder or own_lease())
    assert trial is not None
    return trial


def assert_read_as_by_optuna(ledger: Ledger, url: str) -> None:
    """End trials of an asynchronous halving in all ways, some through Optuna itself."""
    pruned = TrialEnd(end=End.PRUNED)
    study = optuna.load_study(study_name=ledger.name, storage=url)
    study.enqueue_trial({"optimizer.lr": 0.02}, user_attrs={"by": "hand"})
    for value, end in ((0.5, COMPLETE), (0.25, pruned), (0.75, failed("lost")), (1.0, None)):
        running_trial = take(ledger)
        ledger.report(running_trial, step=4, value=value)
        ledger.beat([running_trial.number])
        if end is not None:
            ledger.finish(running_trial, end)
    study.enqueue_trial({"optimizer.lr": 0.03})
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED):
        other = optuna.create_trial(
            state=state,
            value=math.inf,
            params={"x": "b", "y": 3},
            distributions={
                "x": optuna.distributions.CategoricalDistribution(["a", "b"]),
                "y": optuna.distributions.IntDistribution(1, 5),
            },
            system_attrs={"noted": [1, 2]},
            intermediate_values={0: -math.inf, 7: 0.5},
        )
        study.add_trial(other)
    ledger_trials = list(ledger._trials.read_trials(fresh=True))
    expected = optuna.load_study(study_name=ledger.name, storage=url).get_trials()
    counters = [trial.user_attrs.pop("lease", {}).get("counter") for trial in expected]
    assert counters == [1, 1, 1, 1, None, None, None]
    for trial in ledger_trials:
        trial.user_attrs.pop("lease", None)
    assert ledger_trials == expected
    words = [row.stage for row in ledger.trials()]
    assert words == ["complete", "pruned", "failed", "running", "waiting", "complete", "pruned"]


def database(folder: Path) -> Path:
    """An empty database in a folder, copied since making one takes half a second."""
    path = folder / "optuna.db"
    path.write_bytes(_whole_database())
    return path


@cache
def _whole_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.db"
        open_storage(sqlite_uri(path)).close()
        return path.read_bytes()


def far_lease(counter: int = 0) -> Lease:
    """The lease of a process on another machine, which nobody here can look at."""
    return Lease(
        host="elsewhere", boot_id=secrets.token_hex(4), pid=1, started="1", counter=counter
    )


def dead_lease() -> Lease:
    """The lease of a process of this machine that has ended."""
    words = [sys.executable, "-c", "import os; print(os.getpid())"]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    lease = own_lease()
    return Lease(host=lease.host, boot_id=lease.boot_id, pid=int(output), started="1")


def take_all(place: Path, output: Path, settings: Settings) -> None:
    """Take and complete trials until none is left; add a line for each, its number and point.

    Args:
        place: Where the study is.
        output: File of the lines, empty at first.
        settings: What the study is; a grid is `GRID`.
    """
    grid = settings.get("sampler") == "grid"
    ledger = open_ledger(place, space=space_of(GRID) if grid else None, **settings)
    output.touch()
    while not ledger.progress().settled:
        trial = ledger.take(own_lease())
        if trial is None:
            time.sleep(0.01)
            continue
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps([trial.number, dict(trial.overrides)]) + "\n")
        assert ledger.finish(trial, COMPLETE)


def take_all_in_turn(together: Barrier, studies: dict[Path, Settings], which: int) -> None:
    """Begin at the missing file of each folder, with the others, and take all there is."""
    for folder, settings in studies.items():
        together.wait()
        take_all(folder / "optuna.db", folder / f"{which}.txt", settings)


def read_taken_trials(paths: Iterable[Path]) -> list[tuple[int, dict[str, str]]]:
    """Number and point of each trial that `take_all` has taken, by its files."""
    return [tuple(json.loads(line)) for path in paths for line in path.read_text().splitlines()]


def start(target: Callable[..., None], *arguments: object) -> SpawnProcess:
    """Start a process that shares nothing with this one."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    return process


def act_before(ledger: Ledger, words: str, act: Callable[[], Outcome]) -> list[Outcome]:
    """Act once, before the next statement of a ledger with these words; return what that gave."""
    outcomes: list[Outcome] = []

    def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if words in statement and not outcomes:
            outcomes.append(act())

    event.listen(ledger._store.engine, "before_cursor_execute", listen)
    return outcomes


def complete_all(ledger: Ledger) -> list[dict[str, str]]:
    """Take and complete trials until none is left; return their points in order."""
    points = []
    while (trial := ledger.take(own_lease())) is not None:
        ledger.finish(trial, COMPLETE)
        points.append(dict(trial.overrides))
    return points
