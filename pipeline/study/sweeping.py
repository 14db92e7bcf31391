"""A whole sweep: the study, and the studies that belong to it."""

import sys
from dataclasses import replace

from pipeline.config.record import plain
from pipeline.errors import ChangedDataError, ConfigError
from pipeline.study.conclude import (
    conclude,
    conclude_confirmation,
    is_comparison,
    winner_overrides,
)
from pipeline.study.driver import Conducted, StudyProcesses, conducted, study_processes
from pipeline.study.ledger.rows import winner
from pipeline.study.live import print_opening
from pipeline.study.mlflow_recorder import MlflowRecorder
from pipeline.study.outcome.trial_text import point_words
from pipeline.study.plan import StudyPlan, confirmation, tunings
from pipeline.study.trial_end import changed_data_line
from pipeline.study.workers.ray import fitted_to_cluster
from pipeline.terminal import console, say, shown_verbosity


def sweep(plan: StudyPlan) -> None:
    """Start a study, go on with it, or join it, until it has its trials; then tell its end."""
    _require_winner(plan)
    if plan.options.launcher == "ray":
        plan = fitted_to_cluster(plan)
    print_opening(plan)
    cells = tunings(plan)
    with study_processes(plan) as processes:
        tuned = {cell: _tuned(cell, one, processes) for cell, one in cells.items()}
        with conducted(replace(plan, tuned=tuned), processes) as done:
            conclude(done, processes.pool)
            if plan.options.confirm_seeds and done.leads:
                _confirm(done, processes)
        _tell_model(plan, processes.recorder)


def _require_winner(plan: StudyPlan) -> None:
    """Refuse to register where nothing is chosen.

    Raises:
        ConfigError: The study compares, over seeds say, rather than search.
    """
    if plan.run.register is not None and is_comparison(plan):
        raise ConfigError(
            f"register={plan.run.register} needs a winner, and a comparison has none; leave it "
            "away, then train what you choose with python -m pipeline.train"
        )


def _tell_model(plan: StudyPlan, recorder: MlflowRecorder) -> None:
    """Say what became of the winner's model in MLflow."""
    if recorder.registered is not None and plan.run.verbose != 0:
        say(console(), f"model   {recorder.registered}")
    if recorder.model_problem is not None:
        print(f"warning: {recorder.model_problem}", file=sys.stderr)


def _tuned(cell: str, plan: StudyPlan, processes: StudyProcesses) -> dict[str, str]:
    """Tune one cell of a comparison, and return what is best for it."""
    with conducted(plan, processes) as done:
        best = winner(done.ledger.trials(), plan.directions)
        found = {} if best is None else dict(best.overrides)
        if shown_verbosity(plan.run.verbose):
            say(console(), f"tuned  {cell}: {point_words(found)}")
        return found


def _confirm(done: Conducted, processes: StudyProcesses) -> None:
    """Train the winner again with several seeds."""
    best = winner(done.ledger.trials(), done.plan.directions)
    if best is not None:
        overrides = winner_overrides(done.plan, best)
        plan = confirmation(done.plan, overrides, best.number)
        config = plain(done.plan.trials.config(overrides))
        known = done.ledger.data_of(config)
        if known not in (None, plan.data):
            raise ChangedDataError(changed_data_line(config, known, plan.data))
        with conducted(plan, processes) as again:
            conclude_confirmation(again, done, best)
