"""A whole sweep: the study, its substudies, and their results."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from pipeline.base.errors import ChangedDataError, ConfigError, EnvironmentFaultError, text_override
from pipeline.base.markup import as_markdown, show
from pipeline.base.paths import CHECKPOINTS, create_folder, replace_text
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.redaction import redact_word
from pipeline.base.signals import stop
from pipeline.base.terminal import console, print_lines, say, shown_verbosity, waiting_for
from pipeline.config.plain import plain
from pipeline.serving.files import FOLDER, cell, write_csv
from pipeline.study.driver import Driver, running_study
from pipeline.study.ledger.rows import Row, winner
from pipeline.study.live import print_opening
from pipeline.study.messages import KEPT, TestJob, changed_data_line
from pipeline.study.outcome import comparison, comparison_tables, summary
from pipeline.study.outcome.comparison_picture import write_comparison_picture
from pipeline.study.outcome.pictures import write_study_pictures
from pipeline.study.study_plan import StudyPlan, confirmation, tunings
from pipeline.study.study_processes import StudyProcesses, study_processes
from pipeline.study.workers.pool import WorkerPool
from pipeline.study.workers.ray import fitted_to_cluster
from pipeline.tracking.client import RecorderClient
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal_events import ModelScore
from pipeline.tracking.uri import uri_words, where_to_look

#: Fact of a study: number of the trial whose weights are the study's model.
LEFT = "left"
#: The remaining work when the results are shown.
TASKS = "drawing pictures, sending to MLflow"
CSV_COLUMNS = ("trial", "state", "reason", "started", "ended")


def sweep(plan: StudyPlan, server: ForkServer | None, recorder: RecorderClient | None) -> None:
    """Start, continue or join a study until it has its trials, then report the results.

    `server` and `recorder` are those of `study_processes`.

    Raises ConfigError if a model is to be registered, but the study is a comparison.
    """
    if plan.run.register is not None and comparison.is_comparison(plan):
        raise ConfigError(
            f"register={plan.run.register} needs a best trial, but a comparison has none; "
            "remove it, then train the chosen model with pipeline train"
        )
    if plan.options.launcher == "ray":
        plan = fitted_to_cluster(plan)
    print_opening(plan)
    cell_plans = tunings(plan)
    with study_processes(plan, server, recorder) as processes:
        tuned = {}
        for cell, cell_plan in cell_plans.items():
            tuned[cell] = _tune_cell(cell, cell_plan, processes)
        with running_study(replace(plan, tuned=tuned), processes) as driver:
            last_lines = _conclude(driver, processes.pool)
            if plan.options.confirm_seeds and driver.leads:
                _confirm(driver, processes)
    if plan.run.verbose != 0:
        lines = list(last_lines)
        if processes.recorder.registered is not None:
            lines.append(f"model   {processes.recorder.registered}")
        print_lines(lines)
    if processes.recorder.model_problem is not None:
        print(f"warning: {processes.recorder.model_problem}", file=sys.stderr)


def _tune_cell(cell: str, plan: StudyPlan, processes: StudyProcesses) -> dict[str, str]:
    """Tune one cell of a comparison, and return the overrides that are best for it."""
    with running_study(plan, processes) as driver:
        best = winner(driver.ledger.trials(), plan.directions)
        overrides = {} if best is None else dict(best.overrides)
        if shown_verbosity(plan.run.verbose):
            say(console(), f"tuned  {cell}: {summary.point_words(overrides)}")
        return overrides


def _confirm(driver: Driver, processes: StudyProcesses) -> None:
    """Train the winner again with several seeds; print the table and write it to a file.

    Raises ChangedDataError if the data are no longer those that the winner was trained on.
    """
    study_plan = driver.plan
    best = winner(driver.ledger.trials(), study_plan.directions)
    if best is None:
        return
    default = driver.ledger.progress().base_row
    if default is not None and default.number == best.number:
        default = None
    overrides = _winner_overrides(study_plan, best)
    plan = confirmation(study_plan, overrides, best.number)
    config = plain(study_plan.trials.config(overrides))
    trained_data = driver.ledger.data_of(config)
    if trained_data not in (None, plan.data):
        raise ChangedDataError(changed_data_line(config, trained_data, plan.data))
    if plan.run.verbose != 0:
        count = study_plan.options.confirm_seeds
        say(console(), f"training the best trial with {count} other seeds")
    with running_study(plan, processes) as confirming:
        rows = confirming.ledger.trials()
        table = comparison_tables.confirmation_table(rows, plan.objectives[0], default)
        path = study_plan.folder / "artifacts" / "confirmation.md"
        replace_text(path, as_markdown(table) + "\n")
        if plan.run.verbose != 0:
            show(console(), table)


def _conclude(driver: Driver, pool: WorkerPool) -> Iterator[str]:
    """Write and print the results of a study, and return the last lines about it.

    Only the process that leads the study does so.
    """
    plan = driver.plan
    rows = driver.ledger.trials()
    if not driver.leads:
        if plan.run.verbose != 0:
            say(console(), summary.counts_line(rows))
            say(console(), "another process is running this study and will report the results")
        return iter(())
    artifacts = plan.folder / "artifacts"
    create_folder(artifacts)
    write_trials(artifacts / "trials.csv", rows, plan.names)
    if comparison.is_comparison(plan):
        return _conclude_comparison(driver, rows, artifacts)
    return _conclude_search(driver, rows, artifacts, pool)


def _conclude_comparison(driver: Driver, rows: list[Row], artifacts: Path) -> Iterator[str]:
    plan = driver.plan
    compared = comparison.compare(rows, plan.objectives[0], plan.options.published)
    table = comparison_tables.write_comparison(compared, artifacts)
    outcome = comparison.outcome_lines(compared)
    note = partial(summary.comparison_note, outcome, table, rows, plan.folder)
    with _describing_study(driver, note):
        if plan.run.verbose != 0:
            for line in outcome:
                say(console(), line, style="bold")
            say(console(), summary.counts_line(rows))
            show(console(), table)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            notes = write_comparison_picture(compared, artifacts)
    tables = f"tables  {artifacts} (comparison.md, .tex, .csv, .png)"
    return summary.last_lines(
        plan.folder, [tables, _report_line(plan)], _where_to_look(plan), notes
    )


def _conclude_search(
    driver: Driver, rows: list[Row], artifacts: Path, pool: WorkerPool
) -> Iterator[str]:
    plan = driver.plan
    best = winner(rows, plan.directions)
    base = driver.ledger.progress().base_row
    driver.ledger.set_fact(summary.BASE, None if base is None else base.number)
    pictures = _PictureSteps(partial(_summarize, driver, rows, best, base), plan, artifacts)
    with waiting_for("testing the best trial", plan.run.verbose):
        if best is not None:
            _test(driver, best, pool, artifacts / "winner", pictures, leave=True)
            if base is not None and base.number != best.number:
                _test(driver, base, pool, artifacts / "default", pictures)
    tested_summary = pictures.untested_summary.with_tests(driver.ledger.facts)
    driver.run.tested(tested_summary.tested)
    with _describing_study(driver, partial(summary.search_note, tested_summary)):
        if plan.run.verbose != 0:
            summary.print_summary(tested_summary)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            for _ in pictures:  # those that were not drawn during the tests
                stop.check()  # Matplotlib may swallow it
    lines = [_report_line(plan)]
    return summary.last_lines(plan.folder, lines, _where_to_look(plan), pictures.notes)


class _PictureSteps(Iterator[None]):
    """Draws one picture of a study at each step, so that drawing can fill the time of a test.

    `notes` says what is missing in the pictures so far; `summarize` returns their content.
    """

    def __init__(
        self, summarize: Callable[[], summary.StudySummary], plan: StudyPlan, artifacts: Path
    ) -> None:
        self.notes: list[str] = []
        self._summarize = summarize
        self._plan = plan
        self._artifacts = artifacts

    @cached_property
    def untested_summary(self) -> summary.StudySummary:
        """The summary without tests, which is made at the first step, since it takes time."""
        return self._summarize()

    @cached_property
    def _pictures(self) -> Iterator[list[str]]:
        algorithm = self._plan.run.trainer.gradient_clip_algorithm
        return write_study_pictures(
            self.untested_summary, self._artifacts, clip_algorithm=algorithm
        )

    def __next__(self) -> None:
        self.notes += next(self._pictures)


@contextmanager
def _describing_study(driver: Driver, note: Callable[[], str]) -> Iterator[None]:
    """Describe a study, finish its run unless seeds follow, and describe it with its pictures."""
    driver.run.describe(note())
    if not driver.plan.options.confirm_seeds:  # from here on, a stop leaves a finished study
        driver.run.finish()
    yield
    driver.run.describe(note())


def _summarize(
    driver: Driver, rows: list[Row], best: Row | None, base: Row | None
) -> summary.StudySummary:
    """Sum up a study without the tests of its trials, and write the winner's experiment."""
    plan = driver.plan
    command = ""
    yaml_command = ""
    if best is not None:
        command, yaml_command = _write_winner(plan, _winner_overrides(plan, best))
    return summary.StudySummary(
        rows=rows,
        objectives=plan.names,
        directions=plan.directions,
        folder=plan.folder,
        importances=driver.ledger.importances(),
        command=command,
        yaml_command=yaml_command,
        confirm_seeds=plan.options.confirm_seeds,
        base=None if base is None else base.number,
    )


def _write_winner(plan: StudyPlan, overrides: Mapping[str, str]) -> tuple[str, str]:
    """Write the winner's experiment below the study's folder; return two commands that train it.

    The first has all overrides, the second names the experiment; both are quoted for a shell.
    """
    name = plan.name.removesuffix(".yaml")
    # The study itself registers the model.
    words = [word for word in plan.trials.train_words(overrides) if word != "register=null"]
    trusted = [word for word in words if word.startswith("trust=")]
    path = plan.folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, plan.trials.winner_yaml(overrides, name))
    yaml_command = summary.experiment_command(plan.folder, name, *trusted)
    return summary.train_command(words), yaml_command


def write_trials(path: Path, rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Write all trials as CSV: how each ended, its values, its overrides, then other attributes.

    An apostrophe keeps a spreadsheet from evaluating a text as a formula.
    """
    swept = summary.swept_keys(rows)
    columns = [*CSV_COLUMNS, *objectives, *swept]
    attributes = set[str]().union(*(row.attributes for row in rows))
    attribute_keys = sorted(attributes.difference(columns))
    columns += attribute_keys
    lines: list[Sequence[object]] = []
    for row in rows:
        reason = None if row.end is None else row.end.reason
        line: list[object] = [
            row.number,
            row.stage,
            reason,
            _instant(row.started),
            _instant(row.ended),
        ]
        line += [*row.values, *[None] * (len(objectives) - len(row.values))]
        line += [cell(row.overrides.get(key, "")) for key in swept]
        for key in attribute_keys:
            value = row.attributes.get(key)
            line.append(cell(value) if isinstance(value, str) else value)
        lines.append(line)
    write_csv(path, list(map(cell, columns)), lines)


def _instant(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


# ── the winner's commands ───────────────────────────────────────────────────────────────────────


def _winner_overrides(plan: StudyPlan, row: Row) -> dict[str, str]:
    """Return the overrides of a trial, with tuned values and the thread count of its process."""
    overrides = {**plan.with_tuned(row.overrides), "register": "null"}  # the study registers it
    if "threads" in row.attributes:
        overrides["trainer.threads"] = str(row.attributes["threads"])
    return overrides


def _test(
    driver: Driver,
    row: Row,
    pool: WorkerPool,
    into: Path,
    meanwhile: Iterator[object],
    *,
    leave: bool = False,
) -> None:
    """Test the weights of a trial and record its metrics, unless that was done before.

    The tables are written to the folder `into`; with `leave`, the weights become the study's
    model. While a worker tests, this process takes the steps of `meanwhile`. Raises
    ChangedDataError if the data have changed, and EnvironmentFaultError if the test fails for
    another reason.
    """
    plan = driver.plan
    facts = driver.ledger.facts
    earlier_tests = facts.get(summary.TESTED, {})
    tests = plan.run.test and str(row.number) not in earlier_tests
    is_saved = facts.get(LEFT) == row.number and (plan.folder / FOLDER).is_dir()
    saves = leave and not is_saved
    folder = plan.trial_folder(row.number)
    # If there are no weights, the trial was trained on another machine.
    if not (tests or saves) or not (folder / CHECKPOINTS / KEPT).exists():
        return
    if tests:
        create_folder(into)
    config = plan.trial_config(row.overrides, number=row.number)
    job = TestJob(
        folder=str(folder),
        into=str(into) if tests else None,
        config=config,
        trust=list(plan.run.trust),
        leave=str(plan.folder) if saves else None,
        data=driver.ledger.data_of(config),
    )
    result = pool.test(job, meanwhile)
    if result.problem is not None:
        problem = f"trial {row.number} can't be tested: {result.problem}"
        if result.exit_code == ChangedDataError.exit_code:
            raise ChangedDataError(problem)
        raise EnvironmentFaultError(problem)
    if result.figure is not None:
        driver.run.record_model(ModelScore(**result.figure))
        driver.ledger.set_fact(LEFT, row.number)
    if tests:
        test = {
            "metrics": dict(result.metrics),
            "baselines": list(result.baselines),
            "intervals": dict(result.intervals),
            "rows": result.rows,
        }
        driver.ledger.set_fact(summary.TESTED, {**earlier_tests, str(row.number): test})


def _report_line(plan: StudyPlan) -> str:
    """Return the line with the command that writes the study's report."""
    words = [f"study={plan.name}"]
    if plan.run.output != "runs":
        words.append(text_override("folder", plan.run.output))
    if plan.options.storage is not None:
        words.append(redact_word(f"storage={plan.options.storage}"))
    words += uri_words(plan.uri or "")
    return f"report  pipeline report {shlex.join(words)}"


def _where_to_look(plan: StudyPlan) -> tuple[str, ...]:
    experiment_id = read_state(plan.folder).experiment_id
    if plan.uri is None or not experiment_id:
        return ()
    return where_to_look(plan.uri, experiment_id)
