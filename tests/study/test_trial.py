"""What a trial comes to, and how its end is worded."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from study_workers import job_of

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.errors import ConfigError, DivergedError, Interrupted
from pipeline.running.datasets import Datasets
from pipeline.running.results import Result
from pipeline.study.trial_end import TrialEnd
from pipeline.study.workers.messages import (
    Answer,
    Gone,
    Job,
    Rung,
    Tested,
    decode,
    encode,
    read,
)
from pipeline.study.workers.trial import objective_values, one_line


def result(**kept: float) -> Result:
    """What a run has left that kept these values."""
    schema = Datasets().prepared(check(compose(["model=mlp", "data=iris"]))).schema
    return Result(
        folder=Path("run"),
        run_id=None,
        name="run",
        metrics={"time/fit": 2.5, "test/f1": 0.25},
        kept={key.replace("_", "/"): value for key, value in kept.items()},
        history={},
        classes=(),
        schema=schema,
        baselines=(),
        epochs=3,
        parameters=123,
        pruned=False,
        seconds=3.0,
        unsent=0,
        where_to_look=(),
    )


def test_the_values_come_in_the_order_of_the_objectives() -> None:
    left = result(val_f1=0.5, train_loss=1.5)
    names = ["model/parameters", "val/f1", "time/fit", "train/loss"]
    assert objective_values(left, names) == (123.0, 0.5, 2.5, 1.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_never_one_of_a_trial(value: float) -> None:
    with pytest.raises(DivergedError, match=rf"^val/f1 is {value} at the end of the trial: it"):
        objective_values(result(val_f1=value), ["val/f1"])


def test_a_value_that_no_trial_has_is_named_with_those_that_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^val/rmse has no value in the epoch that the trial keeps; expected one of "
        r"model/parameters, test/f1, time/fit, val/f1$",
    ):
        objective_values(result(val_f1=0.5), ["val/rmse"])


def test_every_problem_of_a_trial_stands_in_one_line() -> None:
    assert one_line(ConfigError("a=1 is wrong.", "b=2 is wrong.")) == "a=1 is wrong.; b=2 is wrong."
    assert one_line(Interrupted(2)) == "interrupted"
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert one_line(ValueError()) == "ValueError: no further word"


def test_a_secret_in_an_error_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    assert one_line(ValueError("the password is correct horse")).endswith("the password is ***")


def test_a_job_is_understood_as_it_was_given() -> None:
    job = job_of(rungs={3: 1, 6: 2})
    assert read(Job, json.loads(json.dumps(asdict(job)))) == job


@pytest.mark.parametrize(
    "answer",
    [
        Rung(step=3, epoch=12, value=0.1 + 0.2),
        TrialEnd(state="complete", values=(1 / 3, 2.0), attributes={"epochs": 4, "test/f1": 0.1}),
        TrialEnd(state="failed", reason="oom", message="ein Wörtchen ✗", exit_code=3),
        Tested(metrics={"test/f1": 0.7}, classes=({"name": "a b"},), baselines=("last value",)),
        Gone(message="ended by SIGKILL"),
    ],
)
def test_an_answer_is_understood_as_it_was_given(answer: Answer) -> None:
    assert decode(json.loads(json.dumps(encode(answer)))) == answer
