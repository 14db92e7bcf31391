"""Pictures of a network's inside: each architecture, names of any kind, few rows and many."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import figure_of, names_of, overlapping, picture
from findings_made import config_of, made_findings
from hydra.utils import get_class
from torch import nn

from pipeline.findings import Findings, Inside
from pipeline.gallery import gallery, write_pictures
from pipeline.inside.views import inside_of

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
SHAPES = {"mlp": (30,), "cnn1d": (24, 2), "cnn2d": (3, 12, 8)}


def network_of(model: str, *words: str) -> nn.Module:
    torch.manual_seed(0)
    words = tuple(f"model.{word}" for word in words)
    parameters = dict(config_of(f"model={model}", *words)["model"])
    network = get_class(parameters.pop("_target_"))
    return network(SHAPES.get(model, (20, 2)), 3, **parameters)


def opened(
    model: str, *words: str, labels: Sequence[str] = ("ash", "beech"), **changes: object
) -> Findings:
    """Findings of a network that nobody has trained, opened for random rows."""
    shape = SHAPES.get(model, (20, 2))
    inputs = torch.randn(len(labels), *shape, generator=torch.Generator().manual_seed(1))
    seen = Inside(
        rows=np.arange(len(labels)) * 1000,
        labels=tuple(labels),
        inputs=inputs.numpy(),
        views=inside_of(network_of(model, *words), inputs, channels=True),
    )
    kind = {1: "table", 2: "series", 3: "images"}[len(shape)]
    return made_findings(kind=kind, inside=seen, rows=30, **changes)


EXPECTED = {
    ("mlp",): ["activations"],
    ("cnn1d", "hidden=[9]"): [
        *("feature_maps", *(f"channels_layers.layer{number}" for number in (1, 2, 3))),
        *("kernels", "activations"),
    ],
    ("cnn2d", "kernel_size=[{shapes:[[1,5],[5,1],3]},3]"): [
        *("feature_maps", "channels_layers.layer1", "channels_layers.layer2", "kernels")
    ],
    ("rnn",): ["states"],
    ("gru",): ["states", "gates"],
    ("lstm", "layers=2", "bidirectional=true"): [
        "states",
        *(f"gates_layers.layer{n}_{way}" for n in (1, 2) for way in ("forward", "backward")),
    ],
}


@pytest.mark.parametrize("words", EXPECTED, ids=lambda words: words[0])
@pytest.mark.slow
@pytest.mark.parametrize("labels", [("ash",), UGLY], ids=["one row", "twelve ugly names"])
def test_every_architecture_is_drawn_with_any_names_and_no_text_on_another(
    words: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    findings = opened(*words, labels=labels, classes=labels)
    assert names_of(findings, "inside") == [f"inside/{name}" for name in EXPECTED[words]]
    for name in names_of(findings, "inside"):
        with figure_of(findings, name) as figure:
            assert overlapping(figure) == [], name
            assert any(axes.images for axes in figure.axes)


def test_a_feature_map_stands_beside_its_input_on_the_scale_of_its_layer() -> None:
    findings = opened("cnn2d")
    with figure_of(findings, "inside/feature_maps") as figure:
        drawn = [axes for axes in figure.axes if axes.images][: 2 * 3]
        titles = [axes.get_title() for axes in drawn[:3]]
        first = findings.inside.views["feature map/layers.layer1"]
        for row in range(2):
            image = drawn[3 * row + 1].images[0]
            np.testing.assert_array_equal(image.get_array(), first[row])
            assert image.get_clim() == (first.min(), first.max())
        assert np.asarray(drawn[0].images[0].get_array()).shape == (12, 8, 3)  # in its colours
    assert titles == ["input", "layer1", "layer2"]
    assert [axes.get_ylabel() for axes in drawn[::3]] == ["ash\nrow 0", "beech\nrow 1000"]


def test_gates_are_drawn_between_zero_and_one_and_states_around_zero() -> None:
    findings = opened("lstm")
    with figure_of(findings, "inside/gates") as figure:
        rows = {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel()}
        gates = ["forget gate", "input gate", "output gate"]
        names = [name.removesuffix("\nunit") for name in rows]
        assert names == ["input", *gates, "candidate", "cell", "state"]
        for name, axes in zip(names[1:], [*rows.values()][1:], strict=True):
            (image,) = axes.images
            view = findings.inside.views[f"{name}/layers.layer1"]
            np.testing.assert_array_equal(image.get_array(), view[0].T)
            low, high = image.get_clim()
            assert (low, high) == (0, 1) if "gate" in name else low == -high < 0


def test_a_picture_says_of_how_many_classes_and_rows_it_shows_some() -> None:
    labels = [f"class {number}" for number in range(12)]
    findings = opened("gru", labels=labels, classes=100)
    with figure_of(findings, "inside/states") as figure:
        assert figure.get_suptitle() == "States over time\n(3 of 12 rows, 12 of 100 classes)"
    findings = opened("mlp", "hidden=[1500]")  # so does a view that was thinned
    with figure_of(findings, "inside/activations") as figure:
        titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["input", "layer1 (1024 of 1500 values)"]


def test_values_that_are_no_numbers_leave_gaps_and_nothing_at_all_yields_nothing(tmp_path) -> None:
    findings = opened("lstm")
    broken = {name: np.full_like(values, np.nan) for name, values in findings.inside.views.items()}
    findings = replace(findings, inside=replace(findings.inside, views=broken))
    written = write_pictures(gallery(findings), tmp_path)
    inside = [one for one in written if one.name.startswith("inside/")]
    assert [(one.file != "", one.reason) for one in inside] == [(True, "")] * 2
    assert names_of(made_findings(), "inside") == []


def test_the_words_of_a_picture_hold_its_rows_and_the_range_of_each_layer() -> None:
    findings = opened("mlp", "hidden=[4]")
    values = findings.inside.views["activation/layers.layer1"]
    told = picture(findings, "inside/activations").alt
    assert told == (
        "2 rows (ash, beech) and what each unit gives: layers.layer1 from "
        f"{values.min():.3g} to {values.max():.3g}."
    )
