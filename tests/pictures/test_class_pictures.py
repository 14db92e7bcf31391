"""Pictures of a classification's test: equal to scikit-learn's, whatever the classes are."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.sample_findings import Task, made_findings, of_rows, scored_rows, with_test
from pictures.drawn import axes_of, figure_of, legend_of, lines_of, names_of, picture, reason
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from pipeline.pictures.classes import precision_recall, reliability

GENERATOR = np.random.default_rng(5)
SCORES = np.round(GENERATOR.random(200), 2)  # with equal ones
OWN = GENERATOR.random(200) < SCORES


def test_precision_recall_curve_equals_scikit_learn() -> None:
    ours = precision_recall(SCORES, OWN)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(OWN, SCORES)
    np.testing.assert_allclose([ours.x[::-1], ours.y[::-1]], [recall, precision], atol=1e-12)
    assert ours.area == pytest.approx(sklearn_metrics.average_precision_score(OWN, SCORES))


def test_calibration_equals_scikit_learn() -> None:
    """Its error equals that of a loop."""
    ours = reliability(SCORES, OWN, bins=10)
    found, given = calibration_curve(OWN, SCORES, n_bins=10, strategy="uniform")
    np.testing.assert_allclose([ours.accuracy, ours.confidence], [found, given])
    off = [rows * abs(a - b) for rows, a, b in zip(ours.counts, found, given, strict=True)]
    assert ours.counts.sum() == 200
    assert ours.error == pytest.approx(sum(off) / 200)
    # From a table; statsmodels' proportion_confint(7, 10, method="wilson") gives the same.
    low, high = reliability(np.full(10, 0.5), np.arange(10) < 7, bins=1).spread
    assert (low[0], high[0]) == pytest.approx((0.39677, 0.89221), abs=1e-4)


def test_confusion_matrix_equals_scikit_learn() -> None:
    """The threshold decides in a binary task."""
    two = replace(made_findings(task="binary"), threshold=0.8)
    for findings in (made_findings(classes=7), two):
        test = scored_rows(findings)
        matrix = sklearn_metrics.confusion_matrix(test.targets, test.called(0.8))
        shares = matrix / matrix.sum(1, keepdims=True)
        cells = [text.get_text() for text in axes_of(findings, "classes/confusion").texts]
        both = zip(matrix.ravel(), shares.ravel(), strict=True)
        assert cells == [f"{count}\n{share:.0%}" for count, share in both]
    # Both curves of two classes have a mark at the threshold.
    others, found = shares[:, 1]
    precision = matrix[1, 1] / matrix[:, 1].sum()
    for name, point in {"precision_recall": (found, precision), "roc": (others, found)}.items():
        mark = lines_of(axes_of(two, f"classes/{name}"))["threshold 0.8"]
        assert (mark.x[0], mark.y[0]) == pytest.approx(point)


def test_each_class_has_a_curve_and_an_area() -> None:
    findings = made_findings(classes=3)
    test, figure = scored_rows(findings), figure_of(findings, "classes/roc")
    areas = []
    for index, name in enumerate(findings.classes):
        own, scores = test.targets == index, test.outputs[:, index]
        false, true, _ = sklearn_metrics.roc_curve(own, scores, drop_intermediate=False)
        areas.append(sklearn_metrics.roc_auc_score(own, scores))
        line = lines_of(figure.axes[0])[f"{name}: {areas[-1]:.3f}"]
        np.testing.assert_allclose([line.x, line.y], [false, true], atol=1e-12)
    assert {f"mean: {np.mean(areas):.3f}", "chance"} <= set(legend_of(figure))


def test_only_the_worst_of_many_classes_are_labelled() -> None:
    """The cells of their confusion matrix have no numbers."""
    findings = made_findings(classes=100, rows=1500)
    said = scored_rows(findings).outputs.copy()
    said[scored_rows(findings).targets == 4] = np.eye(100)[77]
    findings = with_test(findings, outputs=said)
    figure = figure_of(findings, "classes/precision_recall")
    legend = legend_of(figure)
    assert len(legend) == 10 + 2
    assert len(figure.axes[0].lines) == 100 + 2  # the others are grey
    areas = [float(one.rsplit(" ", 1)[1]) for one in legend[:10]]
    assert areas == sorted(areas)
    axes = axes_of(findings, "classes/confusion")
    assert len(axes.texts) == 0
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 25
    told = picture(findings, "classes/confusion").alt
    assert "Most frequent errors: class 4 predicted as class 77 (15 of 15)" in told


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_undrawable_class_picture_states_its_reason(task: Task) -> None:
    findings = made_findings(task=task, classes=["dog", "cat"])
    one_class = with_test(findings, targets=np.ones_like(scored_rows(findings).targets))
    outputs = scored_rows(findings).outputs.copy()
    outputs[3] = np.nan
    broken = with_test(findings, outputs=outputs)
    for name in ("roc", "precision_recall"):
        assert reason(one_class, f"classes/{name}") == "all test rows are of class 'cat'"
    for name in ("roc", "precision_recall", "calibration"):
        assert reason(broken, f"classes/{name}") == "some probabilities are NaN or infinite"
    for name in ("confusion", "calibration"):
        assert figure_of(one_class, f"classes/{name}").axes


def test_class_without_test_rows_has_no_curve() -> None:
    """The description of the picture names the class."""
    findings = made_findings(classes=4)
    findings = of_rows(findings, scored_rows(findings).targets != 2)
    legend = legend_of(figure_of(findings, "classes/roc"))
    assert not [one for one in legend if one.startswith("class 2")]
    assert "; classes without test rows: 1." in picture(findings, "classes/roc").alt


def test_regression_or_missing_test_has_no_class_pictures() -> None:
    for findings in (made_findings(task="regression"), made_findings(test=None)):
        assert names_of(findings, "classes") == []
