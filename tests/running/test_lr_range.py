"""`find_lr=true`: the ladder of rates, what is put back, what is suggested, what is refused."""

import csv
import math
import random
import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch
from helpers.config_command import written
from helpers.fixture_types import Capture, Made, Train
from helpers.run_files import epochs, events, only_run
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pipeline.base.errors import ConfigError
from pipeline.base.findings import LrCurve
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.overrides import read
from pipeline.config.plain import plain
from pipeline.pictures.gallery import drawing
from pipeline.pictures.training import lr_range
from pipeline.run import find_lr, run
from pipeline.running.command_line import Command
from pipeline.running.lr_curve import TABLE, read_curve, stored_curve, verdict, write_curve
from pipeline.running.plan import Plan, make_plan
from pipeline.running.range_test import try_rates
from pipeline.running.training import train as trained
from pipeline.tracking.fields import FIND_LR
from pipeline.tracking.folders import find_run

IRIS = ("model=mlp", "data=iris", "tracking=none", "verbose=0")
"""Three batches an epoch."""
PLAIN_SGD = ("optimizer=sgd", "optimizer.momentum=0", "trainer.gradient_clip_val=null")


def planned(*words: str) -> Plan:
    tree = compose(list(words))
    return make_plan(check(tree), plain(tree), started_at=perf_counter())


def ladder(lowest: float, highest: float, steps: int) -> list[float]:
    """Lightning's: the lowest rate first, then the rungs from the second to the last."""
    rungs = [lowest * (highest / lowest) ** (step / steps) for step in range(2, steps + 1)]
    return [lowest, *rungs]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_each_step_uses_its_learning_rate(accumulated: int) -> None:
    words = ("lr_range.lowest=0.001", "lr_range.highest=0.5", "lr_range.steps=25")
    batches = f"trainer.accumulate_grad_batches={accumulated}"
    plan, applied = planned(*IRIS, *PLAIN_SGD, "scheduler=onecycle", batches, *words), []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: applied.append(optimizer.param_groups[0]["lr"])
    )
    try:
        rates, losses = try_rates(plan)
    finally:
        hook.remove()
    assert rates == applied == pytest.approx(ladder(0.001, 0.5, 25), rel=1e-12)
    assert len(losses) == 25


def generator_states() -> list[object]:
    numpy_state = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return [torch.get_rng_state().tolist(), numpy_state, random.getstate()]


def test_range_test_is_reproducible_and_leaves_no_trace(own_folder: Path) -> None:
    words = [*IRIS, "model.dropout=0.3", "trainer.max_epochs=3"]
    trained(planned(*words, "output=untouched"), None)
    plan = planned(*words, "output=tested")
    weights = {key: value.clone() for key, value in plan.network.state_dict().items()}
    generators = generator_states()
    curve = try_rates(plan)
    after = plan.network.state_dict()
    assert all(torch.equal(after[key], weights[key]) for key in weights)
    assert generator_states() == generators
    trained(plan, None)
    first, second = (epochs(only_run(own_folder / name)) for name in ("untouched", "tested"))
    assert sorted(first) == [1, 2, 3]
    assert first == second
    assert sorted(path.name for path in own_folder.iterdir()) == ["tested", "untouched"]
    again, other = (try_rates(planned(*words, f"seed={seed}")) for seed in (0, 1))
    assert again == curve
    assert other[0] == curve[0]
    assert other[1] != curve[1]


def found_rate(run: Path) -> str:
    return str(next(event["value"] for event in events(run) if event.get("key") == "find_lr"))


def test_suggestion_is_printed_as_an_override(
    made: Made, own_folder: Path, capsys: Capture
) -> None:
    """It is recorded as well."""
    words = ("model=mlp", "data=digits", "tracking=none", "optimizer.lr=0.5", "name=f_adam")
    run = made(*words, "tags=[two words]", "find_lr=true", "lr_range.steps=60").absolute()
    printed = capsys.readouterr().out.splitlines()
    rate, folder = found_rate(run), run / "artifacts" / "find_lr"
    (suggestion,) = [line for line in printed if line.startswith("suggested: ")]
    assert suggestion.startswith(f"suggested: optimizer.lr={rate}, midway between ")
    assert suggestion.endswith("(60 steps from 0.000001 to 10)")
    assert f"picture {folder.relative_to(own_folder)}/lr_range.png" in printed
    assert (
        "train   pipeline train model=mlp data=digits tracking=none name=f_adam "
        f"'tags=[two words]' optimizer.lr={rate}" in printed
    )
    assert not any(line.startswith("kept") for line in printed)
    with (folder / "lr_range.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx(ladder(1e-6, 10, 60), rel=1e-9)
    assert (folder / "lr_range.png").read_bytes()[:4] == b"\x89PNG"
    assert not (run / "model").exists()
    assert not list(run.glob("checkpoints/*"))
    assert [event["event"] for event in events(run)] == ["begin", "tag", "end"]
    assert events(run)[-1]["status"] == "FINISHED"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("name=f_adam", "name=f_adam"),
        ("name=two words", "'name=two words'"),
        ("name=2024", "'name=\"2024\"'"),
        ("name=true", "'name=\"true\"'"),
        ("name=a,b", "'name=\"a,b\"'"),
        ("name=it's", None),
        ("name=中文", None),
    ],
)
def test_command_is_quoted_only_where_needed(typed: str, expected: str | None) -> None:
    (override,), _ = read([typed], texts=("name",), multirun=False)
    line = Command(overrides=(override.line,), config_dir=None).line()
    if expected is not None:
        assert line == f"pipeline train {expected}"
    (again,), _ = read(shlex.split(line)[2:], texts=("name",), multirun=False)
    assert again.override.value() == typed.partition("=")[2]


def test_last_run_skips_range_tests(train: Train, run: Path) -> None:
    assert train(*IRIS, "find_lr=true", "lr_range.steps=20") == 0
    assert find_run("last", run.parent).name == run.name


@pytest.mark.parametrize(
    ("lowest", "highest", "why"),
    [("1e-12", "1e-9", "stayed flat at about "), ("1e20", "1e35", "diverged at ")],
)
def test_absent_suggestion_is_explained_in_one_line(
    made: Made, capsys: Capture, lowest: str, highest: str, why: str
) -> None:
    options = (f"lr_range.lowest={lowest}", f"lr_range.highest={highest}", "model.norm=none")
    run = made(*IRIS[:3], *PLAIN_SGD, "find_lr=true", *options)
    printed = capsys.readouterr().out.splitlines()
    (message,) = [line for line in printed if line.startswith("no suggestion: ")]
    assert message.startswith(f"no suggestion: the loss {why}")
    assert "such as lr_range." in message
    assert not any(line.startswith("train ") for line in printed)
    assert found_rate(run) == "none"
    assert (run / "artifacts" / "find_lr" / "lr_range.png").exists()


def test_optimizer_without_learning_rate_is_refused(
    train: Train, tmp_path: Path, capsys: Capture
) -> None:
    files: dict[str, str | bytes] = {"optimizer/rprop.yaml": "_target_: torch.optim.Rprop\n"}
    config_words = written(tmp_path / "own", files)
    assert train(*config_words, *IRIS, "optimizer=rprop", "find_lr=true") == 2
    assert capsys.readouterr().err == (
        "error: find_lr=true searches optimizer.lr, but this optimizer's YAML has no lr; add it.\n"
    )


def test_run_and_find_lr_refuse_each_others_config() -> None:
    with pytest.raises(ConfigError, match=r"call find_lr\(config\), not run\(config\)"):
        run(compose([*IRIS, "find_lr=true"]))
    with pytest.raises(ConfigError, match=r"call run\(config\), or set find_lr=true"):
        find_lr(compose(list(IRIS)))


# ── what a curve says ───────────────────────────────────────────────────────────────────────


RATES = np.logspace(-6, 1, 100)
#: Of the valley below, smoothed over 0.3 decades: a Gaussian stays one, as wide as both are.
LOWEST, WIDTH = 10**-1.5, np.hypot(0.7, 0.3)
STEEPEST, HALFWAY = 10 ** (-1.5 - WIDTH), 10 ** (-1.5 - WIDTH / 2)


def valley(noise: float = 0.0, seed: int = 0) -> list[float]:
    """A loss of 3 with a Gaussian valley 2 deep and 0.7 decades wide, steepest at its width."""
    clean = 3 - 2 * np.exp(-0.5 * ((np.log10(RATES) + 1.5) / 0.7) ** 2)
    noise_values: np.ndarray = np.random.default_rng(seed).normal(0, noise, len(RATES))
    return list(clean + noise_values)


CURVES: dict[str, tuple[Callable[[list[float]], list[float]], int, float]] = {
    "whole": (lambda losses: losses, 100, 0.1),
    "an explosion": (lambda losses: [*losses[:80], *(10.0 ** np.arange(1, 21))], 100, 0.2),
    "no number": (lambda losses: [*losses[:80], math.nan, *losses[81:]], 80, 0.1),
}
"""What becomes of the valley, losses that are read, and how exactly."""


@pytest.mark.parametrize("case", CURVES)
def test_suggestion_lies_between_steepest_and_lowest_rate(case: str) -> None:
    change, count, exactly = CURVES[case]
    curve = read_curve(list(RATES), change(valley()))
    assert curve.steepest == pytest.approx(STEEPEST, rel=0.1)
    assert curve.lowest == pytest.approx(LOWEST, rel=exactly)
    assert curve.suggestion == pytest.approx(HALFWAY, rel=exactly)
    assert len(curve.losses) == count
    if case != "whole":
        assert curve.blown_up == pytest.approx(RATES[80], rel=0.5 if count == 100 else 0)


def test_batch_noise_hardly_moves_the_suggestion() -> None:
    """Noise alone gives no suggestion."""
    rates = list(RATES)
    suggestions = [read_curve(rates, valley(0.3, seed)).suggestion for seed in range(50)]
    assert all(rate is not None and HALFWAY / 2 < rate < HALFWAY * 2 for rate in suggestions)
    for seed in range(200):
        curve = read_curve(rates, list(np.random.default_rng(seed).normal(2.3, 0.2, 100)))
        assert (curve.suggestion, curve.blown_up) == (None, None), seed


def test_non_finite_first_loss_is_reported() -> None:
    """The picture says so too."""
    curve = read_curve([1e-6], [math.inf])
    assert verdict(curve, check(compose(list(IRIS))).lr_range) == (
        "no suggestion: the loss is NaN or infinite at the first step; look for huge or missing "
        "values in the data"
    )
    with drawing():
        (axes,) = lr_range(curve).axes
        assert [text.get_text() for text in axes.texts] == ["all losses are NaN or infinite"]


@pytest.mark.parametrize("broken", [3, 60, 100])
def test_curve_survives_writing_and_reading(tmp_path: Path, broken: int) -> None:
    rates, losses = list(RATES), [*valley(0.1)[:broken], *[math.nan] * (100 - broken)]
    curve = read_curve(rates, losses)
    write_curve(tmp_path, curve, rates, losses)
    again = stored_curve(tmp_path)
    for field in fields(LrCurve):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(curve, field.name))


def test_missing_or_damaged_file_gives_no_curve(tmp_path: Path) -> None:
    assert stored_curve(tmp_path) is None
    (tmp_path / FIND_LR).mkdir()
    heading = "step,lr,loss,smoothed\n"
    for text in ("", heading, "step,lr,loss\n1,0.1\n", "a,b\n1,2\n", "lr,loss\nx,1"):
        (tmp_path / FIND_LR / TABLE).write_text(text)
        assert stored_curve(tmp_path) is None, text


# ── at length ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_suggested_rate_beats_lower_and_higher_rates(train: Train, own_folder: Path) -> None:
    """Here a tenth of it and thirty times it."""
    words = ("model=mlp", "data=digits", "trainer.max_epochs=8", *IRIS[2:])
    assert train(*words, "find_lr=true", "output=found") == 0
    rate = float(found_rate(only_run(own_folder / "found")))
    losses = {}
    for factor in (1.0, 0.1, 30.0):
        options = (f"output=times{factor}", f"optimizer.lr={factor * rate}")
        assert train(*words, "test=false", *options) in (0, 4)
        history = epochs(only_run(own_folder / f"times{factor}")).values()
        losses[factor] = min((values["val/loss"] for values in history), default=math.inf)
    assert losses[1.0] < min(losses[0.1], losses[30.0])


@pytest.mark.slow
def test_range_test_is_recorded_in_mlflow(made: Made, own_folder: Path) -> None:
    from mlflow.tracking import MlflowClient

    rate = found_rate(made(*IRIS[:2], "find_lr=true", "verbose=0"))
    client = MlflowClient(f"sqlite:///{own_folder / 'mlflow.db'}")
    (stored,) = client.search_runs(["1"])
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["find_lr"] == rate
    assert stored.data.params["find_lr"] == "true"
    assert stored.data.metrics == {}
    paths = {entry.path for entry in client.list_artifacts(stored.info.run_id, "find_lr")}
    assert paths == {"find_lr/lr_range.csv", "find_lr/lr_range.png"}
    assert client.list_artifacts(stored.info.run_id, "model") == []
