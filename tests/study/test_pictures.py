"""Pictures of real studies: there, not blank, and left out where there is nothing to see."""

import math
import random
import resource
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from optuna.trial import Trial, TrialState
from PIL import Image

from pipeline.gallery import drawing
from pipeline.study.ledger.rows import Importances, Row, RowState
from pipeline.study.outcome.pictures import clip_map, write_study_pictures
from pipeline.study.outcome.summary import StudySummary

ONE = ["history", "importances", "lr_clip_map", "parallel_coordinates", "slices"]
OBJECTIVES = ["val/f1", "time/fit"]
CLIP, ALGORITHM = "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"
RANGES = {"norm": (0.1, 10.0), "value": (0.01, 1.0)}
STATES: dict[TrialState, RowState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def lr_epochs_clip(trials: int, *, objectives: int = 1) -> optuna.Study:
    """A study of learning rate, epochs and clipping, in which some trials diverge or are pruned."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=["maximize", "minimize"][:objectives], sampler=optuna.samplers.TPESampler(seed=1)
    )
    for _ in range(trials):
        train(study, study.ask(), objectives=objectives)
    return study


def train(study: optuna.Study, trial: Trial, *, objectives: int) -> None:
    """Let a trial come to what a network might."""
    lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
    epochs = trial.suggest_int("trainer.max_epochs", 5, 40)
    algorithm = trial.suggest_categorical(ALGORITHM, ["norm", "value"])
    name = f"{CLIP} ({algorithm})"
    clip = None
    if trial.suggest_categorical(f"{name} on", (True, False)):
        clip = trial.suggest_float(name, *RANGES[algorithm], log=True)
    noise = random.Random(trial.number).gauss(0, 0.01)
    f1 = 0.85 - 0.08 * (math.log10(lr) + 2.3) ** 2 + 0.002 * epochs + noise
    f1 -= 0.05 if clip is None else 0
    if lr > 0.03 and clip is None:
        trial.set_user_attr("reason", "diverged")
        study.tell(trial, state=TrialState.FAIL)
    elif f1 < 0.72 and objectives == 1:
        trial.report(f1, 3)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, [f1, 0.11 * epochs][:objectives])


def rows_of(study: optuna.Study) -> list[Row]:
    """The trials as the program's own plain records."""
    rows = []
    for trial in study.trials:
        texts: dict[str, str] = {}
        for name, value in trial.params.items():
            texts[name.partition(" ")[0]] = "null" if name.endswith(" on") else str(value)
        state = STATES[trial.state]
        rows.append(
            Row(
                number=trial.number,
                state=state,
                reason="pruned" if state == "pruned" else trial.user_attrs.get("reason"),
                values=tuple(trial.values) if state == "complete" else (),
                params=trial.params,
                overrides=texts,
            )
        )
    return rows


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    return lr_epochs_clip(40)


def drawn(folder: Path) -> list[str]:
    """Names of the pictures in a folder, each of which must show something."""
    paths = sorted(folder.glob("*.png"))
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
        assert pixels.std() > 5, f"{path.name} is blank"
        assert min(pixels.shape) > 200
    assert list(folder.glob(".*")) == []
    return [path.stem for path in paths]


def pictures(study: optuna.Study, folder: Path, objectives: Sequence[str]) -> list[str]:
    summary = StudySummary(
        rows=rows_of(study),
        objectives=objectives,
        directions=["max", "min"][: len(objectives)],
        folder=folder,
        importances=[shown_importances(study)] * len(objectives),
    )
    return [note for notes in write_study_pictures(study, summary, folder) for note in notes]


def shown_importances(study: optuna.Study) -> Importances:
    """Importances of which all are shown, unless there are too few trials for any."""
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    names = {name for trial in complete for name in trial.params} if len(complete) > 3 else set()
    share = 1 / max(1, len(names))
    return Importances(
        trials=len(complete),
        shares=dict.fromkeys(sorted(names), share),
        chance=dict.fromkeys(names, share / 2),
    )


def test_a_study_leaves_every_picture_and_no_trace_in_matplotlib(
    study: optuna.Study, tmp_path: Path
) -> None:
    before = dict(mpl.rcParams)
    assert pictures(study, tmp_path / "new", ["val/f1"]) == []
    assert drawn(tmp_path / "new") == ONE
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []


def test_two_objectives_get_a_front_and_a_picture_each(tmp_path: Path) -> None:
    assert pictures(lr_epochs_clip(12, objectives=2), tmp_path, OBJECTIVES) == []
    both = ["history_2", "importances_2", "pareto_front", "slices_2"]
    assert drawn(tmp_path) == sorted([*ONE, *both])


def test_a_few_trials_leave_out_the_importances_alone(tmp_path: Path) -> None:
    (note,) = pictures(lr_epochs_clip(2), tmp_path, ["val/f1"])
    assert note == "no picture importances: too few trials (2 complete)"
    assert drawn(tmp_path) == [name for name in ONE if name != "importances"]


@pytest.mark.parametrize(
    "end", [{"state": TrialState.FAIL}, {"values": float("inf")}, {"values": float("-inf")}]
)
def test_a_study_without_a_value_that_is_a_number_has_no_pictures(
    end: dict[str, Any], tmp_path: Path
) -> None:
    study = optuna.create_study()
    for _ in range(3):
        study.tell(study.ask(), **end)
    assert pictures(study, tmp_path / "none", ["val/f1"]) == ["no pictures: no trial has completed"]
    assert not (tmp_path / "none").exists()


def test_parameters_and_values_that_never_change_can_be_drawn(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    for _ in range(5):
        trial = study.ask()
        trial.suggest_categorical("model.hidden", ["[64]"])
        trial.suggest_float("optimizer.lr", 0.01, 0.01, log=True)
        study.tell(trial, 0.5)
    assert pictures(study, tmp_path, ["val/f1"]) == []
    assert drawn(tmp_path) == [name for name in ONE if name != "lr_clip_map"]


def test_a_picture_that_cannot_be_drawn_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "history.png").mkdir()
    notes = pictures(lr_epochs_clip(1), tmp_path, ["val/f1"])
    assert [note.partition(":")[0] for note in notes] == [
        "no picture history",
        "no picture importances",
    ]
    (tmp_path / "history.png").rmdir()
    assert drawn(tmp_path) == ["lr_clip_map", "parallel_coordinates", "slices"]


def test_the_map_has_a_panel_an_algorithm_with_a_band_for_off_and_a_point_a_trial(
    study: optuna.Study,
) -> None:
    rows = rows_of(study)
    with drawing():
        figure = clip_map(rows, objective="val/f1", minimise=False, algorithm="norm")
        axes = figure.axes[:-1]  # the last is the colour bar
        places = [
            [(float(x), float(y)) for held in one.collections for x, y in held.get_offsets()]
            for one in axes
        ]
        assert [one.get_title() for one in axes[::2]] == ["clipping by norm", "clipping by value"]
        for band, field in zip(axes[::2], axes[1::2], strict=True):
            assert [label.get_text() for label in band.get_yticklabels()] == ["off"]
            assert (field.get_xscale(), field.get_yscale()) == ("log", "log")
    off = [row for row in rows if row.overrides[CLIP] == "null"]
    assert sum(map(len, places[::2])) == len(off)
    assert sum(map(len, places[1::2])) == len(rows) - len(off) + 1  # the star lies on its point
    expected = {
        (float(row.overrides["optimizer.lr"]), float(row.overrides[CLIP]))
        for row in rows
        if row.overrides[CLIP] != "null"
    }
    assert {*places[1], *places[3]} == expected


def test_pictures_without_room_on_the_disk_are_named_and_leave_no_file(
    study: optuna.Study, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        notes = pictures(study, tmp_path / "full", ["val/f1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(note.split(": ")[0] for note in notes) == [f"no picture {one}" for one in ONE]
    assert all("File too large" in note for note in notes)
    assert list((tmp_path / "full").iterdir()) == []


def test_nothing_large_is_imported_for_the_end_of_a_study_once_its_driver_has_loaded(
    tmp_path: Path,
) -> None:
    script = """
    import sys, optuna
    from pathlib import Path
    from pipeline.study.ledger.rows import Row, importances
    from pipeline.study.outcome.pictures import load, write_study_pictures
    from pipeline.study.outcome.summary import StudySummary
    load(importances=True)
    study, rows = optuna.create_study(), []
    study.optimize(lambda trial: trial.suggest_float("optimizer.lr", 1e-3, 1, log=True), 10)
    before = {name.partition(".")[0] for name in sys.modules}
    found = importances(study.trials, minimizes=True)
    rows = [Row(number=n, state="complete", values=(0.5,)) for n in range(10)]
    told = {"objectives": ["val/loss"], "directions": ["min"], "importances": [found]}
    summary = StudySummary(rows=rows, folder=Path(), **told)
    list(write_study_pictures(study, summary, Path()))
    print(*{name.partition(".")[0] for name in sys.modules} - before)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    printed = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert not {"matplotlib", "optuna", "pandas", "scipy", "sklearn"} & {*printed.split()}
    assert "slices" in drawn(tmp_path)


def test_a_font_with_the_letters_is_found_where_ours_lacks_them() -> None:
    with drawing(["\ue23e lr"]) as notes:  # Matplotlib brings a font of mathematics with it
        assert (notes, mpl.rcParams["font.family"][-1]) == ([], "STIXNonUnicode")


def test_letters_that_no_font_has_are_named_and_drawn_as_boxes(tmp_path: Path) -> None:
    study = optuna.create_study()
    targets = ["\U000f4321", "other"]
    for value in (0.1, 0.2, 0.3, 0.4):
        study.enqueue_trial({"data.target": targets[value > 0.2]})
        trial = study.ask()
        trial.suggest_categorical("data.target", targets)
        study.tell(trial, value)
    (note,) = pictures(study, tmp_path, ["val/loss"])
    assert note == "no font here has the letters \U000f4321; the pictures show boxes instead"
    assert "slices" in drawn(tmp_path)
