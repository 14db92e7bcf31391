"""Preflight: a run of one batch of everything in the config tree, before long runs are started.

Workers train each model on each data set, each experiment, and the extreme points of each study's
space with one batch; nothing is recorded.
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

from pipeline.config.options import SweepOptions
from pipeline.config.overrides import key_of
from pipeline.config.values import validated, written
from pipeline.devices import available
from pipeline.ends import End, TrialEnd
from pipeline.errors import RAISED, ConfigError
from pipeline.failures import BUG
from pipeline.markup import MISSING, TextTable, show
from pipeline.networks import MISFIT
from pipeline.processes.fork_server import ForkServer
from pipeline.redaction import redact_word
from pipeline.study.ledger.definition import read_objectives
from pipeline.study.messages import Gone, Job
from pipeline.study.outcome.summary import point_words
from pipeline.study.plan import checked_study
from pipeline.study.space.space import RangeDefinition, Space, read_definitions, read_ranges
from pipeline.study.space.trial_configs import TrialConfigs
from pipeline.study.workers.pool import Worker, WorkerPool
from pipeline.terminal import console, duration, redrawing, say

#: Verdicts from best to worst, as the tables show them.
SHOWN = {"ok": "ok", "skipped": "skip", "misfit": MISSING, "fails": "FAILS"}
NOTES = {
    "skipped": "skip: excluded by sweep.preflight_skip",
    "misfit": f"{MISSING} does not apply: the model reads other data, lacks a key or is varied",
}
#: Title of each table by the heading of its first column.
TITLES = {"data": "models × data", "experiment": "experiments", "sweeps": "sweeps × models"}
#: Column of rows that choose their model themselves: experiments, and studies of several models.
OWN = "its own"
#: Groups of which a preflight tries every choice.
GROUPS = ("model", "data", "experiment")
#: Number of failing places that an error line names; the rest are only counted.
NAMED = 3
#: Most workers on CPUs and on a GPU; a worker takes seconds to start, a run a fraction of one.
MOST_WORKERS, WORKERS_A_GPU = 8, 4
AHEAD = 2  # runs composed ahead for each worker
#: Time between two polls of the workers.
SECONDS = 0.25


class PreflightCell(NamedTuple):
    """A cell of a table: the override of its row, and that of its column or `OWN`."""

    row: str
    column: str

    @property
    def part(self) -> str:
        """The key of its table in `TITLES`."""
        return self.row.partition("=")[0]

    @property
    def words(self) -> str:
        """The overrides of the cell, as on a command line."""
        words = [word for word in self if word != OWN]
        return " ".join(words[::-1] if self.part == "data" else words)


@dataclass(slots=True)
class Rehearsal:
    """A run of one batch and its verdict, a key of `SHOWN`: `ok` before it is tried.

    `point` has what a study varies, as Hydra's texts by key or group. If the run fails, `message`
    says why in one line, and `hint`, which is appended to it, how to see more.
    """

    cell: PreflightCell
    point: Mapping[str, str]
    verdict: str = "ok"
    message: str = ""
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
    trying = Preflight(words, config_dir)
    with (
        TemporaryDirectory(prefix="preflight-") as folder,
        WorkerPool(server=server, grace=trying.grace) as pool,
    ):
        trying.work(pool, Path(folder))
    if trying.verbose != 0:
        for table in trying.tables():
            show(console(), table)
        count_line = f"{len(trying.verdicts)} tried in {duration(time.monotonic() - started_at)}"
        say(console(), f"{count_line}, {trying.failing} would fail")
    sys.stdout.flush()
    if trying.failing:
        raise ConfigError(*trying.lines())


class Preflight:
    """All runs that the config tree has and a command line leaves open, and their verdicts.

    Raises ConfigError if the tree can't be composed, or has wrong options or ranges.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        study = TrialConfigs(words, config_dir)
        tree = study.tree()
        ranges = _ranges({key: tree.sweep.space[key] for key in study.varied_on_command_line()})
        left_out = ("sweeps", "sweep.space", "sweep.preflight", "sweep.preflight_skip", *ranges)
        self._words = [word for word in words if key_of(word) not in left_out]
        self._config_dir = config_dir
        self._trials = TrialConfigs(self._words, config_dir)
        self.verbose = self._trials.config().get("verbose")
        self._options = validated(SweepOptions, tree.sweep, prefix="sweep.")
        self.grace = self._options.grace
        here = available()
        room = min(here.cores, WORKERS_A_GPU if here.gpus or here.mps else MOST_WORKERS)
        self._workers = self._options.workers or room
        self._fixed = set(GROUPS) & {key_of(word) for word in self._words}
        if "experiment" in self._fixed:
            self._fixed |= {"model", "data"}
        self._limited = self._fixed | set(ranges)
        self._choices = {group: ranges.get(group) or self._open(group) for group in GROUPS}
        files = [file for file in study.sweep_files() if file != "preflight"]
        self._files = files or self._trials.source.choices("sweeps")
        #: All runs in the order of the tables; the index of each is the number of its job.
        self._rehearsals: list[Rehearsal] = []
        #: The runs that have ended, in the order of their ends.
        self._tried: list[Rehearsal] = []
        self._waiting: list[Job] = []

    def _open(self, group: str) -> list[str]:
        """Return the choices of a group that need no value from the user, such as a path."""
        if group in self._fixed:
            return [str(self._trials.choices[group])]
        choices, lacking = self._trials.source.choices(group), set[str]()
        for choice in choices if group != "model" else ():
            with suppress(ConfigError):  # its rehearsal reports it
                if OmegaConf.missing_keys(self._trials.config({group: choice})):
                    lacking.add(choice)
        return [choice for choice in choices if choice not in lacking]

    def work(self, pool: WorkerPool, folder: Path) -> None:
        """Try everything on the workers of `pool`, each run in its own folder below `folder`."""
        self._folder = folder
        coming, more = chain(self._runs(), self._sweeps()), True
        shows = self.verbose in (None, 1)
        with redrawing(lambda: self._progress(pool)) if shows else nullcontext():
            while more or self._waiting or pool.busy():
                pool.start(self._workers)
                if more and len(self._waiting) < AHEAD * self._workers:
                    more = next(coming, None) is not None
                for worker in pool.idle()[: len(self._waiting)]:
                    worker.train(self._waiting.pop(0))
                composes = more and len(self._waiting) < AHEAD * self._workers
                for worker, answer in pool.listen(0.0 if composes else SECONDS):
                    if isinstance(answer, Gone):
                        pool.dismiss(worker, answer)
                    if isinstance(answer, Gone | TrialEnd) and worker.is_busy:
                        self._judge(worker, answer)
                for worker in pool.busy():
                    worker.end_if_slower_than(self._options.trial_timeout)

    def _progress(self, pool: WorkerPool) -> Text:
        words = f"preflight  {len(self._tried)} tried, {self.failing} would fail"
        now = ", ".join(self._rehearsals[worker.number].cell.words for worker in pool.busy())
        return Text(f"{words}   now {now}" if now else words, overflow="ellipsis", no_wrap=True)

    # ── what is tried ───────────────────────────────────────────────────────────────────────

    def _runs(self) -> Iterator[Rehearsal]:
        """Queue a run of each model on each data set, and of each experiment as it is."""
        skipped = [set(pair.split()) for pair in self._options.preflight_skip]
        for data, model in product(self._choices["data"], self._choices["model"]):
            cell = PreflightCell(f"data={data}", f"model={model}")
            if {*cell} in skipped:
                yield self._told(cell, "skipped")
                continue
            chosen = {"model": model, "data": data}.items()
            groups = {group: choice for group, choice in chosen if group not in self._fixed}
            yield self._queued(cell, self._trials, groups)
        # No experiments if the command line limits the models or the data.
        for name in self._choices["experiment"] if not self._limited - {"experiment"} else ():
            cell = PreflightCell(f"experiment={name}", OWN)
            yield self._queued(cell, self._trials, {"experiment": name})

    def _sweeps(self) -> Iterator[Rehearsal]:
        """Queue the extreme points of each file of `sweeps/` with each model that fits them."""
        for file in self._files:
            chosen: set[str] = set()  # groups that the file varies or chooses
            with suppress(ConfigError):  # each cell reports it
                tree = self._trials.tree(f"sweeps={file}")
                if tree.sweep.get("preflight") is True:
                    continue
                definitions, _ = read_definitions(tree.sweep.get("space"), tree.sweep.get("when"))
                chosen = {one.key for one in definitions} & set(GROUPS)
                before, after = self._trials.choices, tree.hydra.runtime.choices
                chosen |= {one for one in GROUPS if before.get(one) != after.get(one)}
            yield from self._of_file(file, chosen)

    def _of_file(self, file: str, chosen: set[str]) -> Iterator[Rehearsal]:
        own = bool(chosen & {"model", "experiment"})
        read: dict[PreflightCell, tuple[TrialConfigs, Space] | ConfigError] = {}
        for column in [OWN] if own else [f"model={one}" for one in self._choices["model"]]:
            cell = PreflightCell(f"sweeps={file}", column)
            if chosen & self._limited:
                yield self._told(cell, "misfit")
                continue
            group = [] if own or "model" in self._fixed else [column]
            try:
                given = [*self._words, *group, f"sweeps={file}"]
                trials = TrialConfigs(given, self._config_dir)
                read[cell] = trials, trials.read_space()
            except ConfigError as error:
                read[cell] = error
        suits_one = any(isinstance(found, tuple) for found in read.values())
        for cell, found in read.items():
            if isinstance(found, ConfigError):
                yield self._told(cell, "misfit" if suits_one else "fails", found)
            else:
                yield from self._of_study(cell, *found)

    def _of_study(
        self, cell: PreflightCell, trials: TrialConfigs, space: Space
    ) -> Iterator[Rehearsal]:
        """Queue the extreme points of a space, unless something is wrong with its study."""
        try:
            options, run = checked_study(trials.tree(), space, trials)
            read_objectives(options.objective, run.monitor or "train/loss", metrics=run.metrics)
        except ConfigError as error:
            yield self._told(cell, "fails", error)
            return
        names = [options.objective] if isinstance(options.objective, str) else options.objective
        for point in space.extreme_points():
            yield self._queued(cell, trials, point, names or ())

    def _queued(
        self,
        cell: PreflightCell,
        trials: TrialConfigs,
        overrides: Mapping[str, str],
        objectives: Sequence[str] = (),
    ) -> Rehearsal:
        """Queue a run of one batch that is not recorded, or record why it can't be composed."""
        point = overrides if cell.part == "sweeps" else {}
        try:
            config = written(trials.config(overrides))
        except ConfigError as error:
            return self._told(cell, "fails", error, point)
        config |= {"name": "preflight", "test": False}
        for section, changed in (("trainer", {"fast_dev_run": 1}), ("tracking", {"kind": "none"})):
            if isinstance(config.get(section), dict):
                config[section] |= changed
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

    def _told(
        self,
        cell: PreflightCell,
        verdict: str,
        error: ConfigError | None = None,
        point: Mapping[str, str] | None = None,
    ) -> Rehearsal:
        """Record the verdict of a cell, or of a point in it, without a run."""
        one = Rehearsal(cell, point or {})
        self._rehearsals.append(one)
        self._note(one, verdict, " ".join(" ".join(error.problems if error else ()).split()))
        return one

    def _judge(self, worker: Worker, end: TrialEnd | Gone) -> None:
        """Record the verdict of a run that has ended."""
        one, overdue, worker.is_busy = self._rehearsals[worker.number], worker.is_overdue, False
        rmtree(worker.job.folder)
        if isinstance(end, Gone):
            died = f"its process died ({end.message})"
            end, overdue = TrialEnd(end=End.ERROR, message=died), False
        message = end.message or f"it ended as {end.end}"
        diverged = end.end is End.DIVERGED and not overdue
        if not end.end.is_failure or (diverged and one.cell.part == "sweeps"):
            self._note(one, "ok")
        elif MISFIT in message and one.cell.column != OWN:
            self._note(one, "misfit")  # only the preflight combines the two
        else:
            slow = f"it took longer than sweep.trial_timeout={self._options.trial_timeout}"
            is_raised = end.code == BUG or RAISED in message
            one.hint = self._hint(one) if is_raised else ""
            self._note(one, "fails", slow if overdue else message)

    def _note(self, one: Rehearsal, verdict: str, message: str = "") -> None:
        one.verdict, one.message = verdict, message
        self._tried.append(one)
        if self.verbose == 2:
            say(console(), f"{SHOWN[verdict]:7}{one.cell.words}")

    def _hint(self, tried: Rehearsal) -> str:
        """Return a hint with the command that repeats one run and shows its traceback."""
        folder = [] if self._config_dir is None else ["--config-dir", self._config_dir]
        of_cell = [word for word in tried.cell.words.split() if not word.startswith("sweeps=")]
        of_run = [w for w in self._words if not w.startswith("sweep.") and w not in of_cell]
        point = [f"{key}={text}" for key, text in tried.point.items()]
        words = [*folder, *of_run, *of_cell, *point, "debug=default", "traceback=true"]
        command = shlex.join(map(redact_word, words))
        return f"; for the traceback: pipeline train {command}"

    @property
    def verdicts(self) -> dict[PreflightCell, str]:
        """The worst verdict in each cell; `ok` if none is known yet."""
        found: dict[PreflightCell, str] = {}
        for one in self._rehearsals:
            found[one.cell] = max(found.get(one.cell, "ok"), one.verdict, key=[*SHOWN].index)
        return found

    @property
    def failing(self) -> int:
        """Number of cells that would fail."""
        return list(self.verdicts.values()).count("fails")

    def tables(self) -> Iterator[TextTable]:
        """Yield a table for each part that has cells."""
        for part, title in TITLES.items():
            cells = {cell: verdict for cell, verdict in self.verdicts.items() if cell.part == part}
            columns = sorted({cell.column: None for cell in cells}, key=lambda one: one == OWN)
            names = [column.removeprefix("model=") for column in columns]
            lines = []
            for row in dict.fromkeys(cell.row for cell in cells):
                found = (cells.get(PreflightCell(row, column)) for column in columns)
                lines.append([row.partition("=")[2], *(SHOWN[one] if one else "" for one in found)])
            words = frozenset(range(len(columns) + 1))
            notes = [note for verdict, note in NOTES.items() if verdict in cells.values()]
            if cells:
                yield TextTable(
                    title=title, headings=[part, *names], lines=lines, words=words, notes=notes
                )

    def lines(self) -> list[str]:
        """Return a line for each reason for a failure: what fails, and why."""
        reasons: dict[str, list[Rehearsal]] = {}
        for one in self._tried:
            if one.verdict == "fails":
                reasons.setdefault(one.message, []).append(one)
        return [
            f"{self._places(failures)}: {message}{failures[0].hint}"
            for message, failures in reasons.items()
        ]

    def _places(self, failures: Sequence[Rehearsal]) -> str:
        """Return the names of what fails for one reason: whole rows and columns, else cells."""
        lines: dict[tuple[str, str], list[PreflightCell]] = {}  # rows, then columns of a model
        for place, cell in product((0, 1), self.verdicts):
            if cell.column != OWN:
                lines.setdefault((cell.part, cell[place]), []).append(cell)
        left = list(dict.fromkeys(one.cell for one in failures))
        named: list[str] = []
        for (_, word), line in lines.items():
            if len(line) > 1 and all(cell in left for cell in line):
                named.append(word)
                left = [cell for cell in left if cell not in line]
        counts, failed = (Counter(one.cell for one in of) for of in (self._rehearsals, failures))
        points = {one.cell: one.point for one in reversed(failures)}
        for cell in left:
            is_point = points[cell] and failed[cell] < counts[cell]
            where = f" where {point_words(points[cell])}" if is_point else ""
            named.append(f"{cell.words}{where}")
        named = list(dict.fromkeys(named))
        more = len(named) - NAMED
        return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _ranges(given: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the choices of each group with a range in `given`, the command line's ranges.

    Raises ConfigError if another key has a range, or a range can't be read.
    """
    definitions = [RangeDefinition(key=key, text=text) for key, text in given.items()]
    ranges, problems = read_ranges(definitions)
    problems += [
        f"{key}={text}: a preflight tries the ranges in sweeps/; put this one into a file there, "
        "or remove it."
        for key, text in given.items()
        if key not in GROUPS
    ]
    if problems:
        raise ConfigError(*problems)
    return {one.key: list(one.choices) for one in ranges}
