"""The README: its commands run as they stand, and every figure, link and promise is true."""

import csv
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Train
from helpers.printed_lines import blocks, differences
from helpers.printed_study import skeleton
from helpers.run_files import final_values, only_run
from test_published import FIGURES, TRAINED

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
TRAIN = "pipeline train model=lstm"
SWEEP = "pipeline sweep model=lstm sweeps=lr_epochs_clip"
TEST = "pip install -e '.[test]' && pytest"
RESULT_ROW = re.compile(r"^(\w+) +([\d.]+) +[\d.]+–[\d.]+ +([\d.]+) +([\d.]+)$", re.M)
MODEL_ROW = re.compile(r"^\| `pipeline train (model=\S+)` \|.*\| ([\d.]+) \| ([\d.]+) \|$", re.M)
STUDY = Path("runs") / "lr_epochs_clip-lstm-mnist1d"


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_readme_shows_the_commands_that_run(page: str) -> None:
    shown = "\n".join(blocks(page, "sh")).splitlines()
    assert {"pip install -e .", TRAIN, SWEEP} <= set(shown)
    assert f"`{TEST}`" in page


def result_rows(text: str) -> dict[str, list[float]]:
    return {name: [float(one) for one in values] for name, *values in RESULT_ROW.findall(text)}


@pytest.mark.slow
def test_first_command_prints_what_readme_shows(tmp_path: Path) -> None:
    printed = ran(TRAIN, tmp_path, sys.executable)
    shown = blocks(ENGLISH, "text")[0]
    assert differences(shown, printed, tolerance=0.1) == []
    ours, theirs = result_rows(shown), result_rows(printed)
    for name, (network, naive, linear) in ours.items():
        assert theirs[name][0] == pytest.approx(network, abs=0.02)
        assert theirs[name][1] == pytest.approx(naive, abs=1e-3)
        assert theirs[name][2] == pytest.approx(linear, abs=0.01)
    (row,) = (row[1:] for row in MODEL_ROW.findall(ENGLISH) if row[0] == "model=lstm")
    require_figures(row, final_values(only_run(tmp_path / "runs")))


def ran(words: str, folder: Path, python: str) -> str:
    """Run a command in a folder as a user does, with pictures, and return what it printed."""
    program, *rest = shlex.split(words, comments=True)
    ended = subprocess.run(
        [python, *(["-m", program] if program == "pipeline" else []), *rest],
        cwd=folder,
        env={**os.environ, "PIPELINE_PICTURES": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    return ended.stdout


@pytest.fixture(scope="module")
def study(python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The study of the second command: the folder where it ran, and what it printed."""
    folder = tmp_path_factory.mktemp("study")
    return folder, ran(SWEEP, folder, python)


@pytest.mark.slow
def test_sweep_prints_what_readme_shows(study: tuple[Path, str]) -> None:
    shown, printed = blocks(ENGLISH, "text")[1], study[1]
    assert differences(skeleton(shown), skeleton(printed), tolerance=0) == []


@pytest.mark.slow
def test_readme_steps_from_file_to_model_work(tmp_path: Path, python: str) -> None:
    lines = [line for line in "\n".join(blocks(ENGLISH, "sh")).splitlines() if "patients" in line]
    assert set(lines) <= set("\n".join(blocks(CHINESE, "sh")).splitlines())
    for line in sorted(lines, key=lambda line: "load_breast_cancer" not in line):
        ran(line, tmp_path, python)
    assert len((tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 570


@pytest.mark.slow
def test_sweep_is_no_worse_than_its_default(study: tuple[Path, str]) -> None:
    """One line says how its test metrics compare."""
    values = trial_values(study[0])
    assert max(values.values()) >= values["0"]
    said = (
        r"it is [\d.]+ better: test/f1",
        r"it is (no better|[\d.]+ worse): test/f1 .*\nreason: ",
        r"the best trial is the default ",
    )
    assert sum(bool(re.search(one, study[1])) for one in said) == 1


@pytest.mark.slow
def test_printed_command_repeats_best_trial_bit_exactly(
    study: tuple[Path, str], python: str
) -> None:
    folder, printed = study
    command = re.search(r"^again +(pipeline train .*)$", printed, re.M)
    assert command is not None
    runs = set(folder.glob("runs/*/journal.jsonl"))
    ran(f"{command[1]} verbose=0", folder, python)
    (journal,) = set(folder.glob("runs/*/journal.jsonl")) - runs
    assert final_values(journal.parent)["val/f1"] == max(trial_values(folder).values())


def trial_values(folder: Path) -> dict[str, float]:
    """What each complete trial of the study came to, unrounded."""
    with (folder / STUDY / "artifacts" / "trials.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return {row["trial"]: float(row["val/f1"]) for row in rows if row["state"] == "complete"}


@pytest.mark.slow
def test_every_trial_has_one_run_of_same_state(study: tuple[Path, str], python: str) -> None:
    words = f"pipeline runs action=check study={STUDY.name}"
    assert ran(words, study[0], python) == "20 trials, 20 runs: they agree\n"


def test_both_languages_show_equal_outputs_and_links() -> None:
    assert blocks(CHINESE, "text")[:2] == blocks(ENGLISH, "text")[:2]
    english, chinese = (re.findall(r"\((tests/[^)]+)\)", page) for page in (ENGLISH, CHINESE))
    assert chinese == english


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/reliability.md"])
def test_every_promise_links_to_a_test_that_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?:\.\./)?(tests/[^)#]+)#([^)]+)\)", text)
    assert len(links) >= 6
    for file, name in links:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}#{name}"


def test_each_result_row_is_a_shipped_model() -> None:
    shown = {words.removeprefix("model=") for words, *_ in MODEL_ROW.findall(ENGLISH)}
    assert shown
    assert shown <= {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}


def test_mistakes_print_the_shown_lines(train: Train, capsys: Capture) -> None:
    (shown,) = blocks(REFERENCE, "text")
    assert train("modle=lstm", "optimizer.lrr=0.1") == 2
    assert capsys.readouterr().err == shown


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize(
    "row",
    [row for row in MODEL_ROW.findall(ENGLISH) if row[0] != "model=lstm"],  # the first command
    ids=lambda row: row[0],
)
def test_each_model_reaches_the_figures_of_its_row(
    train: Train, own_folder: Path, row: Sequence[str]
) -> None:
    assert train(row[0], "tracking=none", "verbose=0") == 0
    require_figures(row[1:], final_values(only_run(own_folder / "runs")))


def require_figures(row: Sequence[str], values: dict[str, float]) -> None:
    """Hold the figures of a run to the accuracy and the F1 of a row."""
    found = [values["test/accuracy"], values["test/f1"]]
    assert found == pytest.approx([float(figure) for figure in row], abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figure"),
    # The others are trained, and compared with this page, by test_published.py.
    [(name, figure) for name, figure in FIGURES.items() if name not in TRAINED],
)
def test_each_experiment_reaches_the_figure_of_its_row(
    train: Train, own_folder: Path, name: str, figure: float
) -> None:
    assert train(f"experiment={name}", "tracking=none", "verbose=0") == 0
    values = final_values(only_run(own_folder / "runs"))
    if "test/rmse" in values:
        assert values["test/rmse"] == pytest.approx(figure, abs=4)
    else:
        assert values["test/accuracy"] == pytest.approx(figure, abs=0.03)
