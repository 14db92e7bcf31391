"""Pictures of a training: its curves and its layers, however it went."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import figure_of, legend_of, lines_of, names_of, picture, reason
from findings_made import made_findings

from pipeline.findings import Activity, Clipping, Findings, Vitals


def with_value(findings: Findings, epoch: int, key: str, value: float) -> Findings:
    history = {one: dict(values) for one, values in findings.history.items()}
    history[epoch][key] = value
    return replace(findings, history=history)


def test_both_losses_are_drawn_as_they_were_and_the_kept_epoch_is_marked() -> None:
    findings = made_findings(epochs=12, kept=5)
    with figure_of(findings, "curves/loss") as figure:
        drawn = lines_of(figure.axes[0])
    assert set(drawn) == {"training", "validation", "kept weights: epoch 5"}
    for name, key in (("training", "train/loss"), ("validation", "val/loss")):
        assert drawn[name].get_xdata().tolist() == list(range(1, 13))
        assert drawn[name].get_ydata().tolist() == [one[key] for one in findings.history.values()]
    assert list(drawn["kept weights: epoch 5"].get_xdata()) == [5, 5]


def test_a_single_epoch_is_a_point_that_can_be_seen() -> None:
    with figure_of(made_findings(epochs=1, kept=1), "curves/loss") as figure:
        axes = figure.axes[0]
        assert lines_of(axes)["training"].get_marker() == "o"
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_values_that_are_missing_or_infinite_are_gaps() -> None:
    findings = with_value(made_findings(epochs=6), 3, "val/loss", float("nan"))
    findings = with_value(findings, 6, "train/loss", float("inf"))
    with figure_of(findings, "curves/loss") as figure:
        drawn = lines_of(figure.axes[0])
    assert np.flatnonzero(np.isnan(drawn["validation"].get_ydata())).tolist() == [2]
    assert np.flatnonzero(np.isnan(drawn["training"].get_ydata())).tolist() == [5]
    assert "nan" not in picture(findings, "curves/loss").alt


def test_a_loss_that_blows_up_is_drawn_in_decades_and_the_picture_says_what_happened() -> None:
    findings = with_value(made_findings(epochs=6, end="diverged", kept=None), 6, "val/loss", 1e9)
    with figure_of(findings, "curves/loss") as figure:
        assert figure.axes[0].get_yscale() == "log"
        assert figure.axes[0].get_title() == "training diverged after these epochs"
    told = picture(findings, "curves/loss").alt
    assert told.endswith("epoch 6 were kept; training diverged after 6 whole epochs.")


def test_a_run_that_diverged_in_its_first_epoch_says_why_there_is_no_loss() -> None:
    findings = made_findings(history={}, end="diverged", kept=None)
    assert names_of(findings, "curves") == ["curves/loss"]
    assert reason(findings, "curves/loss") == "no epoch was finished, so there is no loss to draw"


def test_all_validated_metrics_share_a_picture_and_the_deciding_one_comes_first() -> None:
    findings = made_findings(monitor="val/auroc", kept=2)
    with figure_of(findings, "curves/metrics") as figure:
        titles = [axes.get_title() for axes in figure.axes]
        (curve, mark) = figure.axes[0].lines
    assert titles == ["auroc", "accuracy", "f1"]
    assert curve.get_ydata().tolist() == [one["val/auroc"] for one in findings.history.values()]
    assert list(mark.get_xdata()) == [2, 2]


def test_without_validation_rows_there_is_no_picture_of_metrics() -> None:
    history = {1: {"train/loss": 0.5, "lr": 0.1}, 2: {"train/loss": 0.4, "lr": 0.1}}
    findings = made_findings(history=history, kept=None)
    assert names_of(findings, "curves") == ["curves/loss", "curves/lr"]
    assert picture(findings, "curves/lr").alt == "The learning rate is 0.1000 throughout."


def deep(count: int) -> Findings:
    findings = made_findings(epochs=4)
    norms = 10.0 ** -np.arange(count)[::-1] * np.ones((4, 1))
    vitals = Vitals(
        layers=tuple(f"layers.layer{index + 1}.linear" for index in range(count)),
        epochs=np.arange(1, 5),
        gradients=norms,
        updates=norms / 100,
        first=norms[0],
        sizes=np.ones(count),
    )
    return replace(findings, vitals=vitals)


@pytest.mark.parametrize("name", ["gradient_norms", "updates"])
def test_each_layer_has_its_line_on_a_log_axis(name: str) -> None:
    findings = deep(4)
    held = findings.vitals.gradients if name == "gradient_norms" else findings.vitals.updates
    with figure_of(findings, f"layers/{name}") as figure:
        axes = figure.axes[0]
        assert axes.get_yscale() == "log"
        for index in range(4):
            drawn = lines_of(axes)[f"layer{index + 1}.linear"].get_ydata()
            np.testing.assert_allclose(drawn, held[:, index])


def test_twenty_layers_have_a_colour_bar_that_names_the_first_and_the_last() -> None:
    with figure_of(deep(20), "layers/updates") as figure:
        axes, bar = figure.axes
        assert len(axes.lines) == 20
        assert len({line.get_color().tobytes() for line in axes.lines}) == 20
        names = [text.get_text() for text in bar.get_yticklabels()]
    assert (names[0], names[-1], len(names)) == ("layer1.linear", "layer20.linear", 4)


def clipped(findings: Findings, threshold: float | None, algorithm: str = "norm") -> Findings:
    how = Clipping(threshold=threshold, algorithm=algorithm, chosen=True)
    return replace(findings, clipping=how)


def test_the_clipping_threshold_is_drawn_where_it_is_a_norm() -> None:
    with figure_of(clipped(deep(3), 0.5), "layers/gradient_norms") as figure:
        line = lines_of(figure.axes[0])["clipped above 0.5 (all together)"]
        assert list(line.get_ydata()) == [0.5, 0.5]
    for none in (clipped(deep(3), None), clipped(deep(3), 0.5, "value")):
        with figure_of(none, "layers/gradient_norms") as figure:
            assert not [one for one in legend_of(figure) if "clipped" in one]
    # One far from all norms is told, and leaves the axis alone.
    with figure_of(clipped(deep(3), 1e9), "layers/gradient_norms") as figure:
        assert figure.axes[0].get_ylim()[1] < 100
        assert "clipped above 1e+09 (all together), outside this picture" in legend_of(figure)


def test_layers_without_any_gradient_say_so_in_place_of_a_picture() -> None:
    findings = deep(3)
    dead = replace(findings, vitals=replace(findings.vitals, gradients=np.zeros((4, 3))))
    expected = "no layer has a mean gradient norm that is a number above 0"
    assert reason(dead, "layers/gradient_norms") == expected


def test_dead_and_saturated_shares_are_bars_of_percent() -> None:
    made = {"units": 8, "mean": 0.5, "deviation": 0.1}
    activity = (
        Activity(layer="layers.layer1.activation", kind="ReLU", dead=0.25, saturated=0, **made),
        Activity(layer="layers.layer2.activation", kind="Tanh", dead=0, saturated=0.9, **made),
    )
    findings = made_findings(activity=activity)
    with figure_of(findings, "layers/activity") as figure:
        widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [25, 0, 0, 90]
    told = picture(findings, "layers/activity").alt
    assert told == (
        "layer1.activation (ReLU): 25% of the units dead; "
        "layer2.activation (Tanh): 90% of the values saturated."
    )


def test_a_run_of_which_nobody_has_watched_the_layers_has_no_pictures_of_them() -> None:
    assert names_of(made_findings(vitals=None, activity=()), "layers") == []
