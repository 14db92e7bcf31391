"""One batch of everything that the config holds, before any real time is spent."""

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.errors import ConfigError
from pipeline.failures import BUG
from pipeline.markup import show
from pipeline.networks.inputs import MISFIT
from pipeline.study.ledger.ledger import Taken
from pipeline.study.preflight.rehearsals import Found, Rehearsal, Step, of_experiments, of_pairs
from pipeline.study.preflight.report import Report, command_words
from pipeline.study.preflight.scope import Scope, scope_of
from pipeline.study.preflight.study_rehearsals import of_sweeps
from pipeline.study.preflight.watch import Watch
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.messages import Gone, Job
from pipeline.study.workers.worker_pool import Assignment, Worker, WorkerPool
from pipeline.terminal import console, duration, say

MOST_WORKERS = 8
"""Each takes seconds to start, and a run takes a fraction of one."""
WORKERS_A_GPU = 4
AHEAD = 2
"""Runs composed ahead for each worker."""
LISTEN_SECONDS = 0.25


def preflight(words: Sequence[str], config_dir: str | None) -> None:
    """Try what a command line leaves open, and print what would fail; nothing stays on the disk.

    Args:
        words: The overrides of the command line.
        config_dir: Folder of the user's own YAML.

    Raises:
        ConfigError: Something would fail, a line for each reason; or the line itself is wrong.
        EnvironmentFaultError: Workers die before they are ready.
    """
    started_at = time.monotonic()
    scope, report = scope_of(words, config_dir), Report()
    verbose = scope.trees.base().get("verbose")
    with (
        TemporaryDirectory(prefix="preflight-") as folder,
        WorkerPool() as pool,
        Watch(report, verbose) as watch,
    ):
        Preflight(scope, report, pool, Path(folder), watch).run()
    if verbose != 0:
        for sheet in report.sheets():
            show(console(), sheet)
        seconds = duration(time.monotonic() - started_at)
        say(console(), f"{report.size} tried in {seconds}, {len(report.failing)} would fail")
    sys.stdout.flush()
    if report.failing:
        raise ConfigError(*report.lines())


class Preflight:
    """Keeps workers busy with runs of one batch.

    Args:
        scope: What is tried.
        report: Takes what came of it.
        pool: The workers.
        folder: Takes what a run leaves, until it has ended.
        watch: Shows how far it is.
    """

    def __init__(
        self, scope: Scope, report: Report, pool: WorkerPool, folder: Path, watch: Watch
    ) -> None:
        self._scope = scope
        self._report = report
        self._pool = pool
        self._folder = folder
        self._watch = watch
        self._wanted = scope.options.workers or _room()
        self._numbers = count()
        self._composed: list[Rehearsal] = []
        self._tried: dict[Path, Rehearsal] = {}

    def run(self) -> None:
        """Try everything."""
        self._pool.start(self._wanted)
        steps: Iterator[Step] = chain(
            of_pairs(self._scope), of_experiments(self._scope), of_sweeps(self._scope)
        )
        more = True
        while more or self._composed or self._pool.busy():
            if more and len(self._composed) < AHEAD * self._wanted:
                more = self._take(next(steps, None))
            for worker in self._pool.idle()[: len(self._composed)]:
                self._give(worker, self._composed.pop(0))
            self._hear(0.0 if more else LISTEN_SECONDS)
            self._watch.show([rehearsal.cell.words for rehearsal in self._tried.values()])

    def _take(self, step: Step | None) -> bool:
        """Queue what is to be tried, note what is known without, and tell whether there is more."""
        if step is None:
            return False
        self._report.expect(step.cell)
        if isinstance(step, Rehearsal):
            self._composed.append(step)
        else:
            self._note(step)
        return True

    def _give(self, worker: Worker, rehearsal: Rehearsal) -> None:
        number = next(self._numbers)
        folder = self._folder / str(number)
        folder.mkdir()
        self._tried[folder] = rehearsal
        taken = Taken(number=number, overrides=rehearsal.point, params={})
        job = _job(rehearsal, number, folder)
        worker.give(Assignment(taken=taken, job=job))

    def _hear(self, seconds: float) -> None:
        for worker, message in self._pool.listen(seconds):
            if isinstance(message, TrialEnd):
                assignment = worker.finish()
                self._end(assignment.folder, self._judged(assignment, message))
            elif isinstance(message, Gone):
                self._bury(worker, message)
        limit = self._scope.options.trial_timeout
        for worker in self._pool.busy() if limit is not None else ():
            worker.end_if_slower_than(limit or 0.0)

    def _bury(self, worker: Worker, gone: Gone) -> None:
        self._pool.dismiss(worker)
        if worker.assignment is None:
            self._pool.count_failed_start(gone)
        else:
            folder = worker.finish().folder
            self._end(folder, self._failed(folder, f"its process died ({gone.message})", BUG))
        self._pool.start(self._wanted)

    def _judged(self, assignment: Assignment, ended: TrialEnd) -> Found:
        cell = self._tried[assignment.folder].cell
        message = ended.message or f"it ended as {ended.reason}"
        if ended.state != "failed" or (ended.reason == "diverged" and cell.part == "sweeps"):
            return Found(cell=cell, verdict="ok")
        if MISFIT in message and cell.may_misfit:
            return Found(cell=cell, verdict="misfit")
        if assignment.overdue:
            limit = self._scope.options.trial_timeout
            message = f"it took longer than sweep.trial_timeout={limit}"
        return self._failed(assignment.folder, message, ended.exit_code)

    def _failed(self, folder: Path, message: str, exit_code: int) -> Found:
        tried = self._tried[folder]
        found = Found(cell=tried.cell, verdict="fails", message=message, point=tried.point)
        if exit_code != BUG:  # the line says how to mend it
            return found
        command = command_words(self._scope.words, found, self._scope.config_dir)
        return replace(found, hint=f"; see where it comes from: {command}")

    def _end(self, folder: Path, found: Found) -> None:
        del self._tried[folder]
        shutil.rmtree(folder)
        self._note(found)

    def _note(self, found: Found) -> None:
        self._report.note(found)
        self._watch.told(found)


def _room() -> int:
    """Return how many workers this machine has room for."""
    from pipeline.devices import available

    present = available()
    return min(present.cores, WORKERS_A_GPU if present.gpus or present.mps else MOST_WORKERS)


def _job(rehearsal: Rehearsal, number: int, folder: Path) -> Job:
    """Return a batch of a run, as a worker is told of it; nothing of it goes on record."""
    return Job(
        number=number,
        folder=str(folder),
        name="preflight",
        config=_shortened(rehearsal.config),
        trust=[str(package) for package in rehearsal.config.get("trust") or ()],
        parent_folder=str(folder),
        key=f"preflight-{number}",
        tags={},
        objectives=list(rehearsal.objectives),
        keep=False,
    )


def _shortened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run of one batch of each part, recorded nowhere."""
    shortened = {**config, "name": "preflight", "test": False}
    for section, changed in (("trainer", {"fast_dev_run": 1}), ("tracking", {"kind": "none"})):
        if isinstance(config.get(section), dict):
            shortened[section] = {**config[section], **changed}
    return shortened
