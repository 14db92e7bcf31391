"""A whole sweep: the study, its substudies, and their results."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

from pipeline.config.record import plain
from pipeline.errors import ChangedDataError, ConfigError, EnvironmentFaultError, text_override
from pipeline.markup import as_markdown, show
from pipeline.paths import CHECKPOINTS, create_folder, replace_text
from pipeline.processes.fork_server import ForkServer
from pipeline.redaction import redact_word
from pipeline.serving.files import FOLDER, cell, write_csv
from pipeline.signals import stop
from pipeline.study.driver import Driver, StudyProcesses, conducted, study_processes
from pipeline.study.ledger.rows import Row, winner
from pipeline.study.live import print_opening
from pipeline.study.messages import KEPT, TestJob, changed_data_line
from pipeline.study.outcome import comparison, summary
from pipeline.study.outcome.comparison_picture import write_comparison_picture
from pipeline.study.outcome.pictures import write_study_pictures
from pipeline.study.plan import StudyPlan, confirmation, tunings
from pipeline.study.workers.pool import WorkerPool
from pipeline.study.workers.ray import fitted_to_cluster
from pipeline.terminal import console, print_lines, say, shown_verbosity, waiting_for
from pipeline.tracking.client import Recorder
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import Figure
from pipeline.tracking.uri import uri_words, where_to_look

#: Fact of a study: number of the trial whose weights are the study's model.
LEFT = "left"
#: The remaining work when the results are shown.
TASKS = "drawing pictures, sending to MLflow"
CSV_COLUMNS = ("trial", "state", "reason", "started", "ended")


def sweep(plan: StudyPlan, server: ForkServer | None, recorder: Recorder | None) -> None:
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
    cells = tunings(plan)
    last: Iterable[str] = ()
    with study_processes(plan, server, recorder) as processes:
        tuned = {cell: _tuned(cell, one, processes) for cell, one in cells.items()}
        with conducted(replace(plan, tuned=tuned), processes) as done:
            last = _conclude(done, processes.pool)
            if plan.options.confirm_seeds and done.leads:
                _confirm(done, processes)
    if plan.run.verbose != 0:
        registered = processes.recorder.registered
        print_lines([*last, *([] if registered is None else [f"model   {registered}"])])
    if processes.recorder.model_problem is not None:
        print(f"warning: {processes.recorder.model_problem}", file=sys.stderr)


def _tuned(cell: str, plan: StudyPlan, processes: StudyProcesses) -> dict[str, str]:
    """Tune one cell of a comparison, and return the overrides that are best for it."""
    with conducted(plan, processes) as done:
        best = winner(done.ledger.trials(), plan.directions)
        found = {} if best is None else dict(best.overrides)
        if shown_verbosity(plan.run.verbose):
            say(console(), f"tuned  {cell}: {summary.point_words(found)}")
        return found


def _confirm(done: Driver, processes: StudyProcesses) -> None:
    """Train the winner again with several seeds; print the table and write it to a file.

    Raises ChangedDataError if the data are no longer those that the winner was trained on.
    """
    rows = done.ledger.trials()
    best, base = winner(rows, done.plan.directions), done.ledger.progress().base_row
    if best is None:
        return
    overrides = _winner_overrides(done.plan, best)
    plan = confirmation(done.plan, overrides, best.number)
    config = plain(done.plan.trials.config(overrides))
    known = done.ledger.data_of(config)
    if known not in (None, plan.data):
        raise ChangedDataError(changed_data_line(config, known, plan.data))
    if plan.run.verbose != 0:
        count = done.plan.options.confirm_seeds
        say(console(), f"training the best trial with {count} other seeds")
    with conducted(plan, processes) as again:
        default = None if base is None or base.number == best.number else base
        confirmed = again.ledger.trials()
        table = comparison.confirmation_table(confirmed, plan.objectives[0], default)
        replace_text(done.plan.folder / "artifacts" / "confirmation.md", as_markdown(table) + "\n")
        if plan.run.verbose != 0:
            show(console(), table)


def _conclude(done: Driver, pool: WorkerPool) -> Iterator[str]:
    """Write and print the results of a study, and return the last lines about it.

    Only the process that leads the study does so.
    """
    plan = done.plan
    rows = done.ledger.trials()
    if not done.leads:
        if plan.run.verbose != 0:
            say(console(), summary.counts_line(rows))
            say(console(), "another process is running this study and will report the results")
        return iter(())
    artifacts = plan.folder / "artifacts"
    create_folder(artifacts)
    write_trials(artifacts / "trials.csv", rows, plan.names)
    if comparison.is_comparison(plan):
        return _conclude_comparison(done, rows, artifacts)
    return _conclude_search(done, rows, artifacts, pool)


def _conclude_comparison(done: Driver, rows: list[Row], artifacts: Path) -> Iterator[str]:
    plan = done.plan
    found = comparison.compare(rows, plan.objectives[0], plan.options.published)
    table = comparison.write_comparison(found, artifacts)
    outcome = comparison.outcome_lines(found)
    with _described(done, partial(summary.comparison_note, outcome, table, rows, plan.folder)):
        if plan.run.verbose != 0:
            for line in outcome:
                say(console(), line, style="bold")
            say(console(), summary.counts_line(rows))
            show(console(), table)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            notes = write_comparison_picture(found, artifacts)
    tables = f"tables  {artifacts} (comparison.md, .tex, .csv, .png)"
    return summary.last_lines(
        plan.folder, [tables, _report_line(plan)], _where_to_look(plan), notes
    )


def _conclude_search(
    done: Driver, rows: list[Row], artifacts: Path, pool: WorkerPool
) -> Iterator[str]:
    plan, notes = done.plan, list[str]()
    best, base = winner(rows, plan.directions), done.ledger.progress().base_row
    done.ledger.set_fact(summary.BASE, None if base is None else base.number)
    untested = cache(partial(_untested_summary, done, rows, best, base))

    def drawn() -> Iterator[None]:
        algorithm = plan.run.trainer.gradient_clip_algorithm
        for told in write_study_pictures(untested(), artifacts, clip_algorithm=algorithm):
            notes.extend(told)
            yield

    drawing = drawn()  # in steps, while a worker tests
    with waiting_for("testing the best trial", plan.run.verbose):
        if best is not None:
            _test(done, best, pool, artifacts / "winner", drawing, leave=True)
            if base is not None and base.number != best.number:
                _test(done, base, pool, artifacts / "default", drawing)
    found = untested().with_tests(done.ledger.facts)
    done.run.tested(found.tested)
    with _described(done, partial(summary.search_note, found)):
        if plan.run.verbose != 0:
            summary.print_summary(found)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            for _ in drawing:  # the pictures that are left
                stop.check()  # Matplotlib may swallow it
    return summary.last_lines(plan.folder, [_report_line(plan)], _where_to_look(plan), notes)


@contextmanager
def _described(done: Driver, note: Callable[[], str]) -> Iterator[None]:
    """Describe a study, finish its run unless seeds follow, and describe it with its pictures."""
    done.run.describe(note())
    if not done.plan.options.confirm_seeds:  # from here on, a stop leaves a finished study
        done.run.finish()
    yield
    done.run.describe(note())


def _untested_summary(
    done: Driver, rows: list[Row], best: Row | None, base: Row | None
) -> summary.StudySummary:
    """Sum up a study without the tests of its trials, and write the winner's experiment."""
    plan = done.plan
    overrides = None if best is None else _winner_overrides(plan, best)
    commands = ("", "") if overrides is None else _write_winner(plan, overrides)
    return summary.StudySummary(
        rows=rows,
        objectives=plan.names,
        directions=plan.directions,
        folder=plan.folder,
        importances=done.ledger.importances(),
        command=commands[0],
        yaml_command=commands[1],
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
    again = summary.experiment_command(plan.folder, name, *trusted)
    return summary.train_command(words), again


def write_trials(path: Path, rows: Sequence[Row], objectives: Sequence[str]) -> None:
    """Write all trials as CSV: how each ended, its values, its overrides, then other attributes.

    An apostrophe keeps a spreadsheet from evaluating a text as a formula.
    """
    swept = summary.swept_keys(rows)
    taken = {*CSV_COLUMNS, *objectives, *swept}
    others = sorted({key for row in rows for key in row.attributes} - taken)
    header = [cell(name) for name in (*CSV_COLUMNS, *objectives, *swept, *others)]
    lines: list[Sequence[object]] = []
    for row in rows:
        values = (*row.values, *[None] * (len(objectives) - len(row.values)))
        point = (cell(row.overrides.get(key, "")) for key in swept)
        found = map(row.attributes.get, others)
        more = (cell(value) if isinstance(value, str) else value for value in found)
        instants = (
            None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
            for at in (row.started, row.ended)
        )
        reason = None if row.end is None else row.end.reason
        lines.append([row.number, row.stage, reason, *instants, *values, *point, *more])
    write_csv(path, header, lines)


# ── the winner's commands ───────────────────────────────────────────────────────────────────────


def _winner_overrides(plan: StudyPlan, row: Row) -> dict[str, str]:
    """Return the overrides of a trial, with tuned values and the thread count of its process."""
    overrides = {**plan.with_tuned(row.overrides), "register": "null"}  # the study registers it
    if "threads" in row.attributes:
        overrides["trainer.threads"] = str(row.attributes["threads"])
    return overrides


def _test(
    done: Driver,
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
    plan, facts = done.plan, done.ledger.facts
    tests = plan.run.test and str(row.number) not in facts.get(summary.TESTED, {})
    is_left = facts.get(LEFT) == row.number and (plan.folder / FOLDER).is_dir()
    leaves = leave and not is_left
    folder = plan.trial_folder(row.number)
    # If there are no weights, the trial was trained on another machine.
    if not (tests or leaves) or not (folder / CHECKPOINTS / KEPT).exists():
        return
    if tests:
        create_folder(into)
    config = plan.trial_config(row.overrides, number=row.number)
    job = TestJob(
        folder=str(folder),
        into=str(into) if tests else None,
        config=config,
        trust=list(plan.run.trust),
        leave=str(plan.folder) if leaves else None,
        data=done.ledger.data_of(plain(config)),
    )
    tested = pool.test(job, meanwhile)
    if tested.problem is not None:
        problem = f"trial {row.number} can't be tested: {tested.problem}"
        if tested.exit_code == ChangedDataError.exit_code:
            raise ChangedDataError(problem)
        raise EnvironmentFaultError(problem)
    if tested.figure is not None:
        done.run.left(Figure(**tested.figure))
        done.ledger.set_fact(LEFT, row.number)
    if tests:
        noted = {
            "metrics": dict(tested.metrics),
            "baselines": list(tested.baselines),
            "intervals": dict(tested.intervals),
            "rows": tested.rows,
        }
        earlier = facts.get(summary.TESTED, {})
        done.ledger.set_fact(summary.TESTED, {**earlier, str(row.number): noted})


def _report_line(plan: StudyPlan) -> str:
    """Return the line with the command that writes the study's report."""
    output, storage = plan.run.output, plan.options.storage
    words = [
        f"study={plan.name}",
        *([] if output == "runs" else [text_override("folder", output)]),
        *([] if storage is None else [redact_word(f"storage={storage}")]),
        *uri_words(plan.uri or ""),
    ]
    return f"report  pipeline report {shlex.join(words)}"


def _where_to_look(plan: StudyPlan) -> tuple[str, ...]:
    experiment_id = read_state(plan.folder).experiment_id
    return () if plan.uri is None or not experiment_id else where_to_look(plan.uri, experiment_id)
