"""Pictures of studies: there, not blank, readable, and left out where there is nothing to see."""

import math
import random
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from pipeline.base.ends import End
from pipeline.metrics import Direction
from pipeline.pictures.gallery import drawing
from pipeline.study.ledger.rows import Importances, Row
from pipeline.study.outcome.pictures import study_names, study_pictures, write_study_pictures
from pipeline.study.outcome.summary import StudySummary

ONE = ["history", "importances", "lr_clip_map", "parallel_coordinates", "slices"]
OBJECTIVES = ["val/f1", "time/fit"]
DIRECTIONS: list[Direction] = ["max", "min"]
LR, EPOCHS = "optimizer.lr", "trainer.max_epochs"
CLIP, ALGORITHM = "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"
RANGES = {"norm": (0.1, 10.0), "value": (0.01, 1.0)}


def lr_epochs_clip(trials: int, *, objectives: int = 1) -> list[Row]:
    """Trials over learning rate, epochs and clipping, of which some diverge or are pruned."""
    draw = random.Random(1)
    return [trial(number, draw, objectives) for number in range(trials)]


def trial(number: int, draw: random.Random, objectives: int) -> Row:
    """A trial that came to what a network might."""
    lr, epochs = 10 ** draw.uniform(-4, -1), draw.randint(5, 40)
    algorithm = draw.choice(["norm", "value"])
    low, high = map(math.log, RANGES[algorithm])
    clip = draw.choice(["null", str(math.exp(draw.uniform(low, high)))])
    point = {LR: str(lr), EPOCHS: str(epochs), ALGORITHM: algorithm, CLIP: clip}
    f1 = 0.85 - 0.08 * (math.log10(lr) + 2.3) ** 2 + 0.002 * epochs + draw.gauss(0, 0.01)
    row = Row(number=number, state=End.COMPLETE, overrides=point)
    if lr > 0.03 and clip == "null":
        return replace(row, state=End.DIVERGED)
    if f1 < 0.72 and objectives == 1:
        return replace(row, state=End.PRUNED)
    return replace(row, values=(f1, 0.11 * epochs)[:objectives])


def of_values(key: str, points: dict[str, float]) -> list[Row]:
    """Complete trials over one key, a value for each text."""
    return [
        Row(number=number, state=End.COMPLETE, overrides={key: text}, values=(value,))
        for number, (text, value) in enumerate(points.items())
    ]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return lr_epochs_clip(40)


def summary_of(rows: Sequence[Row], objectives: Sequence[str] = ("val/f1",)) -> StudySummary:
    complete = [row for row in rows if row.state == "complete"]
    names = {key for row in complete for key in row.overrides} if len(complete) > 3 else ()
    shares = {name: 1 / place for place, name in enumerate(sorted(names), 2)}
    shown_importances = Importances(
        trials=len(complete), shares=shares, chance=dict.fromkeys(shares, 0.3)
    )
    return StudySummary(
        rows=rows,
        objectives=objectives,
        directions=DIRECTIONS[: len(objectives)],
        folder=Path(),
        importances=[shown_importances] * len(objectives),
    )


def picture_names(folder: Path) -> list[str]:
    """Names of the pictures in a folder, each of which must show something."""
    paths = sorted(folder.glob("*.png"))
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
        assert pixels.std() > 5, f"{path.name} is blank"
        assert min(pixels.shape) > 200
    assert list(folder.glob(".*")) == []
    return [path.stem for path in paths]


def pictures(summary: StudySummary, folder: Path) -> list[str]:
    return [note for notes in write_study_pictures(summary, folder) for note in notes]


def figure(summary: StudySummary, name: str) -> Figure:
    """One picture, with no text on another."""
    with drawing(study_names(summary)):
        (picture,) = (
            candidate for candidate in study_pictures(summary, "norm") if candidate.name == name
        )
        drawn_figure = picture.draw()
        drawn_figure.canvas.draw()
    return drawn_figure


def test_study_pictures_leave_matplotlib_unchanged(rows: list[Row], tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    assert pictures(summary_of(rows), tmp_path / "new") == []
    assert picture_names(tmp_path / "new") == ONE
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []


def test_two_objectives_get_a_front_and_own_pictures(tmp_path: Path) -> None:
    assert pictures(summary_of(lr_epochs_clip(12, objectives=2), OBJECTIVES), tmp_path) == []
    extra_names = ["history_2", "importances_2", "pareto_front", "slices_2"]
    assert picture_names(tmp_path) == sorted([*ONE, *extra_names])


def test_each_picture_has_a_descriptive_caption(rows: list[Row]) -> None:
    points = {"[64]": 0.7, "[8]": 0.9, "[32,16]": 0.8, "[]": 0.6}
    summary = summary_of(of_values("model.hidden", points))
    best = "Best: trial 1 (val/f1 0.9000), hidden [8]."
    assert {
        picture.name: (picture.title, picture.alt) for picture in study_pictures(summary, "norm")
    } == {
        "history": (
            "History of the trials",
            f"4 of 4 trials completed. {best} None of the 2 later trials is better.",
        ),
        "importances": (
            "Parameter importance",
            "PED-ANOVA importance for val/f1; chance is the importance of shuffled values. Above "
            "chance: model.hidden 50 % (chance 30 %).",
        ),
        "slices": ("Each parameter against the value", f"val/f1 over each parameter. {best}"),
        "parallel_coordinates": (
            "Parallel coordinates",
            "Each line is a completed trial; lines of trials with a better val/f1 are darker. "
            f"{best}",
        ),
    }
    pruned = Row(number=9, state=End.PRUNED)
    course, *_ = study_pictures(summary_of([*summary.rows, pruned]), "norm")
    marked = "4 of 5 trials completed. Pruned and failed trials are marked at the bottom. Best: "
    assert course.alt.startswith(marked)
    *_, drawn_last = study_pictures(summary_of(rows), "norm")
    words = "Dots are completed trials, coloured by val/f1. off = no clipping. Best: trial "
    assert drawn_last.alt.startswith(words)


def test_few_trials_leave_out_only_the_importances(tmp_path: Path) -> None:
    assert pictures(summary_of(lr_epochs_clip(2)), tmp_path) == []
    assert picture_names(tmp_path) == [name for name in ONE if name != "importances"]


@pytest.mark.parametrize("value", [None, math.inf, -math.inf])
def test_study_without_finite_values_has_no_pictures(value: float | None, tmp_path: Path) -> None:
    failed = [Row(number=n, state=End.ERROR) for n in range(3)]
    infinite = [replace(row, state=End.COMPLETE, values=(value or 0.0,)) for row in failed]
    summary = summary_of(failed if value is None else infinite)
    assert pictures(summary, tmp_path / "none") == ["no pictures: no trial has completed"]
    assert not (tmp_path / "none").exists()


def test_infinite_value_is_left_out_of_pictures() -> None:
    rows = of_values("key", {"1": 0.5, "2": math.inf, "3": 0.25})
    history, *_ = study_pictures(summary_of(rows), "norm")
    assert history.alt.startswith("2 of 3 trials completed. Best: trial 0 (val/f1 0.5000), key 1.")


def test_constant_parameters_and_values_can_be_drawn(tmp_path: Path) -> None:
    point = {"model.hidden": "[64]", LR: "0.01"}
    rows = [Row(number=n, state=End.COMPLETE, values=(0.5,), overrides=point) for n in range(5)]
    assert pictures(summary_of(rows), tmp_path) == []
    assert picture_names(tmp_path) == [name for name in ONE if name != "lr_clip_map"]


def test_failed_picture_affects_no_other(tmp_path: Path) -> None:
    (tmp_path / "history.png").mkdir()
    (note,) = pictures(summary_of(lr_epochs_clip(3)), tmp_path)
    assert note.startswith("no picture history: ")
    (tmp_path / "history.png").rmdir()
    assert picture_names(tmp_path) == ["lr_clip_map", "parallel_coordinates", "slices"]


@pytest.mark.parametrize(
    ("points", "ticks"),
    [
        ({"0.001": 1, "0.02": 2, "0.1": 3, "0.003": 4, "0.004": 5, "0.05": 6}, "0.001 0.01 0.1"),
        ({str(n): n for n in range(5, 41)}, "10 20 30 40"),
        ({str(n): n for n in range(10, 21)}, "12 15 18"),
        ({"null": 1, "1": 2, "2": 3}, "off 1 2"),
        ({"null": 1, "0.1618": 2, "0.3218": 3, "2.937": 4}, "off 0.2 0.5 1 2"),
        ({"4096": 1, "16384": 2}, "4096 16384"),
        ({"[64]": 1, "[8]": 2, "[]": 3, "[32,16]": 4}, "[] [8] [32,16] [64]"),
    ],
    ids=["log", "linear", "whole numbers only", "off", "long", "whole", "words"],
)
def test_axis_has_round_numbers_or_ordered_words(points: dict[str, float], ticks: str) -> None:
    """A value that is switched off comes first."""
    (axes,) = figure(summary_of(of_values("key", points)), "slices").axes
    assert " ".join(label.get_text() for label in axes.get_xticklabels()) == ticks
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(box.x1 < next_box.x0 for box, next_box in pairwise(boxes))


def test_map_has_one_panel_per_algorithm(rows: list[Row]) -> None:
    """Each has a point per trial and a band for trials without clipping."""
    *panels, _ = figure(summary_of(rows), "lr_clip_map").axes  # the last is the colour bar
    for panel, algorithm in zip(panels, RANGES, strict=True):
        panel_rows = [row for row in rows if row.overrides[ALGORITHM] == algorithm]
        dots = [collection for collection in panel.collections if collection.get_label() != "best"]
        places = [y for collection in dots for y in np.asarray(collection.get_offsets())[:, 1]]
        ends = {str(row.state) for row in panel_rows}
        assert {str(collection.get_label()) for collection in dots} == ends
        assert len(places) == len(panel_rows)
        assert sum(y < 0 for y in places) == sum(
            row.overrides[CLIP] == "null" for row in panel_rows
        )
        assert panel.get_yticklabels()[0].get_text() == "off"


def test_end_of_study_imports_no_large_library(tmp_path: Path) -> None:
    script = """
    import sys, optuna
    from pathlib import Path
    from pipeline.base.ends import End
    from pipeline.study.ledger.rows import Row, importances
    from pipeline.study.outcome.pictures import load, write_study_pictures
    from pipeline.study.outcome.summary import StudySummary
    load(importances=True)
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("optimizer.lr", 1e-3, 1, log=True), 10)
    before = {name.partition(".")[0] for name in sys.modules}
    found = importances(study.trials, minimizes=True)
    told = {"objectives": ["val/loss"], "directions": ["min"], "importances": [found]}
    point = {"a": "b"}
    rows = [Row(number=n, state=End.COMPLETE, values=(0.5,), overrides=point) for n in range(10)]
    list(write_study_pictures(StudySummary(rows=rows, folder=Path(), **told), Path()))
    print(*{name.partition(".")[0] for name in sys.modules} - before)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    printed = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert not {"matplotlib", "optuna", "pandas", "scipy", "sklearn"} & {*printed.split()}
    assert "slices" in picture_names(tmp_path)


def test_font_with_missing_letters_is_found() -> None:
    with drawing(["\ue23e lr"]) as notes:  # Matplotlib brings a font of mathematics with it
        assert (notes, mpl.rcParams["font.family"][-1]) == ([], "STIXNonUnicode")


def test_letters_without_font_are_drawn_as_boxes(tmp_path: Path) -> None:
    rows = of_values("data.target", {"\U000f4321": 0.1, "other": 0.2})
    (note,) = pictures(summary_of(rows), tmp_path)
    assert note == "no installed font has the letters \U000f4321; the pictures show boxes instead"
    assert "slices" in picture_names(tmp_path)
