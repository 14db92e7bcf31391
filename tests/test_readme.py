"""The README: its commands run as they stand, and every figure, link and promise is true."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from printed import blocks, differences

from pipeline.config.names import checked_lines

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
COMMANDS = (
    "pip install -e . && python -m pipeline.train model=lstm",
    "pip install -e '.[test]' && pytest",
)
RESULT_ROW = re.compile(r"│ ([a-z]\w+) +│ +(-?[\d.]+) │ +(-?[\d.]+) │ +(-?[\d.]+) │")
MODEL_ROW = re.compile(
    r"^\| `python -m pipeline\.train (model=\S+)` \|.*\| ([\d.]+) \| ([\d.]+) \|$", re.M
)
EXPERIMENT_ROW = re.compile(
    r"^\| `python -m pipeline\.train (experiment=\S+)` \|.*\| ([\d.]+) \|$", re.M
)
TOUR = [
    line
    for line in "\n".join(blocks(ENGLISH, "sh")).splitlines()
    if line.startswith("python -m pipeline.train") and not re.search("lstmm|resume=", line)
]

pages = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])


def result_rows(text: str) -> dict[str, list[float]]:
    return {name: [float(one) for one in values] for name, *values in RESULT_ROW.findall(text)}


@pages
def test_the_two_commands_stand_in_the_readme_as_they_are_run(page: str) -> None:
    shown = "\n".join(blocks(page, "sh")).splitlines()
    assert set(COMMANDS) <= set(shown)


@pytest.mark.slow
def test_the_first_command_prints_what_the_readme_shows(tmp_path: Path) -> None:
    words = COMMANDS[0].rpartition("&& python ")[2].split()
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    shown = blocks(ENGLISH, "text")[0]
    assert differences(shown, ended.stdout, tolerance=0.1) == []
    ours, theirs = result_rows(shown), result_rows(ended.stdout)
    for name, (network, naive, linear) in ours.items():
        assert theirs[name][0] == pytest.approx(network, abs=0.02)
        assert theirs[name][1] == pytest.approx(naive, abs=1e-4)
        assert theirs[name][2] == pytest.approx(linear, abs=0.01)


def test_both_languages_show_the_same_output_and_link_to_the_same_tests() -> None:
    assert blocks(CHINESE, "text")[0] == blocks(ENGLISH, "text")[0]
    english, chinese = (re.findall(r"\((tests/[^)]+)\)", page) for page in (ENGLISH, CHINESE))
    assert chinese == english


@pages
def test_every_promise_links_to_a_test_that_exists(page: str) -> None:
    links = re.findall(r"\]\((tests/[^)#]+)#([^)]+)\)", page)
    assert len(links) >= 10
    for file, name in links:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}#{name}"


def test_every_model_that_ships_has_a_row_of_results() -> None:
    shown = {words.removeprefix("model=") for words, *_ in MODEL_ROW.findall(ENGLISH)}
    assert shown == {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}


@pytest.mark.parametrize("line", TOUR)
def test_every_command_of_the_tour_names_what_there_is(line: str) -> None:
    words = shlex.split(line, comments=True)[3:]
    given = [word for word in words if "=" in word]
    assert len(checked_lines(given, config_name="train", multirun="-m" in words)) == len(given)


def test_the_mistakes_of_the_tour_are_told_as_shown(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = blocks(ENGLISH, "text")[1]
    assert train("model=lstmm", "optimizer.lrr=0.1") == 2
    assert capsys.readouterr().err == shown


def final_values(folder: Path) -> dict[str, float]:
    (journal,) = folder.glob("runs/*/journal.jsonl")
    values: dict[str, float] = {}
    for event in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
        values |= event.get("values", {})
    return values


@pytest.mark.slow
@pytest.mark.parametrize(("words", "accuracy", "f1"), MODEL_ROW.findall(ENGLISH))
def test_each_model_reaches_the_figures_of_its_row(
    train: Callable[..., int], own_folder: Path, words: str, accuracy: str, f1: str
) -> None:
    assert train(words, "tracking=none", "verbose=0") == 0
    values = final_values(own_folder)
    assert values["test/accuracy"] == pytest.approx(float(accuracy), abs=0.03)
    assert values["test/f1"] == pytest.approx(float(f1), abs=0.03)


def test_every_experiment_that_ships_has_a_row_of_figures() -> None:
    shown = {words.removeprefix("experiment=") for words, _ in EXPERIMENT_ROW.findall(ENGLISH)}
    assert shown == {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize(("words", "figure"), EXPERIMENT_ROW.findall(ENGLISH))
def test_each_experiment_reaches_the_figure_of_its_row(
    train: Callable[..., int], own_folder: Path, words: str, figure: str
) -> None:
    assert train(words, "tracking=none", "verbose=0") == 0
    values = final_values(own_folder)
    if "test/rmse" in values:
        assert values["test/rmse"] == pytest.approx(float(figure), abs=4)
    else:
        assert values["test/accuracy"] == pytest.approx(float(figure), abs=0.03)
