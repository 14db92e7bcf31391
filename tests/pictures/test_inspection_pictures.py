"""A closer look at a network: its worst mistakes, and the importance of columns."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import figure_of, lines_of, names_of, picture, reason
from findings_made import made_findings
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance
from torch import Tensor

from pipeline import metrics
from pipeline.data.content import Part
from pipeline.data.encode import Code, Encoder
from pipeline.data.scale import Scaler, identity
from pipeline.data.schema import Schema
from pipeline.findings.records import Findings, Importances, Mistakes, TestRows
from pipeline.importance import importances_of
from pipeline.mistakes import worst

Network = Callable[[Tensor], Tensor]


def schema_of(count: int, **changes: object) -> Schema:
    values: dict = {
        "task": "multiclass",
        "input_shape": (count,),
        "outputs": 3,
        "classes": ("a", "b", "c"),
        "features": tuple(f"x{index}" for index in range(count)),
        "targets": (),
        "units": "",
        "window": None,
        "horizon": 1,
        "difference": None,
        "input_scaler": identity(count),
        "target_scaler": identity(3),
        "reading": {},
    }
    return Schema(**values | changes)


def classified(rows: int, weights: Tensor) -> tuple[Part, Network]:
    """Rows of which a class is told by a line, and the network that is this line."""
    inputs = torch.randn(rows, len(weights), generator=torch.Generator().manual_seed(1))
    targets = (inputs @ weights).argmax(1)
    part = Part(inputs=inputs, targets=targets, offsets=None, rows=np.arange(rows))
    return part, lambda given: given @ weights


class Asked(BaseEstimator):
    """A network as scikit-learn asks it."""

    def __init__(self, network: Network, score: Callable[[Tensor], float]) -> None:
        self.network, self.scored = network, score

    def fit(self, *_: object) -> "Asked":
        return self

    def score(self, rows: np.ndarray, _: object) -> float:
        return self.scored(self.network(torch.from_numpy(rows)))


def test_the_importances_of_classes_are_those_of_scikit_learn() -> None:
    weights = torch.zeros(5, 3)
    weights[1], weights[3] = torch.tensor([2.0, -1, 0]), torch.tensor([0.0, 0.3, -0.3])
    part, network = classified(1500, weights)
    scores = metrics.multiclass(classes=3)
    ours = importances_of(
        part, schema=schema_of(5), outputs=network, scores=scores, part_name="validation"
    )
    theirs = permutation_importance(
        Asked(network, lambda raw: float(scores(raw, part.targets)["f1"])),
        part.inputs.numpy(),  # type: ignore[union-attr] # a tensor
        part.targets.numpy(),
        n_repeats=5,
        random_state=3,
    )
    assert (ours.metric, ours.part) == ("f1", "validation")
    assert ours.columns == ("x0", "x1", "x2", "x3", "x4")
    assert ours.falls.shape == (5, 5)
    np.testing.assert_allclose(ours.falls.mean(1), theirs.importances_mean, atol=0.02)
    np.testing.assert_array_equal(ours.falls[[0, 2, 4]], 0)


def test_a_regression_is_measured_by_its_rmse_in_units() -> None:
    inputs = torch.randn(800, 3, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor([[0.0], [3.0], [1.0]])
    part = Part(inputs=inputs, targets=inputs @ weights, offsets=None, rows=np.arange(800))
    schema = schema_of(
        3,
        task="regression",
        outputs=1,
        classes=(),
        target_scaler=Scaler(shift=(5.0,), spread=(10.0,)),
    )
    ours = importances_of(
        part,
        schema=schema,
        outputs=lambda given: given @ weights,
        scores=metrics.regression(),
        part_name="train",
    )
    # A weight w on a column of deviation 1: rows that change places are off by w √2, times 10.
    expected = np.array([0, 30, 10]) * np.sqrt(2)
    np.testing.assert_allclose(ours.falls.mean(1), expected, rtol=0.06)
    assert ours.metric == "rmse"


def test_the_features_of_a_category_change_rows_together() -> None:
    plain: dict = {"fill": 0.0, "has_holes": False}
    codes = (
        Code(name="size", levels=(), kept=(), other=False, **plain),
        Code(name="colour", levels=("red", "green"), kept=(1, 0), other=True, **plain),
        Code(name="empty", levels=(), kept=(), other=False, **plain),
    )
    level = torch.arange(600) % 3
    inputs = torch.cat(
        [torch.randn(600, 1), torch.nn.functional.one_hot(level, 3), torch.zeros(600, 1)], dim=1
    )
    part = Part(inputs=inputs, targets=level, offsets=None, rows=np.arange(600))
    seen = []

    def network(given: Tensor) -> Tensor:
        seen.append(given.clone())
        return 9 * given[:, 1:4]

    ours = importances_of(
        part,
        schema=schema_of(5, features=(), encoder=Encoder(codes=codes)),
        outputs=network,
        scores=metrics.multiclass(classes=3),
        part_name="validation",
    )
    assert ours.columns == ("size", "colour", "empty")
    assert ours.falls[1].mean() == pytest.approx(2 / 3, abs=0.07)  # what is left is chance
    np.testing.assert_array_equal(ours.falls[[0, 2]], 0)
    for given in seen:
        assert given[:, 1:4].sum(1).eq(1).all(), "no row has two colours"
    assert part.inputs is inputs
    assert inputs[:, 1:4].argmax(1).eq(level).all(), "the rows are as they were"


def test_columns_of_permuted_rows_without_names_are_those_of_the_source() -> None:
    weights = torch.zeros(4, 3)
    weights[0] = torch.tensor([2.0, 0, -2])
    part, network = classified(300, weights)
    ours = importances_of(
        part,
        schema=schema_of(4, features=(), permutation=(2, 0, 3, 1)),  # column 3 comes first
        outputs=network,
        scores=metrics.multiclass(classes=3),
        part_name="validation",
    )
    assert ours.columns == ("column 1", "column 2", "column 3", "column 4")
    assert ours.falls.mean(1).argmax() == 2
    assert (ours.falls.mean(1) > 0).sum() == 1


@pytest.mark.slow
def test_of_ten_thousand_columns_the_few_that_matter_are_found_with_a_bounded_number_of_looks() -> (
    None
):
    weights = torch.zeros(10_000, 3)
    matter = [17, 4_000, 9_998]
    weights[matter] = 2 * torch.tensor([[1.0, 0, -1], [-1, 1, 0], [0, -1, 1]])
    part, network = classified(400, weights)
    looks = []

    def counted(given: Tensor) -> Tensor:
        looks.append(len(given))
        return network(given)

    ours = importances_of(
        part,
        schema=schema_of(10_000),
        outputs=counted,
        scores=metrics.multiclass(classes=3),
        part_name="validation",
    )
    measured = np.flatnonzero(np.isfinite(ours.falls).all(1))
    assert set(matter) <= set(measured.tolist())
    assert sorted(np.argsort(-np.nan_to_num(ours.falls.mean(1)))[:3].tolist()) == matter
    assert len(looks) <= 1002
    assert np.isnan(ours.falls).all(1).sum() == 10_000 - len(measured)


def importances(falls: np.ndarray, names: tuple[str, ...] | None = None) -> Importances:
    names = names or tuple(f"column {index}" for index in range(len(falls)))
    return Importances(metric="f1", part="validation", columns=names, falls=falls)


def test_the_bars_are_the_means_of_the_repeats_the_most_important_first() -> None:
    falls = np.array([[0.1, 0.3], [0.5, 0.7], [-0.1, 0.1]])
    findings = made_findings(importances=importances(falls, ("low", "high", "none")))
    with figure_of(findings, "columns/importance") as figure:
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.get_yticklabels()] == ["high", "low", "none"]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.6, 0.2, 0])
        dots = np.asarray(axes.collections[0].get_offsets())
    np.testing.assert_allclose(dots[:, 0], [0.5, 0.7, 0.1, 0.3, -0.1, 0.1])
    told = picture(findings, "columns/importance").alt
    assert "most for: high 0.6000, low 0.2000, none 0.0000" in told


def test_of_many_columns_twenty_are_drawn_and_the_title_says_what_was_measured() -> None:
    falls = np.random.default_rng(0).random((10_000, 5))
    all_measured = made_findings(importances=importances(falls))
    with figure_of(all_measured, "columns/importance") as figure:
        (axes,) = figure.axes
        assert len(axes.patches) == 20
        assert axes.get_title(loc="left") == "The 20 most important of 10,000 columns."
    falls[30:] = np.nan
    some = made_findings(importances=importances(falls))
    with figure_of(some, "columns/importance") as figure:
        assert (
            figure.axes[0]
            .get_title(loc="left")
            .startswith("Of 10,000 columns 30 were measured each")
        )


@pytest.mark.parametrize(
    ("fall", "message"),
    [
        (np.nan, "no column has an importance: f1 is no number"),
        (0.0, "no column alone changes f1 on the validation rows"),
    ],
)
def test_importances_that_tell_nothing_are_named_as_the_reason(fall: float, message: str) -> None:
    findings = made_findings(importances=importances(np.full((3, 5), fall)))
    assert reason(findings, "columns/importance") == message


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────


def test_rows_of_which_the_true_class_was_least_probable_are_the_worst() -> None:
    outputs = np.array([[0.1, 0.9, 0], [0.6, 0.4, 0], [0.5, 0.3, 0.2], [1.0, 0, 0]])
    test = TestRows(rows=np.arange(4), targets=np.array([0, 0, 2, 1]), outputs=outputs)
    # Row 1 is right; the true classes of the others were said with 0.1, 0.2 and 0.
    assert worst(test, threshold=0.5, count=8).tolist() == [3, 0, 2]
    assert worst(test, threshold=0.5, count=2).tolist() == [3, 0]


def test_in_a_binary_task_the_threshold_says_what_is_a_mistake() -> None:
    test = TestRows(
        rows=np.arange(4),
        targets=np.array([1, 1, 0, 0]),
        outputs=np.array([0.7, 0.95, 0.85, 0.2]),
    )
    assert worst(test, threshold=0.5, count=8).tolist() == [2]
    assert worst(test, threshold=0.8, count=8).tolist() == [2, 0]
    assert worst(test, threshold=1.0, count=8).tolist() == [0, 1]


def test_an_error_counts_in_deviations_of_its_own_target() -> None:
    targets = np.column_stack([np.arange(10.0), 1000 * np.arange(10.0)])
    outputs = targets.copy()
    outputs[3, 1] += 900  # less than one step of a thousand
    outputs[6, 0] -= 2  # two steps
    test = TestRows(rows=np.arange(10), targets=targets, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [6, 3]


def test_rows_of_which_no_number_was_said_are_the_worst_of_all() -> None:
    values = np.array([[1.0], [2.0], [3.0]])
    outputs = np.array([[9.0], [np.nan], [3.0]])
    test = TestRows(rows=np.arange(3), targets=values, outputs=outputs)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]
    shares = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    test = TestRows(rows=np.arange(3), targets=np.array([1, 0, 1]), outputs=shares)
    assert worst(test, threshold=0.5, count=5).tolist() == [1, 0]


def test_a_value_that_nobody_knows_is_no_mistake_and_no_rows_have_none() -> None:
    targets = np.array([[1.0], [np.nan], [1.0]])
    test = TestRows(rows=np.arange(3), targets=targets, outputs=np.array([[1.0], [2.0], [4.0]]))
    assert worst(test, threshold=0.5, count=5).tolist() == [2]
    nothing = np.empty((0, 1))
    empty = TestRows(rows=np.arange(0), targets=nothing, outputs=nothing)
    assert worst(empty, threshold=0.5, count=5).tolist() == []


def with_mistakes(findings: Findings, inputs: np.ndarray) -> Findings:
    assert findings.test is not None
    found = worst(findings.test, threshold=findings.threshold, count=len(inputs))
    return replace(findings, mistakes=Mistakes(positions=found, inputs=inputs[: len(found)]))


def test_an_image_is_shown_with_both_classes_and_their_probabilities() -> None:
    findings = with_mistakes(made_findings(kind="images", classes=5), np.random.rand(4, 1, 6, 9))
    test = findings.test
    assert test is not None
    assert findings.mistakes is not None
    with figure_of(findings, "mistakes/worst") as figure:
        titles = [axes.get_title() for axes in figure.axes]
        pixels = np.asarray(figure.axes[1].images[0].get_array())
    for title, at in zip(titles, findings.mistakes.positions, strict=True):
        true, said = test.targets[at], test.outputs[at].argmax()
        assert true != said
        assert title == (
            f"true: class {true} ({test.outputs[at, true]:.0%})\n"
            f"said: class {said} ({test.outputs[at, said]:.0%})"
        )
    np.testing.assert_allclose(pixels, findings.mistakes.inputs[1, 0])


def test_bytes_of_three_channels_are_a_picture_in_its_own_colours() -> None:
    inputs = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    findings = with_mistakes(made_findings(kind="images"), inputs)
    with figure_of(findings, "mistakes/worst") as figure:
        pixels = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(pixels, inputs[0].transpose(1, 2, 0) / 255)


def test_a_series_is_shown_with_a_line_for_each_feature() -> None:
    findings = with_mistakes(made_findings(kind="series", task="binary"), np.random.rand(3, 24, 2))
    assert findings.mistakes is not None
    with figure_of(findings, "mistakes/worst") as figure:
        drawn = lines_of(figure.axes[2])
    for index, name in enumerate(("load", "wind")):
        expected = findings.mistakes.inputs[2, :, index]
        np.testing.assert_allclose(drawn[name].get_ydata(), expected)


def test_a_forecast_is_shown_after_its_window_with_the_truth() -> None:
    findings = with_mistakes(
        made_findings(kind="series", task="regression"), np.random.rand(2, 24, 2)
    )
    test = findings.test
    assert test is not None
    assert findings.mistakes is not None
    at = findings.mistakes.positions[0]
    with figure_of(findings, "mistakes/worst") as figure:
        drawn = lines_of(figure.axes[0])
        window = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(window, findings.mistakes.inputs[0, :, 0])  # `load` alone
    for name, values in (("truth", test.targets), ("network", test.outputs)):
        assert drawn[name].get_xdata().tolist() == [24]
        np.testing.assert_allclose(drawn[name].get_ydata(), values[at])


def test_a_test_without_mistakes_says_so_in_place_of_a_picture() -> None:
    nothing = Mistakes(positions=np.arange(0), inputs=np.empty((0, 1, 8, 8)))
    findings = made_findings(kind="images", mistakes=nothing)
    assert picture(findings, "mistakes/worst").alt == "No test row was mistaken."
    assert reason(findings, "mistakes/worst") == "no test row was mistaken"


def test_the_rows_of_a_table_have_no_looks() -> None:
    assert names_of(made_findings(kind="table"), "mistakes") == []
