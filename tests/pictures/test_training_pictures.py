"""Pictures of a training: its curves and its layers, however it went."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from helpers.sample_findings import made_findings, vitals_of
from pictures.drawn import (
    axes_of,
    curves_of,
    figure_of,
    legend_of,
    lines_of,
    names_of,
    picture,
    reason,
    widths_of,
)

from pipeline.base.ends import End
from pipeline.base.findings import Activity, Clipping, Findings, Vitals


def with_value(findings: Findings, epoch: int, key: str, value: float) -> Findings:
    history = {one: dict(values) for one, values in findings.history.items()}
    history[epoch][key] = value
    return replace(findings, history=history)


def test_losses_and_kept_epoch_are_drawn() -> None:
    findings = made_findings(epochs=12, kept=5)
    drawn = lines_of(axes_of(findings, "curves/loss"))
    assert set(drawn) == {"training", "validation", "kept weights: epoch 5"}
    for name, key in (("training", "train/loss"), ("validation", "val/loss")):
        assert drawn[name].x.tolist() == list(range(1, 13))
        assert drawn[name].y.tolist() == [one[key] for one in findings.history.values()]
    assert list(drawn["kept weights: epoch 5"].x) == [5, 5]


def test_single_epoch_is_drawn_as_a_point() -> None:
    axes = axes_of(made_findings(epochs=1, kept=1), "curves/loss")
    assert lines_of(axes)["training"].marker == "o"
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_missing_or_infinite_values_are_gaps() -> None:
    findings = with_value(made_findings(epochs=6), 3, "val/loss", float("nan"))
    findings = with_value(findings, 6, "train/loss", float("inf"))
    drawn = lines_of(axes_of(findings, "curves/loss"))
    for name, epoch in (("validation", 3), ("training", 6)):
        assert np.flatnonzero(np.isnan(drawn[name].y)).tolist() == [epoch - 1]
    assert "nan" not in picture(findings, "curves/loss").alt


def test_diverged_loss_has_a_log_axis() -> None:
    """The description says what happened."""
    findings = with_value(made_findings(epochs=6, end=End.DIVERGED, kept=None), 6, "val/loss", 1e9)
    axes = axes_of(findings, "curves/loss")
    assert axes.get_yscale() == "log"
    assert axes.get_title() == "training diverged after these epochs"
    told = picture(findings, "curves/loss").alt
    assert told.startswith("In 6 epochs, the training loss went from ")
    assert " and the validation loss went from " in told
    assert told.endswith("Kept weights: epoch 6; training diverged after 6 complete epochs.")
    findings = replace(findings, history={})  # in its first epoch
    assert names_of(findings, "curves") == ["curves/loss"]
    assert reason(findings, "curves/loss") == "no epoch was completed"


def test_validation_metrics_share_a_picture() -> None:
    """The monitored metric comes first."""
    findings = made_findings(monitor="val/auroc", kept=2)
    drawn = figure_of(findings, "curves/metrics").axes
    assert [axes.get_title() for axes in drawn] == ["auroc", "accuracy", "f1"]
    curve, mark = curves_of(drawn[0])
    assert curve.y.tolist() == [one["val/auroc"] for one in findings.history.values()]
    assert list(mark.x) == [2, 2]


def test_no_validation_rows_means_no_metrics_picture() -> None:
    history = {1: {"train/loss": 0.5, "lr": 0.1}, 2: {"train/loss": 0.4, "lr": 0.1}}
    findings = made_findings(history=history, kept=None)
    assert names_of(findings, "curves") == ["curves/loss", "curves/lr"]
    assert picture(findings, "curves/lr").alt == "In 2 epochs, the learning rate stayed at 0.1."


def deep(count: int, **changes: Any) -> Findings:
    norms = 10.0 ** -np.arange(count)[::-1] * np.ones((4, 1))
    vitals = Vitals(
        layers=tuple(f"layers.layer{index + 1}.linear" for index in range(count)),
        epochs=np.arange(1, 5),
        gradients=norms,
        updates=norms / 100,
        first=norms[0],
        sizes=np.ones(count),
    )
    return made_findings(epochs=4, vitals=vitals, **changes)


@pytest.mark.parametrize(("name", "field"), [("gradient_norms", "gradients"), ("updates",) * 2])
def test_each_layer_is_a_line_on_log_axis(name: str, field: str) -> None:
    findings = deep(4)
    axes = axes_of(findings, f"layers/{name}")
    assert axes.get_yscale() == "log"
    drawn = [lines_of(axes)[f"layer{index}.linear"].y for index in (1, 2, 3, 4)]
    np.testing.assert_allclose(drawn, getattr(vitals_of(findings), field).T)


def test_many_layers_have_a_colour_bar() -> None:
    axes, bar = figure_of(deep(20), "layers/updates").axes
    colours = [curve.colour for curve in curves_of(axes)]
    assert len(set(colours)) == len(colours) == 20
    names = [text.get_text() for text in bar.get_yticklabels()]
    assert (names[0], names[-1], len(names)) == ("layer1.linear", "layer20.linear", 4)


@pytest.mark.parametrize(
    ("threshold", "algorithm", "told"),
    [
        (0.5, "norm", ["clipping threshold of the total: 0.5"]),
        (None, "norm", []),
        (0.5, "value", []),
        (1e9, "norm", ["clipping threshold of the total: 1e+09 (off the axis)"]),
    ],
)
def test_clipping_threshold_is_drawn_if_a_norm(
    threshold: float | None, algorithm: Literal["norm", "value"], told: list[str]
) -> None:
    clipping = Clipping(threshold=threshold, algorithm=algorithm, chosen=True)
    figure = figure_of(deep(3, clipping=clipping), "layers/gradient_norms")
    assert [one for one in legend_of(figure) if "clipping" in one] == told
    drawn = [curve.y.tolist() for curve in curves_of(figure.axes[0]) if curve.label in told]
    assert drawn == [[threshold, threshold]] * len(told)
    assert figure.axes[0].get_ylim()[1] < 100  # one far from all norms leaves the axis alone


def test_layers_without_gradient_state_the_reason() -> None:
    findings = deep(3)
    still = replace(vitals_of(findings), gradients=np.zeros((4, 3)))
    expected = "mean gradient norm: no layer has a finite value above 0"
    assert reason(replace(findings, vitals=still), "layers/gradient_norms") == expected


def test_dead_and_saturated_shares_are_percent_bars() -> None:
    dead = Activity(
        layer="layers.layer1.activation",
        kind="ReLU",
        units=8,
        dead=0.25,
        saturated=0,
        mean=0.5,
        deviation=0.1,
    )
    saturated = replace(
        dead, layer="layers.layer2.recurrent", kind="LSTM (tanh)", dead=0, saturated=0.9
    )
    findings = made_findings(activity=(dead, saturated))
    assert widths_of(axes_of(findings, "layers/activity")) == [25, 0, 0, 90]
    assert picture(findings, "layers/activity").alt == (
        "layer1.activation (ReLU): 25 % of the units are dead; "
        "layer2.recurrent (LSTM, tanh): 90 % of the values are saturated."
    )


def test_unwatched_layers_have_no_pictures() -> None:
    assert names_of(made_findings(vitals=None, activity=()), "layers") == []
