"""Preflight: a run of one batch of everything in the config tree, before long runs are started.

Workers train each model on each data set, each experiment, and the extreme points of each study's
space with one batch; nothing is recorded. What would fail is one list, with a line per reason.
"""

import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import NamedTuple

from omegaconf import OmegaConf
from rich.text import Text

from pipeline.base.ends import End, TrialEnd
from pipeline.base.errors import RAISED, ConfigError
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.redaction import redact_word
from pipeline.base.terminal import console, duration, redrawing, say
from pipeline.config.options import SweepOptions
from pipeline.config.overrides import key_of
from pipeline.config.values import validated, written
from pipeline.networks import MISFIT
from pipeline.running.devices import available
from pipeline.running.failures import BUG
from pipeline.study.ledger.definition import read_objectives
from pipeline.study.messages import Job, WorkerDied
from pipeline.study.outcome.summary import point_words
from pipeline.study.space.space import Space, read_ranges
from pipeline.study.space.trial_configs import TrialConfigs
from pipeline.study.study_check import checked_study
from pipeline.study.workers.pool import Worker, WorkerPool

#: Column of rows that choose their model themselves: experiments, and studies of several models.
OWN = "its own"
#: Groups of which a preflight tries every choice.
GROUPS = ("model", "data", "experiment")
#: Number of failing places that an error line names; the rest are only counted.
NAMED = 3
#: Most workers on CPUs and on a GPU; a worker takes seconds to start, a run a fraction of one.
MOST_WORKERS = 8
WORKERS_A_GPU = 4
AHEAD = 2  # runs composed ahead for each worker
#: Time between two polls of the workers.
SECONDS = 0.25


class PreflightCell(NamedTuple):
    """A data set, an experiment or a study to try, and a model or `OWN`, as overrides."""

    row: str
    column: str

    @property
    def is_study(self) -> bool:
        """Whether the row is a study."""
        return self.row.startswith("sweeps=")

    @property
    def words(self) -> str:
        """The overrides of the cell, as on a command line."""
        if self.column == OWN:
            return self.row
        if self.row.startswith("data="):
            return f"{self.column} {self.row}"
        return f"{self.row} {self.column}"


@dataclass(slots=True)
class Rehearsal:
    """A run of one batch.

    `point` has what a study varies, as Hydra's texts by key or group. `message` says in one line
    why the run fails ('' = it does not, `None` = it has not ended), and `hint` how to see more.
    """

    cell: PreflightCell
    point: Mapping[str, str]
    message: str | None = None
    hint: str = ""


def preflight(words: Sequence[str], config_dir: str | None, server: ForkServer | None) -> None:
    """Try all that a command line leaves open, and print what would fail; no files are kept.

    `words` are the overrides of the command line, `config_dir` the folder of the user's YAML,
    `server` what forks the workers, as for `WorkerPool`.

    Raises:
        ConfigError: Something would fail (one line per reason), or the command line is wrong.
        EnvironmentFaultError: Workers die before they are ready.
    """
    started_at = time.monotonic()
    rehearsals = Preflight(words, config_dir)
    with (
        TemporaryDirectory(prefix="preflight-") as folder,
        WorkerPool(server=server, grace=rehearsals.grace) as pool,
    ):
        rehearsals.work(pool, Path(folder))
    if rehearsals.verbose != 0:
        say(console(), rehearsals.counts(f" in {duration(time.monotonic() - started_at)}"))
    sys.stdout.flush()
    if lines := rehearsals.lines():
        raise ConfigError(*lines)


class Preflight:
    """All runs that the config tree has and a command line leaves open, and their verdicts.

    Raises ConfigError if the tree can't be composed, or has wrong options or ranges.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        study = TrialConfigs(words, config_dir)
        tree = study.tree()
        ranges = _ranges({key: tree.sweep.space[key] for key in study.varied_on_command_line()})
        excluded = ("sweeps", "sweep.space", "sweep.preflight", "sweep.preflight_skip", *ranges)
        self._words = [word for word in words if key_of(word) not in excluded]
        self._config_dir = config_dir
        self._trials = TrialConfigs(self._words, config_dir)
        self.verbose = self._trials.config().get("verbose")
        self._options = validated(SweepOptions, tree.sweep, prefix="sweep.")
        self.grace = self._options.grace
        devices = available()
        most_workers = WORKERS_A_GPU if devices.gpus or devices.mps else MOST_WORKERS
        self._workers = self._options.workers or min(devices.cores, most_workers)
        self._fixed = set(GROUPS) & {key_of(word) for word in self._words}
        if "experiment" in self._fixed:
            self._fixed |= {"model", "data"}
        self._limited = self._fixed | set(ranges)
        self._choices = {group: ranges.get(group) or self._open(group) for group in GROUPS}
        files = [file for file in study.sweep_files() if file != "preflight"]
        self._files = files or self._trials.source.choices("sweeps")
        #: All runs in the order in which they are tried; the index is the number of the job.
        self._rehearsals: list[Rehearsal] = []
        self._waiting: list[Job] = []

    def _open(self, group: str) -> list[str]:
        """Return the choices of a group that need no value from the user, such as a path."""
        if group in self._fixed:
            return [str(self._trials.choices[group])]
        choices = self._trials.source.choices(group)
        if group == "model":
            return choices
        return [choice for choice in choices if not self._lacks_values(group, choice)]

    def _lacks_values(self, group: str, choice: str) -> bool:
        try:
            config = self._trials.config({group: choice})
        except ConfigError:
            return False  # its rehearsal reports it
        return bool(OmegaConf.missing_keys(config))

    def work(self, pool: WorkerPool, folder: Path) -> None:
        """Try everything on the workers of `pool`, each run in its own folder below `folder`."""
        self._folder = folder
        rehearsals = chain(self._runs(), self._sweeps())
        all_queued = False
        shows = self.verbose in (None, 1)
        with redrawing(lambda: self._progress(pool)) if shows else nullcontext():
            while not all_queued or self._waiting or pool.busy():
                pool.start(self._workers)
                if not all_queued and self._has_room_in_queue():
                    all_queued = next(rehearsals, None) is None
                for worker in pool.idle()[: len(self._waiting)]:
                    worker.train(self._waiting.pop(0))
                composes_next = not all_queued and self._has_room_in_queue()
                self._listen(pool, 0.0 if composes_next else SECONDS)

    def _has_room_in_queue(self) -> bool:
        return len(self._waiting) < AHEAD * self._workers

    def _listen(self, pool: WorkerPool, seconds: float) -> None:
        for worker, answer in pool.listen(seconds):
            if isinstance(answer, WorkerDied):
                pool.dismiss(worker, answer)
            if isinstance(answer, WorkerDied | TrialEnd) and worker.is_busy:
                self._judge(worker, answer)
        for worker in pool.busy():
            worker.end_if_slower_than(self._options.trial_timeout)

    def _progress(self, pool: WorkerPool) -> Text:
        line = f"preflight  {self.counts()}"
        running = [self._rehearsals[worker.number].cell.words for worker in pool.busy()]
        if running:
            line += f"   now {', '.join(running)}"
        return Text(line, overflow="ellipsis", no_wrap=True)

    # ── what is tried ───────────────────────────────────────────────────────────────────────

    def _runs(self) -> Iterator[Rehearsal]:
        """Queue a run of each model on each data set, and of each experiment as it is."""
        skipped = [set(pair.split()) for pair in self._options.preflight_skip]
        for data, model in product(self._choices["data"], self._choices["model"]):
            cell = PreflightCell(f"data={data}", f"model={model}")
            if set(cell) in skipped:
                continue
            groups = {"model": model, "data": data}
            for group in self._fixed:
                groups.pop(group, None)
            yield self._queue(cell, self._trials, groups)
        if self._limited - {"experiment"}:
            return  # no experiments if the command line limits the models or the data
        for name in self._choices["experiment"]:
            cell = PreflightCell(f"experiment={name}", OWN)
            yield self._queue(cell, self._trials, {"experiment": name})

    def _sweeps(self) -> Iterator[Rehearsal]:
        """Queue the extreme points of each file of `sweeps/` with each model that fits them."""
        for file in self._files:
            chosen: set[str] = set()  # groups that the file varies or chooses
            with suppress(ConfigError):  # each cell reports it
                tree = self._trials.tree(f"sweeps={file}")
                if tree.sweep.get("preflight") is True:
                    continue
                ranges, _ = read_ranges(tree.sweep.get("space"), tree.sweep.get("when"))
                chosen = {parameter.key for parameter in ranges} & set(GROUPS)
                choices = tree.hydra.runtime.choices
                for group in GROUPS:
                    if choices.get(group) != self._trials.choices.get(group):
                        chosen.add(group)
            if not chosen & self._limited:
                yield from self._of_file(file, is_own=bool(chosen & {"model", "experiment"}))

    def _of_file(self, file: str, *, is_own: bool) -> Iterator[Rehearsal]:
        """Queue a study with each model that suits it, or with its own."""
        errors: dict[PreflightCell, ConfigError] = {}
        columns = [OWN] if is_own else [f"model={model}" for model in self._choices["model"]]
        for column in columns:
            cell = PreflightCell(f"sweeps={file}", column)
            group = [] if is_own or "model" in self._fixed else [column]
            try:
                words = [*self._words, *group, f"sweeps={file}"]
                trials = TrialConfigs(words, self._config_dir)
                space = trials.read_space()
            except ConfigError as error:
                errors[cell] = error
            else:
                yield from self._of_study(cell, trials, space)
        if len(errors) == len(columns):
            for cell, problem in errors.items():
                yield self._add_failure(cell, problem)

    def _of_study(
        self, cell: PreflightCell, trials: TrialConfigs, space: Space
    ) -> Iterator[Rehearsal]:
        """Queue the extreme points of a space, unless something is wrong with its study."""
        try:
            options, run = checked_study(trials.tree(), space, trials)
            read_objectives(options.objective, run.monitor or "train/loss", metrics=run.metrics)
        except ConfigError as error:
            yield self._add_failure(cell, error)
            return
        names = [options.objective] if isinstance(options.objective, str) else options.objective
        for point in space.extreme_points():
            yield self._queue(cell, trials, point, names or ())

    def _queue(
        self,
        cell: PreflightCell,
        trials: TrialConfigs,
        overrides: Mapping[str, str],
        objectives: Sequence[str] = (),
    ) -> Rehearsal:
        """Queue a run of one batch that is not recorded, or record why it can't be composed."""
        point = overrides if cell.is_study else {}
        try:
            config = written(trials.config(overrides))
        except ConfigError as error:
            return self._add_failure(cell, error, point)
        config |= {"name": "preflight", "test": False}
        if isinstance(config.get("trainer"), dict):
            config["trainer"]["fast_dev_run"] = 1
        if isinstance(config.get("tracking"), dict):
            config["tracking"]["kind"] = "none"
        number = len(self._rehearsals)
        folder = self._folder / str(number)
        folder.mkdir()
        job = Job(
            number=number,
            folder=str(folder),
            name="preflight",
            config=config,
            trust=self._trials.trust,
            objectives=list(objectives),
            keep=False,
        )
        self._waiting.append(job)
        self._rehearsals.append(Rehearsal(cell, point))
        return self._rehearsals[-1]

    # ── what came of it ─────────────────────────────────────────────────────────────────────

    def _add_failure(
        self, cell: PreflightCell, error: ConfigError, point: Mapping[str, str] | None = None
    ) -> Rehearsal:
        """Record that a cell, or a point in it, can't be composed."""
        rehearsal = Rehearsal(cell, point or {})
        self._rehearsals.append(rehearsal)
        message = " ".join(error.problems)
        self._set_message(rehearsal, " ".join(message.split()))
        return rehearsal

    def _judge(self, worker: Worker, ended: TrialEnd | WorkerDied) -> None:
        """Record how a run has ended."""
        rehearsal = self._rehearsals[worker.number]
        worker.is_busy = False
        rmtree(worker.job.folder)
        if isinstance(ended, WorkerDied):
            died = f"its process died ({ended.message})"
            ended = TrialEnd(end=End.ERROR, message=died)
        elif worker.is_overdue and ended.end.is_failure:
            slow = f"it took longer than sweep.trial_timeout={self._options.trial_timeout}"
            ended = TrialEnd(end=End.ERROR, message=slow, exit_code=ended.code)
        message = ended.message or f"it ended as {ended.end}"
        is_misfit = MISFIT in message and rehearsal.cell.column != OWN  # combined by the preflight
        diverged = ended.end is End.DIVERGED and rehearsal.cell.is_study
        if not ended.end.is_failure or is_misfit or diverged:
            message = ""
        elif ended.code == BUG or RAISED in message:
            rehearsal.hint = self._hint(rehearsal)
        self._set_message(rehearsal, message)

    def _set_message(self, rehearsal: Rehearsal, message: str) -> None:
        rehearsal.message = message
        if self.verbose == 2:
            verdict = "FAILS" if message else "ok"
            say(console(), f"{verdict:7}{rehearsal.cell.words}")

    def _hint(self, rehearsal: Rehearsal) -> str:
        """Return a hint with the command that repeats one run and shows its traceback."""
        words = [] if self._config_dir is None else ["--config-dir", self._config_dir]
        cell_words = [
            word for word in rehearsal.cell.words.split() if not word.startswith("sweeps=")
        ]
        for word in self._words:
            if not word.startswith("sweep.") and word not in cell_words:
                words.append(word)
        words += cell_words
        words += [f"{key}={text}" for key, text in rehearsal.point.items()]
        words += ["debug=default", "traceback=true"]
        command = shlex.join(map(redact_word, words))
        return f"; for the traceback: pipeline train {command}"

    def counts(self, took: str = "") -> str:
        """Return the number of cells that were tried, and of those that would fail."""
        tried = set()
        failing = set()
        for rehearsal in self._rehearsals:
            if rehearsal.message is not None:
                tried.add(rehearsal.cell)
            if rehearsal.message:
                failing.add(rehearsal.cell)
        return f"{len(tried)} tried{took}, {len(failing)} would fail"

    def lines(self) -> list[str]:
        """Return a line for each reason for a failure: what fails, and why."""
        reasons: dict[str, list[Rehearsal]] = {}
        for rehearsal in self._rehearsals:
            if rehearsal.message:
                reasons.setdefault(rehearsal.message, []).append(rehearsal)
        lines = []
        for message, failures in reasons.items():
            lines.append(f"{self._places(failures)}: {message}{failures[0].hint}")
        return lines

    def _places(self, failures: Sequence[Rehearsal]) -> str:
        """Return the names of what fails for one reason: whole rows and columns, else cells."""
        failing: dict[PreflightCell, list[Rehearsal]] = {}
        for rehearsal in failures:
            failing.setdefault(rehearsal.cell, []).append(rehearsal)
        counts = Counter(rehearsal.cell for rehearsal in self._rehearsals)
        places: list[str] = []
        for word in dict.fromkeys(chain(*failing)):
            cells = {cell for cell in counts if word in cell}  # a whole row or column
            if word != OWN and len(cells) > 1 and cells <= failing.keys():
                places.append(word)
                for cell in cells:
                    del failing[cell]
        for cell, cell_failures in failing.items():
            place = cell.words
            point = cell_failures[0].point
            if point and len(cell_failures) < counts[cell]:
                place += f" where {point_words(point)}"
            places.append(place)
        text = ", ".join(places[:NAMED])
        if len(places) > NAMED:
            text += f" and {len(places) - NAMED} more"
        return text


def _ranges(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the choices of each group with a range in `texts`, the command line's ranges.

    Raises ConfigError if another key has a range, or a range can't be read.
    """
    ranges, _ = read_ranges(texts, None)
    problems: list[str] = []
    for parameter in ranges:
        problems += parameter.problems
    for key, text in texts.items():
        if key not in GROUPS:
            problems.append(
                f"{key}={text}: a preflight tries the ranges in sweeps/; put this one into a file "
                "there, or remove it."
            )
    if problems:
        raise ConfigError(*problems)
    return {parameter.key: list(parameter.choices) for parameter in ranges}
