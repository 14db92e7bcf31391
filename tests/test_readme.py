"""The README: its commands run as they stand, and every figure, link and promise is true."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from printed import blocks, differences

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
COMMANDS = (
    "pip install -e . && python -m pipeline.train model=lstm",
    "pip install -e '.[test]' && pytest",
)
RESULT_ROW = re.compile(r"│ (\w+) +│ +(-?[\d.]+) │ +(-?[\d.]+) │ +(-?[\d.]+) │")
MODEL_ROW = re.compile(
    r"^\| `python -m pipeline\.train (model=\S+)` \|.*\| ([\d.]+) \| ([\d.]+) \|$", re.M
)

pages = pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["english", "chinese"])


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the README's first command prints in an empty folder, without its installation."""
    words = COMMANDS[0].rpartition("&& ")[2].split()
    ended = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=tmp_path_factory.mktemp("readme"),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return ended.stdout


def result_rows(text: str) -> dict[str, list[float]]:
    return {name: [float(one) for one in values] for name, *values in RESULT_ROW.findall(text)}


@pages
def test_the_two_commands_stand_in_the_readme_as_they_are_run(page: str) -> None:
    shown = "\n".join(blocks(page, "sh")).splitlines()
    assert set(COMMANDS) <= set(shown)


@pytest.mark.slow
@pages
def test_the_first_command_prints_what_the_readme_shows(page: str, printed: str) -> None:
    assert differences(blocks(page, "text")[0], printed, tolerance=0.1) == []


@pytest.mark.slow
def test_the_results_of_the_first_command_are_those_of_the_readme(printed: str) -> None:
    shown, actual = result_rows(blocks(ENGLISH, "text")[0]), result_rows(printed)
    assert list(actual) == list(shown) == ["accuracy", "precision", "recall", "f1", "auroc"]
    for name, (network, naive, linear) in shown.items():
        assert actual[name][0] == pytest.approx(network, abs=0.02)
        assert actual[name][1] == pytest.approx(naive, abs=1e-4)
        assert actual[name][2] == pytest.approx(linear, abs=0.01)


@pages
def test_every_promise_links_to_a_test_that_exists(page: str) -> None:
    links = re.findall(r"\]\((tests/[^)#]+)#([^)]+)\)", page)
    assert len(links) >= 10
    for file, name in links:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}#{name}"


def test_both_languages_link_to_the_same_tests() -> None:
    english, chinese = (re.findall(r"\((tests/[^)]+)\)", page) for page in (ENGLISH, CHINESE))
    assert chinese == english


def test_every_model_that_ships_has_a_row_of_results() -> None:
    shown = {words.removeprefix("model=") for words, *_ in MODEL_ROW.findall(ENGLISH)}
    assert shown == {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}


@pytest.mark.slow
@pytest.mark.parametrize("row", MODEL_ROW.findall(ENGLISH), ids=lambda row: row[0])
def test_each_model_reaches_the_figures_of_its_row(
    train: Callable[..., int], own_folder: Path, row: tuple[str, str, str]
) -> None:
    words, accuracy, f1 = row
    assert train(words, "tracking=none", "verbose=0") == 0
    (journal,) = own_folder.glob("runs/*/journal.jsonl")
    values: dict[str, float] = {}
    for event in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
        values |= event.get("values", {})
    assert values["test/accuracy"] == pytest.approx(float(accuracy), abs=0.03)
    assert values["test/f1"] == pytest.approx(float(f1), abs=0.03)
