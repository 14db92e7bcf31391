"""Pictures of a network's inside: each architecture, names of any kind, few rows and many."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from drawn import figure_of, names_of, overlapping, picture
from findings_made import config_of, made_findings
from hydra.utils import get_class
from matplotlib.figure import Figure
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


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


LSTM_GATES = [
    f"inside/gates_layers.layer{number}_{way}"
    for number in (1, 2)
    for way in ("forward", "backward")
]


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("mlp", (), ["inside/activations"]),
        (
            "cnn1d",
            ("hidden=[9]",),
            [
                "inside/feature_maps",
                *(f"inside/channels_layers.layer{number}" for number in (1, 2, 3)),
                "inside/kernels",
                "inside/activations",
            ],
        ),
        (
            "cnn2d",
            ("kernel_size=[{shapes:[[1,5],[5,1],3]},3]",),
            [
                "inside/feature_maps",
                *(f"inside/channels_layers.layer{number}" for number in (1, 2)),
                "inside/kernels",
            ],
        ),
        ("rnn", (), ["inside/states"]),
        ("gru", (), ["inside/states", "inside/gates"]),
        ("lstm", ("layers=2", "bidirectional=true"), ["inside/states", *LSTM_GATES]),
    ],
)
@pytest.mark.slow
@pytest.mark.parametrize("labels", [("ash",), UGLY], ids=["one row", "twelve ugly names"])
def test_every_architecture_is_drawn_with_any_names_and_no_text_on_another(
    model: str, words: tuple[str, ...], expected: list[str], labels: tuple[str, ...]
) -> None:
    findings = opened(model, *words, labels=labels, classes=labels)
    assert names_of(findings, "inside") == expected
    for name in expected:
        with figure_of(findings, name) as figure:
            assert overlapping(figure) == [], name
            assert len(images(figure)) > 0


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
        assert [name.removesuffix("\nunit") for name in rows] == [
            "input",
            "forget gate",
            "input gate",
            "output gate",
            "candidate",
            "cell",
            "state",
        ]
        for name, axes in list(rows.items())[1:]:
            (image,) = axes.images
            view = findings.inside.views[f"{name.removesuffix(chr(10) + 'unit')}/layers.layer1"]
            np.testing.assert_array_equal(image.get_array(), view[0].T)
            low, high = image.get_clim()
            assert (low, high) == (0, 1) if "gate" in name else low == -high < 0


def test_a_picture_says_of_how_many_classes_and_rows_it_shows_some() -> None:
    labels = [f"class {number}" for number in range(12)]
    findings = opened("gru", labels=labels, classes=100)
    with figure_of(findings, "inside/states") as figure:
        assert figure.get_suptitle() == "States over time\n(3 of 12 rows, 12 of 100 classes)"


def test_a_view_that_was_thinned_says_so_above_its_picture() -> None:
    findings = opened("mlp", "hidden=[1500]")
    with figure_of(findings, "inside/activations") as figure:
        titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["input", "layer1 (1024 of 1500 values)"]


def test_values_that_are_no_numbers_leave_gaps_and_nothing_at_all_yields_nothing(tmp_path) -> None:
    findings = opened("lstm")
    broken = {name: np.full_like(values, np.nan) for name, values in findings.inside.views.items()}
    seen = Inside(
        rows=findings.inside.rows,
        labels=findings.inside.labels,
        inputs=findings.inside.inputs,
        views=broken,
    )
    written = write_pictures(gallery(made_findings(inside=seen, kind="series")), tmp_path)
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
