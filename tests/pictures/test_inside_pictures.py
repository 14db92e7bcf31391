"""Pictures of a network's inside: each architecture, names of any kind, few rows and many."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.sample_findings import made_findings
from pictures.drawn import figure_of, inside_findings, names_of, opened, picture, readable

from pipeline.pictures.gallery import gallery, write_pictures

UGLY = (
    "<b>bold</b>",
    "$x_1$",
    "_hidden",
    "Donaudampfschifffahrtsgesellschaft" * 3,
    "row\nbreak",
    "",
    r"\frac{1}{2}",
    "price $5",
    "ünïcode",
    "a_b^c",
    "%s {0}",
    "'quoted'",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        ("mlp", {}, "activations"),
        (
            "cnn1d",
            {"hidden": [9]},
            "feature_maps channels_layers.layer1 channels_layers.layer2 channels_layers.layer3 "
            "kernels activations",
        ),
        (
            "cnn2d",
            {"kernel_size": [{"shapes": [[1, 5], [5, 1], 3]}, 3]},
            "feature_maps channels_layers.layer1 channels_layers.layer2 kernels",
        ),
        ("rnn", {}, "states"),
        ("gru", {}, "states gates"),
        (
            "lstm",
            {"layers": 2, "bidirectional": True},
            "states gates_layers.layer1_forward gates_layers.layer1_backward "
            "gates_layers.layer2_forward gates_layers.layer2_backward",
        ),
    ],
)
def test_architectures_are_drawn_without_overlapping_text(
    model: str, changes: dict[str, object], expected: str
) -> None:
    """The names of classes may be of any kind."""
    # A single row draws the same pictures; two networks suffice to show that.
    for labels in (UGLY, ("ash",)) if model in ("mlp", "rnn") else (UGLY,):
        drawn = dict(readable(opened(model, labels, classes=labels, **changes), "inside/"))
        assert [*drawn] == [f"inside/{name}" for name in expected.split()]
        assert all(any(axes.images for axes in figure.axes) for figure in drawn.values())


def test_feature_map_is_beside_its_input() -> None:
    """The maps of a layer share their scale."""
    findings = opened("cnn2d")
    figure = figure_of(findings, "inside/feature_maps")
    drawn = [axes for axes in figure.axes if axes.images][: 2 * 3]
    assert [axes.get_title() for axes in drawn[:3]] == ["input", "layer1", "layer2"]
    assert [axes.get_ylabel() for axes in drawn[::3]] == ["ash\nrow 0", "beech\nrow 1000"]
    first = inside_findings(findings).views["feature map/layers.layer1"]
    for values, axes in zip(first, drawn[1::3], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values)
        assert axes.images[0].get_clim() == (first.min(), first.max())
    assert np.asarray(drawn[0].images[0].get_array()).shape == (12, 8, 3)  # in its colours


def test_gates_range_from_zero_to_one() -> None:
    """The states have a scale that is symmetric around 0."""
    findings = opened("lstm")
    drawn = [axes for axes in figure_of(findings, "inside/gates").axes if axes.get_ylabel()]
    _, *names = (axes.get_ylabel().removesuffix("\nunit") for axes in drawn)
    gates = ["forget gate", "input gate", "output gate"]
    assert names == [*gates, "candidate", "cell", "state"]
    for name, axes in zip(names, drawn[1:], strict=True):
        (image,) = axes.images
        view = inside_findings(findings).views[f"{name}/layers.layer1"]
        np.testing.assert_array_equal(image.get_array(), view[0].T)
        low, high = image.get_clim()
        assert (low, high) == (0, 1) if "gate" in name else low == -high < 0
    ticks = drawn[-1].get_xticks()
    assert ticks.tolist() == ticks.round().tolist()  # 20 steps, not 2.5


def test_picture_says_how_much_it_shows() -> None:
    """It counts classes, rows and units."""
    labels = [f"class {number}" for number in range(12)]
    findings = opened("gru", labels, classes=100)
    words = "Heat maps by step and unit for 3 of 12 rows (class 0, class 1, class 2): "
    assert picture(findings, "inside/states").alt.startswith(words)
    figure = figure_of(findings, "inside/states")
    assert figure.get_suptitle() == "States over time\n(3 of 12 rows, 12 of 100 classes)"
    figure = figure_of(opened("mlp", hidden=[1500]), "inside/activations")  # so does a view
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["input", "layer1 (1024 of 1500 values)"]


def test_nan_values_leave_gaps(tmp_path: Path) -> None:
    """Without any values there is no picture."""
    findings = opened("lstm")
    inside = inside_findings(findings)
    broken = {name: np.full_like(values, np.nan) for name, values in inside.views.items()}
    findings = replace(findings, inside=replace(inside, views=broken))
    pictures = [one for one in gallery(findings) if one.name.startswith("inside/")]
    written = write_pictures(pictures, tmp_path)
    assert [(one.file != "", one.reason) for one in written] == [(True, "")] * 2
    assert names_of(made_findings(), "inside") == []


def test_alt_text_has_rows_and_value_ranges() -> None:
    findings = opened("mlp", hidden=[4])
    values = inside_findings(findings).views["activation/layers.layer1"]
    assert picture(findings, "inside/activations").alt == (
        "Activations of the units for 2 rows (ash, beech): layers.layer1 from "
        f"{values.min():.3g} to {values.max():.3g}."
    )
