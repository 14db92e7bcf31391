"""A whole sweep: the study, its substudies, and their results."""

import sys
from dataclasses import replace

from pipeline.base.errors import ChangedDataError, ConfigError
from pipeline.base.processes.fork_server import ForkServer
from pipeline.base.terminal import console, print_lines, say, shown_verbosity
from pipeline.study.conclusion import conclude, conclude_confirmation
from pipeline.study.driver import Driver, running_study
from pipeline.study.ledger.rows import winner
from pipeline.study.live import print_opening
from pipeline.study.messages import changed_data_line
from pipeline.study.outcome.comparison import is_comparison
from pipeline.study.outcome.summary import point_words
from pipeline.study.planning import confirmation, tunings
from pipeline.study.study_plan import StudyPlan
from pipeline.study.study_processes import StudyProcesses, study_processes
from pipeline.study.winner import winner_overrides
from pipeline.study.workers.ray import fitted_to_cluster
from pipeline.tracking.client import RecorderClient


def sweep(plan: StudyPlan, server: ForkServer | None, recorder: RecorderClient | None) -> None:
    """Start, continue or join a study until it has its trials, then report the results.

    `server` and `recorder` are those of `study_processes`.

    Raises ConfigError if a model is to be registered, but the study is a comparison.
    """
    if plan.run.register is not None and is_comparison(plan):
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
            last_lines = conclude(driver)
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
            say(console(), f"tuned  {cell}: {point_words(overrides)}")
        return overrides


def _confirm(driver: Driver, processes: StudyProcesses) -> None:
    """Train the winner again with several seeds, and report the results.

    Raises ChangedDataError if the data are no longer those that the winner was trained on.
    """
    study_plan = driver.plan
    best = winner(driver.ledger.trials(), study_plan.directions)
    if best is None:
        return
    default = driver.ledger.progress().base_row
    if default is not None and default.number == best.number:
        default = None
    overrides = winner_overrides(study_plan, best)
    plan = confirmation(study_plan, overrides, best.number)
    trained_data = driver.ledger.data_of(study_plan.trials.config(overrides))
    if trained_data not in (None, plan.data):
        raise ChangedDataError(changed_data_line(plan.base, trained_data, plan.data))
    if plan.run.verbose != 0:
        count = study_plan.options.confirm_seeds
        say(console(), f"training the best trial with {count} other seeds")
    with running_study(plan, processes) as confirming:
        path = study_plan.folder / "artifacts" / "confirmation.md"
        conclude_confirmation(confirming, default, path)
