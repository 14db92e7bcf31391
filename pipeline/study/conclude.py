"""What a study came to: the winner tested once, tables and pictures, the last words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config.record import plain
from pipeline.errors import ChangedDataError, EnvironmentFaultError
from pipeline.markup import markdown, show
from pipeline.paths import create_folder, replace_text
from pipeline.running.resuming import CHECKPOINTS
from pipeline.serving.files import FOLDER
from pipeline.study.conduct import Conducted
from pipeline.study.ledger.importances import Importances
from pipeline.study.ledger.rows import Row, winner
from pipeline.study.outcome.comparison import REPEATED, compare
from pipeline.study.outcome.comparison_picture import write_comparison_picture
from pipeline.study.outcome.comparison_table import (
    comparison_table,
    confirmed_sheet,
    print_comparison,
    write_comparison,
)
from pipeline.study.outcome.ending import Ending
from pipeline.study.outcome.note import Place, comparison_note, search_note
from pipeline.study.outcome.summary import print_ending
from pipeline.study.outcome.trials_csv import write_trials
from pipeline.study.outcome.winner import Winner, write_winner
from pipeline.study.outcome.wording import counts_line
from pipeline.study.plan import StudyPlan
from pipeline.study.workers.messages import KEPT, Tested, TestJob
from pipeline.study.workers.worker_pool import WorkerPool
from pipeline.terminal import console, say
from pipeline.tracking.folders import read_state
from pipeline.tracking.journal import Figure
from pipeline.tracking.uri import where_to_look

TESTED = "tested"
LEFT = "left"
"""Number of the trial whose weights are the study's model."""


def conclude(done: Conducted, pool: WorkerPool) -> None:
    """Write down and print what a study came to; only the process that leads does."""
    if not done.leads:
        if done.plan.run.verbose != 0:
            say(console(), counts_line(done.ledger.trials()))
            say(console(), "another process works on this study and tells what it comes to")
        return
    artifacts = done.plan.folder / "artifacts"
    create_folder(artifacts)
    rows = done.ledger.trials()
    write_trials(artifacts / "trials.csv", rows, done.plan.names)
    if is_comparison(done.plan):
        _conclude_comparison(done, rows, artifacts)
    else:
        _conclude_search(done, rows, artifacts, pool)


def is_comparison(plan: StudyPlan) -> bool:
    """Tell whether a study repeats its cells over seeds or folds, rather than search for a best."""
    return plan.options.sampler == "grid" and not set(REPEATED).isdisjoint(plan.space.keys)


def _conclude_comparison(done: Conducted, rows: list[Row], artifacts: Path) -> None:
    objective = done.plan.objectives[0]
    comparison = compare(
        rows,
        objective=objective.name,
        direction=objective.direction,
        published=done.plan.options.published,
    )
    write_comparison(comparison, artifacts)
    notes = write_comparison_picture(comparison, artifacts / "comparison.png")
    sheet = comparison_table(comparison)
    done.describe(comparison_note(sheet, counts_line(rows), _place(done.plan, artifacts)))
    verbose = done.plan.run.verbose
    if verbose != 0:
        say(console(), counts_line(rows), style="bold")
        print_comparison(comparison, verbose=verbose)
        say(console(), f"tables  {artifacts} (comparison.md, .tex, .csv, .png)")
        for note in notes:
            say(console(), f"note    {note}")
        for heading, line in zip(("see it", ""), _where_to_look(done.plan), strict=False):
            say(console(), f"{heading:8}{line}")


def _conclude_search(done: Conducted, rows: list[Row], artifacts: Path, pool: WorkerPool) -> None:
    plan = done.plan
    best = winner(rows, plan.directions)
    written = None if best is None else _write_winner(plan, best)
    tested = None if best is None else _tested(done, best, pool, artifacts / "winner", leave=True)
    base = _base_row(plan, rows)
    base_tested = None
    if base is not None and best is not None and base.values and base.number != best.number:
        base_tested = _tested(done, base, pool, artifacts / "default")
    importances = done.ledger.importances()
    ending = Ending(
        rows=rows,
        objectives=plan.names,
        directions=plan.directions,
        folder=plan.folder,
        seconds=done.seconds,
        importances=importances,
        base=None if base is None else base.number,
        winner=written,
        tested=_metrics(tested),
        base_tested=_metrics(base_tested),
        confirm_seeds=plan.options.confirm_seeds,
        baselines=() if tested is None else tested.baselines,
        where_to_look=_where_to_look(plan),
        notes=_draw(done, rows, importances, artifacts),
    )
    done.describe(search_note(ending, _place(plan, artifacts)))
    print_ending(ending, verbose=plan.run.verbose)


def _base_row(plan: StudyPlan, rows: list[Row]) -> Row | None:
    """Return the trial of the config as it stands, which may have been tried again."""
    if plan.base_point is None:
        return None
    point = plan.space.overrides(plan.base_point)
    tried = [row for row in rows if row.overrides == point]
    return next((row for row in tried if row.values), tried[0] if tried else None)


def _write_winner(plan: StudyPlan, row: Row) -> Winner:
    return write_winner(
        winner_overrides(plan, row),
        plan.trees,
        number=row.number,
        study=plan.name,
        folder=plan.folder,
    )


def winner_overrides(plan: StudyPlan, row: Row) -> dict[str, str]:
    """Return the run of a trial, as Hydra's texts, with what was decided in its process."""
    overrides = {**plan.with_tuned(row.overrides), "register": "null"}  # the study registers it
    if "threads" in row.attributes:
        overrides["trainer.threads"] = str(row.attributes["threads"])
    return overrides


def _tested(
    done: Conducted, row: Row, pool: WorkerPool, into: Path, *, leave: bool = False
) -> Tested | None:
    """Test the weights of a trial, or return what they came to when that was done before.

    Args:
        done: The study.
        row: The trial.
        pool: Has the workers.
        into: Folder that takes the tables.
        leave: Leave the weights as the study's model, unless that was done before.
    """
    facts = done.ledger.facts
    noted = facts.get(TESTED, {}).get(str(row.number))
    before = None if noted is None else Tested(**{**noted, "baselines": tuple(noted["baselines"])})
    tests = done.plan.run.test and before is None
    is_left = facts.get(LEFT) == row.number and (done.plan.folder / FOLDER).is_dir()
    leaves = leave and not is_left
    kept = done.plan.trial_folder(row.number) / CHECKPOINTS / KEPT
    if not (tests or leaves) or not kept.exists():  # it was trained on another machine
        return before
    tested = pool.test(_test_job(done, row, into if tests else None, leave=leaves))
    if tested.problem is not None:
        problem = f"trial {row.number} can't be tested: {tested.problem}"
        if tested.exit_code == ChangedDataError.exit_code:
            raise ChangedDataError(problem)
        raise EnvironmentFaultError(problem)
    if tested.figure is not None:
        done.left(Figure(**tested.figure))
        done.ledger.set_fact(LEFT, row.number)
    if not tests:
        return before
    noted = {"metrics": dict(tested.metrics), "baselines": list(tested.baselines)}
    done.ledger.set_fact(TESTED, {**facts.get(TESTED, {}), str(row.number): noted})
    return tested


def _test_job(done: Conducted, row: Row, into: Path | None, *, leave: bool) -> TestJob:
    plan = done.plan
    config = plan.trial_config(row.overrides, number=row.number)
    if into is not None:
        create_folder(into)
    return TestJob(
        folder=str(plan.trial_folder(row.number)),
        into=None if into is None else str(into),
        config=config,
        trust=list(plan.run.trust),
        leave=str(plan.folder) if leave else None,
        data=done.ledger.data_of(plain(config)),
    )


def _metrics(tested: Tested | None) -> Mapping[str, float]:
    return {} if tested is None else tested.metrics


def _draw(
    done: Conducted, rows: list[Row], importances: Sequence[Importances], artifacts: Path
) -> list[str]:
    from pipeline.study.outcome.pictures import write_pictures

    return write_pictures(
        done.ledger.study,
        rows,
        artifacts,
        objectives=done.plan.names,
        importances=importances,
        clip_algorithm=done.plan.run.trainer.gradient_clip_algorithm,
    )


def _place(plan: StudyPlan, artifacts: Path) -> Place:
    state = read_state(plan.folder)
    return Place(artifacts=artifacts, run_id=state.run_id, experiment_id=state.experiment_id)


def _where_to_look(plan: StudyPlan) -> tuple[str, ...]:
    experiment_id = read_state(plan.folder).experiment_id
    return () if plan.uri is None or not experiment_id else where_to_look(plan.uri, experiment_id)


def conclude_confirmation(again: Conducted, done: Conducted, best: Row) -> None:
    """Print the winner over several seeds, and write the table beside the study's others.

    Args:
        again: The study over the seeds.
        done: The study that it won.
        best: The winner there.
    """
    objective = again.plan.names[0]
    base = _base_row(done.plan, done.ledger.trials())
    table = confirmed_sheet(
        again.ledger.trials(),
        objective=objective,
        direction=again.plan.directions[0],
        default=None if base is None or base.number == best.number else base,
    )
    replace_text(done.plan.folder / "artifacts" / "confirmation.md", markdown(table))
    if again.plan.run.verbose != 0:
        show(console(), table)
