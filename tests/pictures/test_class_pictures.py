"""Pictures of a classification's test: equal to scikit-learn's, whatever the classes are."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, legend_of, lines_of, names_of, picture, reason
from findings_made import made_findings, with_test
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from pipeline.pictures.classes import precision_recall, reliability

GENERATOR = np.random.default_rng(5)
SCORES = np.round(GENERATOR.random(200), 2)  # with equal ones
OWN = GENERATOR.random(200) < SCORES


def test_the_points_of_a_precision_recall_curve_are_those_of_scikit_learn() -> None:
    ours = precision_recall(SCORES, OWN)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(OWN, SCORES)
    np.testing.assert_allclose([ours.x[::-1], ours.y[::-1]], [recall, precision], atol=1e-12)
    assert ours.area == pytest.approx(sklearn_metrics.average_precision_score(OWN, SCORES))


def test_the_calibration_is_that_of_scikit_learn_and_its_error_that_of_a_loop() -> None:
    ours = reliability(SCORES, OWN, bins=10)
    found, given = calibration_curve(OWN, SCORES, n_bins=10, strategy="uniform")
    np.testing.assert_allclose([ours.found, ours.given], [found, given])
    off = [rows * abs(a - b) for rows, a, b in zip(ours.counts, found, given, strict=True)]
    assert ours.counts.sum() == 200
    assert ours.error == pytest.approx(sum(off) / 200)
    # From a table; statsmodels' proportion_confint(7, 10, method="wilson") gives the same.
    low, high = reliability(np.full(10, 0.5), np.arange(10) < 7, bins=1).spread
    assert (low[0], high[0]) == pytest.approx((0.39677, 0.89221), abs=1e-4)


def test_the_counts_of_the_confusion_matrix_are_those_of_scikit_learn() -> None:
    findings = made_findings(classes=7)
    true, said = findings.test.targets, findings.test.outputs.argmax(1)
    expected = sklearn_metrics.confusion_matrix(true, said, labels=range(7))
    with figure_of(findings, "classes/confusion") as figure:
        cells = [text.get_text().split("\n") for text in figure.axes[0].texts]
    assert [int(count) for count, _ in cells] == expected.ravel().tolist()
    shares = expected / expected.sum(1, keepdims=True)
    assert [share for _, share in cells] == [f"{share:.0%}" for share in shares.ravel()]


def test_a_binary_task_decides_by_its_threshold_and_marks_it_on_both_curves() -> None:
    findings = replace(made_findings(task="binary"), threshold=0.8)
    test = findings.test
    said = test.outputs > 0.8
    expected = sklearn_metrics.confusion_matrix(test.targets, said)
    with figure_of(findings, "classes/confusion") as figure:
        counts = [int(text.get_text().split("\n")[0]) for text in figure.axes[0].texts]
    assert counts == expected.ravel().tolist()
    (_, others), (_, found) = expected / expected.sum(1, keepdims=True)
    precision = expected[1, 1] / expected[:, 1].sum()
    points = {"precision_recall": (found, precision), "roc": (others, found)}
    for name, point in points.items():
        with figure_of(findings, f"classes/{name}") as figure:
            mark = lines_of(figure.axes[0])["at threshold 0.8"]
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(point)


def test_each_class_has_its_curve_and_the_legend_its_area() -> None:
    findings = made_findings(classes=3)
    test = findings.test
    with figure_of(findings, "classes/roc") as figure:
        drawn, legend = lines_of(figure.axes[0]), legend_of(figure)
    areas = []
    for index, name in enumerate(findings.classes):
        own, scores = test.targets == index, test.outputs[:, index]
        false, true, _ = sklearn_metrics.roc_curve(own, scores, drop_intermediate=False)
        areas.append(sklearn_metrics.roc_auc_score(own, scores))
        line = drawn[f"{name}: {areas[-1]:.3f}"]
        np.testing.assert_allclose(line.get_xdata(), false, atol=1e-12)
        np.testing.assert_allclose(line.get_ydata(), true, atol=1e-12)
    assert f"mean: {np.mean(areas):.3f}" in legend
    assert "chance" in legend


def test_of_many_classes_the_worst_ten_have_a_name_and_the_others_are_grey() -> None:
    findings = made_findings(classes=100, rows=1500)
    with figure_of(findings, "classes/precision_recall") as figure:
        legend, drawn = legend_of(figure), len(figure.axes[0].lines)
    assert len(legend) == 10 + 2
    assert drawn == 100 + 2
    areas = [float(one.rsplit(" ", 1)[1]) for one in legend[:10]]
    assert areas == sorted(areas)


def test_the_cells_of_a_hundred_classes_hold_no_numbers_and_the_text_names_the_worst() -> None:
    findings = made_findings(classes=100, rows=1500)
    said = findings.test.outputs.copy()
    said[findings.test.targets == 4] = np.eye(100)[77]
    findings = with_test(findings, outputs=said)
    with figure_of(findings, "classes/confusion") as figure:
        axes = figure.axes[0]
        assert len(axes.texts) == 0
        assert len(axes.get_xticks()) == len(axes.get_yticks()) == 25
    told = picture(findings, "classes/confusion").alt
    assert "most often confused: class 4 taken for class 77 (15 of 15)" in told


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_test_rows_of_one_class_have_no_curves_and_the_picture_says_so(task: str) -> None:
    findings = made_findings(task=task, classes=["dog", "cat"])
    findings = with_test(findings, targets=np.ones_like(findings.test.targets))
    for name, words in (("roc", "ROC curve"), ("precision_recall", "precision-recall curve")):
        expected = f"the test rows hold one class only, 'cat': there is no {words}"
        assert reason(findings, f"classes/{name}") == expected
    for name in ("confusion", "calibration"):
        with figure_of(findings, f"classes/{name}") as figure:
            assert figure.axes


def test_a_class_without_test_rows_is_left_out_of_the_curves_and_told() -> None:
    findings = made_findings(classes=4)
    test, keys = findings.test, ("rows", "targets", "outputs", "naive", "linear")
    findings = with_test(findings, **{key: getattr(test, key)[test.targets != 2] for key in keys})
    with figure_of(findings, "classes/roc") as figure:
        assert not [one for one in legend_of(figure) if one.startswith("class 2")]
    assert "1 without test rows" in picture(findings, "classes/roc").alt


def test_probabilities_that_are_no_numbers_are_named_as_the_reason() -> None:
    findings = made_findings()
    outputs = findings.test.outputs.copy()
    outputs[3] = np.nan
    findings = with_test(findings, outputs=outputs)
    for name, what in (("roc", "ROC curve"), ("calibration", "calibration")):
        expected = f"some probabilities are no numbers: there is no {what}"
        assert reason(findings, f"classes/{name}") == expected


@pytest.mark.parametrize("changes", [{"task": "regression"}, {"test": None}])
def test_a_regression_and_a_run_without_a_test_have_no_classes_to_show(changes: dict) -> None:
    assert names_of(made_findings(**changes), "classes") == []
