"""A threshold by a rule, from the command line to the tables, the model and the last line."""

import contextlib
import csv
import io
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from helpers.fixture_types import Capture, Made, Train
from helpers.run_files import epochs, final_values, only_run, predictions, values_with
from helpers.sample_data import Shipped
from sklearn.metrics import f1_score, precision_score, recall_score

from pipeline.base.terminal import rounded
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.plain import plain
from pipeline.data.source import Samples
from pipeline.running.plan import RunContext, make_plan
from pipeline.running.stored_weights import read_weights
from pipeline.serving.model import Model
from pipeline.train import main

Runs = dict[str, tuple[Path, str]]
CANCER = ("model=mlp", "data=breast_cancer", "trainer.max_epochs=3", "tracking=none")
RULES = ("best_f1", "recall_at_0.99")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """One run for each rule and for 0.5, with what it printed; the seed is the same."""
    results = {}
    for rule in (*RULES, "0.5"):
        folder, output = tmp_path_factory.mktemp("rule"), io.StringIO()
        words = [*CANCER, f"metrics.threshold={rule}", f"output={folder}", "verbose=2"]
        with contextlib.redirect_stdout(output):
            assert main(words) == 0
        results[rule] = (only_run(folder), output.getvalue())
    return results


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_threshold_is_best_on_validation_rows(runs: Runs, rule: str) -> None:
    run, printed = runs[rule]
    part = Shipped("breast_cancer").prepared().validation
    assert part is not None
    samples = Shipped("breast_cancer").source().read()
    assert isinstance(samples, Samples)
    raw = samples.inputs[part.rows]
    scores, classes = Model.load(run).outputs(raw).numpy(), part.targets.numpy()
    chosen = final_values(run)["decision/threshold"]
    assert Model.load(run).decision.threshold == chosen
    if rule == "best_f1":
        every = [f1_score(classes, scores > cut) for cut in np.linspace(0.005, 0.995, 199)]
        reached = f1_score(classes, scores > chosen)
        assert reached >= max(every)
        assert [line for line in printed.splitlines() if line.startswith("threshold")] == [
            f"threshold {rounded(chosen)} (best_f1 on {len(classes)} validation rows: f1 "
            f"{reached:.4f}); 0.5 for the baselines"
        ]
        assert "\nthreshold" not in runs["0.5"][1]
    else:
        assert recall_score(classes, scores > chosen) >= 0.99
        lowest = scores[classes == 1].min()  # 99 of 100 of some thirty are all of them
        assert 0 < chosen < lowest


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_found_threshold_decides_only_the_test(runs: Runs, rule: str) -> None:
    """Its tables use it too; training and the baselines ignore the rule."""
    run, plainly = runs[rule][0], runs["0.5"][0]
    values, rows, before = final_values(run), predictions(run), final_values(plainly)
    chosen = values["decision/threshold"]
    truth = [row["target"] == "malignant" for row in rows]
    called = [row["predicted"] == "malignant" for row in rows]
    assert called == [float(row["probability of malignant"]) > chosen for row in rows]
    assert values["test/f1"] == pytest.approx(f1_score(truth, called))
    assert values["test/precision"] == pytest.approx(precision_score(truth, called))
    assert values["test/recall"] == pytest.approx(recall_score(truth, called))
    with (run / "artifacts" / "classes.csv").open(encoding="utf-8") as file:
        by_class = {row["class"]: row for row in csv.DictReader(file)}
    assert int(by_class["malignant"]["TP"]) + int(by_class["malignant"]["FP"]) == sum(called)
    for number, expected in epochs(plainly).items():
        shared = {k: v for k, v in epochs(run)[number].items() if k in expected}
        assert shared == pytest.approx(expected)
    kept = values_with(plainly, "naive/", "linear/", "best/")
    assert kept.items() <= values.items()
    assert "decision/threshold" not in before


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_study_winner_is_tested_like_its_command(runs: Runs, rule: str, tmp_path: Path) -> None:
    tree, lean = compose([*CANCER, f"metrics.threshold={rule}"]), RunContext(lean=True)
    plan = make_plan(check(tree), plain(tree), started_at=perf_counter(), context=lean)
    run, _ = runs[rule]
    again, values = read_weights(plan, run / "checkpoints" / "best.ckpt"), final_values(run)
    metrics = again.test(tmp_path).metrics
    assert metrics == {key: values[key] for key in metrics}
    name = "test_predictions.csv"
    assert (tmp_path / name).read_bytes() == (run / "artifacts" / name).read_bytes()


def test_rule_needs_a_positive_validation_row(
    train: Train, own_folder: Path, capsys: Capture
) -> None:
    parts = ["train"] * 50 + ["test"] * 21 + ["validation"] * 19
    rows = [f"{n},{'yes' if n in (3, 70) else 'no'},{part}" for n, part in enumerate(parts)]
    (own_folder / "rare.csv").write_text("\n".join(["x,y,part", *rows]), encoding="utf-8")
    words = ("data=table", "data.path=rare.csv", "data.target=y", "data.split=part")
    assert train("model=mlp", *words, "tracking=none", "metrics.threshold=best_f1") == 2
    assert capsys.readouterr().err == (
        "error: metrics.threshold=best_f1 is found on validation rows, but none of the 19 has "
        "the positive class 'yes'; set a larger data.validation\n"
    )


@pytest.mark.slow
def test_rule_works_in_double_precision(made: Made) -> None:
    run = made(*CANCER, "metrics.threshold=best_f1", "trainer.precision=64-true", "verbose=0")
    assert 0 < final_values(run)["decision/threshold"] < 1


def test_majority_baseline_ignores_the_threshold(made: Made) -> None:
    run = made(*CANCER, "metrics.threshold=0.3", "verbose=0")
    actual = [row["target"] for row in predictions(run)]
    frequent = max(set(actual), key=actual.count)
    values = final_values(run)
    assert values["naive/accuracy"] == pytest.approx(actual.count(frequent) / len(actual))
    assert values["naive/f1"] == values["naive/recall"] == 0.0
