"""The results of a study that has its trials: written, shown, and described in MLflow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from pipeline.base.markup import as_markdown, show
from pipeline.base.paths import create_folder, replace_text
from pipeline.base.signals import stop
from pipeline.base.terminal import console, say, waiting_for
from pipeline.study.driver import Driver
from pipeline.study.ledger.rows import Row, winner
from pipeline.study.outcome.comparison import compare, is_comparison, outcome_lines
from pipeline.study.outcome.comparison_picture import write_comparison_picture
from pipeline.study.outcome.comparison_tables import confirmation_table, write_comparison
from pipeline.study.outcome.pictures import write_study_pictures
from pipeline.study.outcome.summary import (
    BASE,
    StudySummary,
    comparison_note,
    counts_line,
    last_lines,
    print_summary,
    report_command,
    search_note,
)
from pipeline.study.outcome.trials_file import write_trials
from pipeline.study.study_plan import StudyPlan
from pipeline.study.winner import score_trial, winner_overrides, write_winner

#: The remaining work when the results are shown.
TASKS = "drawing pictures, sending to MLflow"


def conclude(driver: Driver) -> Iterator[str]:
    """Write and print the results of a study, and return the last lines about it.

    Only the process that leads the study does so.
    """
    plan = driver.plan
    rows = driver.ledger.trials()
    if not driver.leads:
        if plan.run.verbose != 0:
            say(console(), counts_line(rows))
            say(console(), "another process is running this study and will report the results")
        return iter(())
    artifacts = plan.folder / "artifacts"
    create_folder(artifacts)
    write_trials(artifacts / "trials.csv", rows, plan.names)
    if is_comparison(plan):
        return _conclude_comparison(driver, rows, artifacts)
    return _conclude_search(driver, rows, artifacts)


def _conclude_comparison(driver: Driver, rows: list[Row], artifacts: Path) -> Iterator[str]:
    plan = driver.plan
    compared = compare(rows, plan.objectives[0], plan.options.published)
    table = write_comparison(compared, artifacts)
    outcome = outcome_lines(compared)
    note = partial(comparison_note, outcome, table, rows, plan.folder)
    with _describing_study(driver, note):
        if plan.run.verbose != 0:
            for line in outcome:
                say(console(), line, style="bold")
            say(console(), counts_line(rows))
            show(console(), table)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            notes = write_comparison_picture(compared, artifacts)
    tables = f"tables  {artifacts} (comparison.md, .tex, .csv, .png)"
    return last_lines(plan.folder, [tables, _report_line(plan)], plan.where_to_look, notes)


def _conclude_search(driver: Driver, rows: list[Row], artifacts: Path) -> Iterator[str]:
    plan = driver.plan
    best = winner(rows, plan.directions)
    base = driver.ledger.progress().base_row
    driver.ledger.set_fact(BASE, None if base is None else base.number)
    pictures = _PictureSteps(partial(_summarize, driver, rows, best, base), plan, artifacts)
    with waiting_for("testing the best trial", plan.run.verbose):
        if best is not None:
            score_trial(driver, best, artifacts / "winner", pictures, saves_model=True)
            if base is not None and base.number != best.number:
                score_trial(driver, base, artifacts / "default", pictures)
    tested_summary = pictures.untested_summary.with_tests(driver.ledger.facts)
    driver.run.tested(tested_summary.tested)
    with _describing_study(driver, partial(search_note, tested_summary)):
        if plan.run.verbose != 0:
            print_summary(tested_summary)
        with waiting_for(TASKS, plan.run.verbose), stop.deferred():
            for _ in pictures:  # those that were not drawn during the tests
                stop.check()  # Matplotlib may swallow it
    lines = [_report_line(plan)]
    return last_lines(plan.folder, lines, plan.where_to_look, pictures.notes)


class _PictureSteps(Iterator[None]):
    """Draws one picture of a study at each step, so that drawing can fill the time of a test.

    `notes` says what is missing in the pictures so far; `summarize` returns their content.
    """

    def __init__(
        self, summarize: Callable[[], StudySummary], plan: StudyPlan, artifacts: Path
    ) -> None:
        self.notes: list[str] = []
        self._summarize = summarize
        self._plan = plan
        self._artifacts = artifacts

    @cached_property
    def untested_summary(self) -> StudySummary:
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


def _summarize(driver: Driver, rows: list[Row], best: Row | None, base: Row | None) -> StudySummary:
    """Sum up a study without the tests of its trials, and write the winner's experiment."""
    plan = driver.plan
    command = ""
    yaml_command = ""
    if best is not None:
        command, yaml_command = write_winner(plan, winner_overrides(plan, best))
    return StudySummary(
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


def _report_line(plan: StudyPlan) -> str:
    command = report_command(
        plan.name, output=plan.run.output, storage=plan.options.storage, uri=plan.uri
    )
    return f"report  {command}"


def conclude_confirmation(driver: Driver, default: Row | None, path: Path) -> None:
    """Write the table of a winner over several seeds as Markdown to `path`, and print it.

    `default` is the trial of the base config; `None` = the table is without it.
    """
    plan = driver.plan
    table = confirmation_table(driver.ledger.trials(), plan.objectives[0], default)
    replace_text(path, as_markdown(table) + "\n")
    if plan.run.verbose != 0:
        show(console(), table)
