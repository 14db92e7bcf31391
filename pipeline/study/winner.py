"""The best trial of a study: its commands and experiment, its test, and the study's model."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.base.errors import ChangedDataError, EnvironmentFaultError
from pipeline.base.paths import CHECKPOINTS, create_folder, replace_text
from pipeline.serving.files import FOLDER
from pipeline.study.driver import Driver
from pipeline.study.ledger.rows import Row
from pipeline.study.messages import KEPT, TestJob
from pipeline.study.outcome.summary import TESTED, experiment_command, train_command
from pipeline.study.space.trial_words import train_words, winner_yaml
from pipeline.study.study_plan import StudyPlan
from pipeline.tracking.journal_events import ModelScore

#: Fact of a study: number of the trial whose weights are the study's model.
MODEL_TRIAL = "left"


def winner_overrides(plan: StudyPlan, row: Row) -> dict[str, str]:
    """Return the overrides of a trial, with tuned values and the thread count of its process."""
    overrides = {**plan.with_tuned(row.overrides), "register": "null"}  # the study registers it
    if "threads" in row.attributes:
        overrides["trainer.threads"] = str(row.attributes["threads"])
    return overrides


def write_winner(plan: StudyPlan, overrides: Mapping[str, str]) -> tuple[str, str]:
    """Write the winner's experiment below the study's folder; return two commands that train it.

    The first has all overrides, the second names the experiment; both are quoted for a shell.
    """
    name = plan.name.removesuffix(".yaml")
    # The study itself registers the model.
    words = [word for word in train_words(plan.trials, overrides) if word != "register=null"]
    trusted = [word for word in words if word.startswith("trust=")]
    path = plan.folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, winner_yaml(plan.trials, overrides, name))
    yaml_command = experiment_command(plan.folder, name, *trusted)
    return train_command(words), yaml_command


def score_trial(
    driver: Driver,
    row: Row,
    tables: Path,
    other_work: Iterator[object],
    *,
    saves_model: bool = False,
) -> None:
    """Test the weights of a trial and record its metrics, unless that was done before.

    The test's tables are written to the folder `tables`; with `saves_model`, the weights become the
    study's model. While a worker tests, this process takes the steps of `other_work`. Raises
    ChangedDataError if the data have changed, and EnvironmentFaultError if the test fails for
    another reason.
    """
    plan = driver.plan
    facts = driver.ledger.facts
    earlier_tests = facts.get(TESTED, {})
    tests = plan.run.test and str(row.number) not in earlier_tests
    is_saved = facts.get(MODEL_TRIAL) == row.number and (plan.folder / FOLDER).is_dir()
    saves = saves_model and not is_saved
    folder = plan.trial_folder(row.number)
    # If there are no weights, the trial was trained on another machine.
    if not (tests or saves) or not (folder / CHECKPOINTS / KEPT).exists():
        return
    if tests:
        create_folder(tables)
    config = plan.trial_config(row.overrides, number=row.number)
    job = TestJob(
        folder=str(folder),
        tables_folder=str(tables) if tests else None,
        config=config,
        trust=list(plan.run.trust),
        model_folder=str(plan.folder) if saves else None,
        data=driver.ledger.data_of(config),
    )
    result = driver.pool.test(job, other_work)
    if result.problem is not None:
        problem = f"trial {row.number} can't be tested: {result.problem}"
        if result.exit_code == ChangedDataError.exit_code:
            raise ChangedDataError(problem)
        raise EnvironmentFaultError(problem)
    if result.figure is not None:
        driver.run.record_model(ModelScore(**result.figure))
        driver.ledger.set_fact(MODEL_TRIAL, row.number)
    if tests:
        test = {
            "metrics": dict(result.metrics),
            "baselines": dict(result.baselines),
            "comparison": result.comparison,
            "intervals": dict(result.intervals),
            "rows": result.rows,
        }
        driver.ledger.set_fact(TESTED, {**earlier_tests, str(row.number): test})
