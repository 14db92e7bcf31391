"""One batch of everything that the config tree holds, before any real time is spent.

Each model on each data set, each experiment, and the extreme points of each study's space become
jobs of one batch for the workers; nothing of them is recorded.
"""

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from omegaconf import OmegaConf
from rich.text import Text

from pipeline.config.check import check
from pipeline.config.compose import Composer
from pipeline.config.overrides import key_of
from pipeline.config.values import written
from pipeline.devices import available
from pipeline.errors import ConfigError
from pipeline.failures import BUG
from pipeline.markup import MISSING, TextTable, show
from pipeline.networks.inputs import MISFIT
from pipeline.redaction import redact_word
from pipeline.study.ledger.definition import judge_problems, read_objectives, read_options
from pipeline.study.ledger.ledger import Taken
from pipeline.study.live import Screen
from pipeline.study.outcome.trial_text import point_words
from pipeline.study.space.ranges import read_range
from pipeline.study.space.reading import StudyTree, read_definitions
from pipeline.study.space.space import Space
from pipeline.study.space.trial_configs import TrialConfigs, value_problems
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.messages import Gone, Job
from pipeline.study.workers.worker_pool import Assignment, WorkerPool
from pipeline.terminal import console, duration, say

Part = Literal["pairs", "experiments", "sweeps"]
Verdict = Literal["ok", "skipped", "misfit", "fails"]
SHOWN: Mapping[Verdict, str] = {"ok": "ok", "skipped": "skip", "misfit": MISSING, "fails": "FAILS"}
"""Verdicts from best to worst, as the tables show them."""
TITLES: Mapping[Part, tuple[str, str]] = {
    "pairs": ("models × data", "data"),
    "experiments": ("experiments", "experiment"),
    "sweeps": ("sweeps × models", "sweeps"),
}
"""Title of each table, and heading of its first column."""
NOTES: Mapping[Verdict, str] = {
    "skipped": "skip: sweep.preflight_skip says that they don't fit",
    "misfit": f"{MISSING} no failure: the model reads other data, lacks a varied key, or is varied",
}
OWN = "its own"
"""Column of what chooses its model itself: an experiment, a study of several."""
GROUPS = ("model", "data", "experiment")
"""Groups of which a preflight tries every choice."""
NAMED = 3
"""Cells that are named before the rest is counted."""
MOST_WORKERS = 8
"""Each takes seconds to start, and a run takes a fraction of one."""
WORKERS_A_GPU = 4
AHEAD = 2  # runs composed ahead for each worker
SECONDS = 0.25
"""Between two looks at the workers, and from one drawing of the progress to the next."""


@dataclass(frozen=True, slots=True)
class PreflightCell:
    """A place in one of the tables.

    Args:
        part: Which table.
        row: Its heading: a data set, an experiment or a file of `sweeps/`.
        column: Its heading: a model, or `OWN`.
        words: What a person types for it.
    """

    part: Part
    row: str
    column: str
    words: str


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """A run of one batch, and what came of it.

    Args:
        cell: What it belongs to.
        config: The run as plain values, references unresolved.
        point: What a study has varied, as Hydra's texts by key or group.
        objectives: Values that it has to come to.
        verdict: What came of it, `None` before it was tried; `misfit` is no failure.
        message: Why it fails, in one line.
        hint: How to see more, behind the message.
    """

    cell: PreflightCell
    config: Mapping[str, Any] = field(default_factory=dict)
    point: Mapping[str, str] = field(default_factory=dict)
    objectives: Sequence[str] = ()
    verdict: Verdict | None = None
    message: str = ""
    hint: str = ""


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
    scope, report = Scope(words, config_dir), Report()
    verbose = scope.trials.base().get("verbose")
    with (
        TemporaryDirectory(prefix="preflight-") as folder,
        WorkerPool() as pool,
        Screen(wanted=verbose in (None, 1), seconds=SECONDS) as screen,
    ):
        for tried in _rehearsed(scope, report, pool, Path(folder)):
            if tried is not None:
                report.tried.append(tried)
                if verbose == 2 and tried.verdict is not None:
                    say(console(), f"{SHOWN[tried.verdict]:7}{tried.cell.words}")
            screen.draw(lambda: _progress(report, pool))
    if verbose != 0:
        for table in report.tables():
            show(console(), table)
        count_line = f"{len(report.verdicts)} tried in {duration(time.monotonic() - started_at)}"
        say(console(), f"{count_line}, {report.failing} would fail")
    sys.stdout.flush()
    if report.failing:
        raise ConfigError(*report.lines())


def _rehearsed(
    scope: "Scope", report: "Report", pool: WorkerPool, folder: Path
) -> Iterator[Rehearsal | None]:
    """Yield every rehearsal with its verdict, and `None` while workers try the others."""
    coming, waiting, more = chain(_runs(scope), _sweeps(scope)), list[int](), True
    while more or waiting or pool.busy():
        pool.start(scope.workers)
        if more and len(waiting) < AHEAD * scope.workers:
            one = next(coming, None)
            more = one is not None
            if one is not None:
                report.rehearsals.append(one)
                if one.verdict is None:
                    waiting.append(len(report.rehearsals) - 1)
                else:
                    yield one
        for worker in pool.idle()[: len(waiting)]:
            number = waiting.pop(0)
            worker.give(_assignment(report.rehearsals[number], number, folder))
        for worker, answer in pool.listen(0.0 if more else SECONDS):
            if isinstance(answer, Gone):
                pool.dismiss(worker, answer)
            if isinstance(answer, Gone | TrialEnd) and worker.assignment is not None:
                assignment = worker.finish()
                shutil.rmtree(assignment.folder)
                yield scope.judged(report.rehearsals[assignment.number], answer, assignment)
        for worker in pool.busy():
            worker.end_if_slower_than(scope.options.trial_timeout)
        yield None


def _assignment(rehearsal: Rehearsal, number: int, parent: Path) -> Assignment:
    """Return a batch of each part of a run, as a worker is told of it, recorded nowhere."""
    config, folder = rehearsal.config, parent / str(number)
    shortened = {**config, "name": "preflight", "test": False}
    for section, changed in (("trainer", {"fast_dev_run": 1}), ("tracking", {"kind": "none"})):
        if isinstance(config.get(section), dict):
            shortened[section] = {**config[section], **changed}
    folder.mkdir()
    job = Job(
        number=number,
        folder=str(folder),
        name="preflight",
        config=shortened,
        trust=[str(package) for package in config.get("trust") or ()],
        parent_folder=str(folder),
        key=f"preflight-{number}",
        tags={},
        objectives=list(rehearsal.objectives),
        keep=False,
    )
    return Assignment(taken=Taken(number=number, overrides=rehearsal.point), job=job)


def _progress(report: "Report", pool: WorkerPool) -> Text:
    words = f"preflight  {len(report.tried)} tried, {report.failing} would fail"
    now = ", ".join(report.rehearsals[worker.number].cell.words for worker in pool.busy())
    return Text(f"{words}   now {now}" if now else words, overflow="ellipsis", no_wrap=True)


class Scope:
    """What the command line of a preflight leaves open, of all that the config tree holds.

    Args:
        words: Its overrides.
        config_dir: A folder of the user's own YAML.

    Raises:
        ConfigError: It can't be composed, has wrong options of a study, or a range of a key.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        source = Composer("sweep", config_dir)
        study = StudyTree(source, words)
        tree = study.tree()
        given = {key: tree.sweep.space[key] for key in study.varied_on_command_line()}
        ranges = _ranges(given)
        left_out = ("sweeps", "sweep.space", "sweep.preflight", "sweep.preflight_skip", *ranges)
        self.words = [word for word in words if key_of(word) not in left_out]
        self.config_dir = config_dir
        self.trials = TrialConfigs(self.words, config_dir)
        self.options = read_options(tree)
        here = available()
        room = min(here.cores, WORKERS_A_GPU if here.gpus or here.mps else MOST_WORKERS)
        self.workers = self.options.workers or room
        self._fixed = set(GROUPS) & {key_of(word) for word in self.words}
        if "experiment" in self._fixed:
            self._fixed |= {"model", "data"}
        self.limited = self._fixed | set(ranges)
        self.choices = {group: ranges.get(group) or self._choices(group) for group in GROUPS}
        files = [file for file in study.sweep_files() if file != "preflight"]
        self.files = files or source.choices("sweeps")

    def _choices(self, group: str) -> list[str]:
        if group in self._fixed:
            return [str(self.trials.choices[group])]
        choices = self.trials.source.choices(group)
        return [one for one in choices if group == "model" or self._is_whole(group, one)]

    def _is_whole(self, group: str, choice: str) -> bool:
        """Tell whether a choice needs nothing from the user, such as the path of a file."""
        try:
            return not OmegaConf.missing_keys(self.trials.config({group: choice}))
        except ConfigError:  # its rehearsal reports it
            return True

    def left_open(self, **groups: str) -> dict[str, str]:
        """Return those of these choices that the words leave open."""
        return {group: choice for group, choice in groups.items() if group not in self._fixed}

    def judged(self, tried: Rehearsal, end: TrialEnd | Gone, assignment: Assignment) -> Rehearsal:
        """Return a rehearsal that has ended with its verdict."""
        overdue = assignment.overdue and isinstance(end, TrialEnd)
        if isinstance(end, Gone):
            died = f"its process died ({end.message})"
            end = TrialEnd(state="failed", reason="died", message=died, exit_code=BUG)
        message = end.message or f"it ended as {end.reason}"
        diverged = end.reason == "diverged" and not overdue
        if end.state != "failed" or (diverged and tried.cell.part == "sweeps"):
            tried.verdict = "ok"
        elif MISFIT in message and tried.cell.column != OWN:
            tried.verdict = "misfit"  # nobody has put the two together
        else:
            slow = f"it took longer than sweep.trial_timeout={self.options.trial_timeout}"
            tried.verdict, tried.message = "fails", slow if overdue else message
            tried.hint = self._hint(tried) if end.exit_code == BUG else ""
        return tried

    def _hint(self, tried: Rehearsal) -> str:
        """Return the command that shows by itself where an error comes from."""
        folder = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        of_cell = [word for word in tried.cell.words.split() if not word.startswith("sweeps=")]
        of_run = [w for w in self.words if not w.startswith("sweep.") and w not in of_cell]
        point = [f"{key}={text}" for key, text in tried.point.items()]
        words = [*folder, *of_run, *of_cell, *point, "debug=default", "traceback=true"]
        command = shlex.join(map(redact_word, words))
        return f"; see where it comes from: python -m pipeline.train {command}"


def _ranges(given: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the choices of each group that the command line gives several of."""
    ranges: dict[str, list[str]] = {}
    problems = []
    for key, text in given.items():
        if key not in GROUPS:
            problems.append(
                f"{key}={text}: a preflight tries the ranges of sweeps/; write a file there with "
                "this one, or leave it away."
            )
            continue
        try:
            ranges[key] = list(read_range(text).choices)
        except ConfigError as error:
            problems += [f"{key}={text}: {problem}." for problem in error.problems]
    if problems:
        raise ConfigError(*problems)
    return ranges


def _runs(scope: Scope) -> Iterator[Rehearsal]:
    """Yield a run of each model on each data set, and of each experiment as it is."""
    skipped = [set(pair.split()) for pair in scope.options.preflight_skip]
    for data, model in product(scope.choices["data"], scope.choices["model"]):
        cell = PreflightCell("pairs", data, model, f"model={model} data={data}")
        if set(cell.words.split()) in skipped:
            yield Rehearsal(cell=cell, verdict="skipped")
        else:
            yield _composed(cell, scope.trials, scope.left_open(model=model, data=data))
    # None where the command line says of what.
    for name in scope.choices["experiment"] if not scope.limited - {"experiment"} else ():
        cell = PreflightCell("experiments", name, OWN, f"experiment={name}")
        yield _composed(cell, scope.trials, {"experiment": name})


def _composed(
    cell: PreflightCell,
    trials: TrialConfigs,
    overrides: Mapping[str, str],
    objectives: Sequence[str] = (),
) -> Rehearsal:
    """Compose a run to be tried, or say why that can't be done."""
    point = overrides if cell.part == "sweeps" else {}
    try:
        config = written(trials.config(overrides))
    except ConfigError as error:
        return _refused(cell, error, point)
    return Rehearsal(cell=cell, config=config, point=point, objectives=objectives)


def _refused(
    cell: PreflightCell,
    error: ConfigError,
    point: Mapping[str, str] | None = None,
    verdict: Verdict = "fails",
) -> Rehearsal:
    line = " ".join(" ".join(error.problems).split())
    return Rehearsal(cell=cell, verdict=verdict, message=line, point=point or {})


def _sweeps(scope: Scope) -> Iterator[Rehearsal]:
    """Yield the extreme points of each file of `sweeps/` with each model that its space suits."""
    for file in scope.files:
        chosen: set[str] = set()  # groups that the file varies, or has a choice of its own for
        with suppress(ConfigError):  # each cell says why
            tree = scope.trials.source.tree([*scope.words, f"sweeps={file}"])
            if tree.sweep.get("preflight") is True:
                continue
            definitions, _ = read_definitions(tree.sweep.get("space"), tree.sweep.get("when"))
            varied = {one.key for one in definitions}
            before, after = scope.trials.choices, tree.hydra.runtime.choices
            chosen = {one for one in GROUPS if one in varied or before.get(one) != after.get(one)}
        yield from _of_file(scope, file, chosen)


def _of_file(scope: Scope, file: str, chosen: set[str]) -> Iterator[Rehearsal]:
    own = bool(chosen & {"model", "experiment"})
    read: dict[PreflightCell, tuple[TrialConfigs, StudyTree, Space] | ConfigError] = {}
    for model in [OWN] if own else scope.choices["model"]:
        words = f"sweeps={file}" if own else f"sweeps={file} model={model}"
        cell = PreflightCell("sweeps", file, model, words)
        if chosen & scope.limited:
            yield Rehearsal(cell=cell, verdict="misfit")
            continue
        groups = {} if own else scope.left_open(model=model)
        given = [*scope.words, *(f"{k}={v}" for k, v in groups.items()), f"sweeps={file}"]
        try:
            trials = TrialConfigs(given, scope.config_dir)
            study = StudyTree(trials.source, given)
            read[cell] = trials, study, study.read_space()
        except ConfigError as error:
            read[cell] = error
    suits_one = any(isinstance(found, tuple) for found in read.values())
    for cell, found in read.items():
        if isinstance(found, ConfigError):
            yield _refused(cell, found, verdict="misfit" if suits_one else "fails")
        else:
            yield from _of_study(cell, *found)


def _of_study(
    cell: PreflightCell, trials: TrialConfigs, study: StudyTree, space: Space
) -> Iterator[Rehearsal]:
    """Yield the extreme points of a space, or all that is wrong with its study."""
    try:
        options, run = read_options(study.tree()), check(trials.base())
        monitor = run.monitor or "train/loss"
        objectives = read_objectives(options.objective, monitor, metrics=run.metrics)
        problems = judge_problems(options, objectives=len(objectives))
        if problems := [*problems, *value_problems(space, trials)]:
            raise ConfigError(*problems)
    except ConfigError as error:
        yield _refused(cell, error)
        return
    names = [options.objective] if isinstance(options.objective, str) else options.objective
    for point in space.extreme_points():
        yield _composed(cell, trials, point, names or ())


class Report:
    """Collects what came of each rehearsal."""

    def __init__(self) -> None:
        self.rehearsals: list[Rehearsal] = []
        """In the order of the tables; the place of each is the number of its job."""
        self.tried: list[Rehearsal] = []
        """Those with a verdict, in the order in which they have ended."""

    @property
    def verdicts(self) -> dict[PreflightCell, Verdict]:
        """The worst verdict in each cell, `ok` where none is known yet."""
        found: dict[PreflightCell, Verdict] = {}
        for one in self.rehearsals:
            verdicts = found.get(one.cell, "ok"), one.verdict or "ok"
            found[one.cell] = max(verdicts, key=list(SHOWN).index)
        return found

    @property
    def failing(self) -> int:
        """How many cells would fail."""
        return list(self.verdicts.values()).count("fails")

    def tables(self) -> Iterator[TextTable]:
        """Yield a table for each part of which there is anything."""
        for part, (title, heading) in TITLES.items():
            cells = {cell: verdict for cell, verdict in self.verdicts.items() if cell.part == part}
            rows = list(dict.fromkeys(cell.row for cell in cells))
            columns = sorted({cell.column: None for cell in cells}, key=lambda one: one == OWN)
            shown = {(cell.row, cell.column): SHOWN[verdict] for cell, verdict in cells.items()}
            if cells:
                yield TextTable(
                    title=title,
                    headings=[heading, *columns],
                    lines=[[row, *(shown.get((row, one), "") for one in columns)] for row in rows],
                    words=frozenset(range(len(columns) + 1)),
                    notes=[note for verdict, note in NOTES.items() if verdict in cells.values()],
                )

    def lines(self) -> list[str]:
        """Return a line for each reason for which something fails: what, and why."""
        reasons: dict[str, list[Rehearsal]] = {}
        for one in self.tried:
            if one.verdict == "fails":
                reasons.setdefault(one.message, []).append(one)
        return [
            f"{self._places(failures)}: {message}{failures[0].hint}"
            for message, failures in reasons.items()
        ]

    def _places(self, failures: Sequence[Rehearsal]) -> str:
        """Name what fails for one and the same reason: whole rows and columns, else cells."""
        points = {one.cell: one.point for one in reversed(failures)}  # the first in each cell
        left = list(dict.fromkeys(one.cell for one in failures))
        named: list[str] = []
        for line in self._rows_and_columns():
            if all(cell in left for cell in line):
                first, *others = (cell.words.split() for cell in line)
                named.append(next(word for word in first if all(word in one for one in others)))
                left = [cell for cell in left if cell not in line]
        for cell in left:
            failed, all_of_cell = (
                sum(one.cell == cell for one in ones) for ones in (failures, self.rehearsals)
            )
            where = f" where {point_words(points[cell])}"
            named.append(cell.words + (where if points[cell] and failed < all_of_cell else ""))
        named = list(dict.fromkeys(named))
        more = len(named) - NAMED
        return ", ".join(named[:NAMED]) + (f" and {more} more" if more > 0 else "")

    def _rows_and_columns(self) -> list[list[PreflightCell]]:
        """Return the cells of each row and of each column that has several of a model each."""
        lines: dict[tuple[str, ...], list[PreflightCell]] = {}
        for heading, cell in product(("row", "column"), self.verdicts):
            if cell.column != OWN:
                key = (cell.part, heading, getattr(cell, heading))
                lines.setdefault(key, []).append(cell)
        return [line for line in lines.values() if len(line) > 1]
