"""The sentence that says whether the network or its best baseline is better."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.fixture_types import Capture, Patch
from helpers.run_files import final_values, only_run
from sklearn.metrics import f1_score

from pipeline.base.findings import Array, TestRows
from pipeline.scoring.baseline_comparison import compared_with_baselines
from pipeline.scoring.baselines import Limits
from pipeline.scoring.bootstrap import units_of

ROWS = 400
SENTENCE = re.compile(
    r"(?P<who>.+): f1 (?P<first>[\d.]+) against (?P<second>[\d.]+) \(difference (?P<by>[\d.]+), "
    r"95 % CI (?P<low>-?[\d.]+)(?:–| to )(?P<high>[\d.]+)\)"
)


def classes_wrong_in(share: float, targets: Array, *, seed: int) -> Array:
    """Probabilities of the positive class that are on the wrong side in a share of the rows."""
    is_wrong = np.random.default_rng(seed).random(len(targets)) < share
    return np.where(is_wrong, 1 - targets, targets) * 0.8 + 0.1


def sentence_of(targets: Array, outputs: Array, **baselines: Array) -> str:
    metrics = {}
    for name, predicted in baselines.items():
        metrics[f"{name}/f1"] = float(f1_score(targets, predicted > 0.5))
    return compared_with_baselines(
        TestRows(
            rows=np.arange(len(targets)), targets=targets, outputs=outputs, baselines=baselines
        ),
        metrics,
        metric="loss",
        threshold=0.5,
        thresholds=dict.fromkeys(baselines, 0.5),
        units=units_of(len(targets)),
    )


def test_nothing_is_said_of_networks_that_predict_as_the_baseline() -> None:
    """Their difference is zero in every draw of rows, which has no interval."""
    targets = np.random.default_rng(0).integers(0, 2, size=ROWS)
    outputs = classes_wrong_in(0.1, targets, seed=1)
    assert sentence_of(targets, outputs, trees=outputs) == ""


@pytest.mark.parametrize(
    ("of_network", "of_trees", "who"),
    [
        (0.3, 0.1, "boosted trees are better"),
        (0.1, 0.3, "the network is better than boosted trees, the best baseline"),
        (0.2, 0.21, "no clear difference between the network and boosted trees"),
    ],
)
def test_sentence_names_the_better_side(of_network: float, of_trees: float, who: str) -> None:
    """The interval of the difference is that of an independent paired bootstrap."""
    targets = np.random.default_rng(0).integers(0, 2, size=ROWS)
    network = classes_wrong_in(of_network, targets, seed=1)
    trees = classes_wrong_in(of_trees, targets, seed=2)
    naive = np.full(ROWS, 0.4)
    match = SENTENCE.fullmatch(sentence_of(targets, network, naive=naive, trees=trees))
    assert match is not None
    assert match["who"] == who
    scores = [f1_score(targets, outputs > 0.5) for outputs in (network, trees)]
    if of_trees < of_network:
        scores.reverse()
    assert [float(match["first"]), float(match["second"])] == pytest.approx(scores, abs=0.006)
    generator = np.random.default_rng(3)
    differences = []
    for _ in range(2000):
        rows = generator.integers(0, ROWS, size=ROWS)
        of_rows = [f1_score(targets[rows], outputs[rows] > 0.5) for outputs in (network, trees)]
        differences.append(of_rows[0] - of_rows[1])
    ends = np.quantile(differences, [0.025, 0.975])
    if of_trees < of_network:
        ends = -ends[::-1]
    assert [float(match["low"]), float(match["high"])] == pytest.approx(ends, abs=0.015)


def test_few_blocks_give_figures_only_where_worse() -> None:
    """Twelve blocks have no interval, so that nobody is called better."""
    targets = np.random.default_rng(0).normal(size=(24, 1))
    outputs = targets + 2.0
    near = targets + 1.0

    def sentence(predicted: Array, baseline: Array) -> str:
        rmse = {"naive/rmse": float(np.sqrt(np.mean((baseline - targets) ** 2)))}
        return compared_with_baselines(
            TestRows(
                rows=np.arange(24),
                targets=targets,
                outputs=predicted,
                baselines={"naive": baseline},
            ),
            rmse,
            metric="rmse",
            threshold=0.5,
            thresholds={"naive": 0.5},
            units=units_of(24, horizon=1),
        )

    assert sentence(outputs, near) == (
        "on these 12 blocks of neighbouring rows, rmse is 1.000 for the naive prediction and "
        "2.000 for the network"
    )
    assert sentence(near, outputs) == ""


def test_metric_without_pairs_gives_way_to_the_default() -> None:
    """A run may follow a metric of the user's own, which is not drawn in pairs."""
    targets = np.random.default_rng(0).integers(0, 2, size=ROWS)
    network = classes_wrong_in(0.3, targets, seed=1)
    trees = classes_wrong_in(0.1, targets, seed=2)
    sentence = compared_with_baselines(
        TestRows(
            rows=np.arange(ROWS), targets=targets, outputs=network, baselines={"trees": trees}
        ),
        {"trees/cost": 3.0, "trees/f1": 0.9},
        metric="cost",
        threshold=0.5,
        thresholds={"trees": 0.5},
        units=units_of(ROWS),
    )
    assert sentence.startswith("boosted trees are better: f1 ")


def test_unfitted_baseline_is_a_dash_with_its_reason(
    train: Callable[..., int], own_folder: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    limits = Limits(rows=20_000, seconds=0.001)
    monkeypatch.setattr("pipeline.running.datasets.BASELINE_LIMITS", limits)
    words = ("model=mlp", "data=breast_cancer", "trainer.max_epochs=1", "tracking=none")
    assert train(*words, "verbose=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("f1 ")] == ["–"]
    assert "trees: not fitted: a fit on 340 × 30 values takes too long" in lines
    assert not any(line.startswith("baselines: ") for line in lines)
    assert "trees/f1" not in final_values(only_run(own_folder / "runs"))


def test_baselines_option_leaves_trees_out(
    train: Callable[..., int], own_folder: Path, capsys: Capture
) -> None:
    words = ("model=mlp", "data=iris", "trainer.max_epochs=2", "tracking=none", "verbose=2")
    assert train(*words, "baselines=[naive,linear]") == 0
    out = capsys.readouterr().out
    header = next(line for line in out.splitlines() if "95 % CI" in line)
    assert header.split()[-2:] == ["naive", "linear"]
    values = final_values(only_run(own_folder / "runs"))
    assert "linear/f1" in values
    assert "trees/f1" not in values
    assert train(*words, "baselines=[tree,naive]") == 2
    assert capsys.readouterr().err == (
        "error: baselines: 'tree' is unknown; expected some of linear, mean, naive, seasonal, "
        "trees. Did you mean 'trees'?\n"
    )
