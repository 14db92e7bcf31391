"""Reports of real runs and studies, in MLflow and in a browser."""

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from headless import DESK, PHONE, Browser
from how_tos import work_through
from mlflow.tracking import MlflowClient
from pages import Page, require_sound
from real_browser import browser as real_browser

from pipeline.report import main
from pipeline.study.recorded_studies import Studies

pytestmark = pytest.mark.slow

STUDY = "first"


@dataclass(frozen=True)
class Place:
    """A folder in which two runs were trained and a study was made."""

    folder: Path

    def run(self, name: str) -> Path:
        (folder,) = (self.folder / "runs").glob(f"*-{name}-*")
        return folder

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def artifact(self, run_id: str, name: str, into: Path) -> str:
        return Path(self.client.download_artifacts(run_id, name, str(into))).read_text("utf-8")


Report = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def report(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Report:
    """Call the command `report` there; its exit code, and the lines of both streams."""
    monkeypatch.chdir(place.folder)

    def call(*words: str) -> tuple[int, list[str], list[str]]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def run_id(folder: Path) -> str:
    match = re.search(r'"run_id": "([0-9a-f]{32})"', (folder / "mlflow.json").read_text())
    return match[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where the steps of the page on reports were followed: the runs calm and bold, a study."""
    made = Place(tmp_path_factory.mktemp("reports"))
    work_through("report", made.folder)
    return made


def pages(place: Place) -> list[Path]:
    artifacts = place.run("bold") / "artifacts"
    study = place.folder / "runs" / STUDY / "artifacts"
    return [artifacts / "report.html", place.folder / "why.html", study / "report.html"]


def test_the_report_of_a_real_run_is_whole_and_on_the_run(place: Place, tmp_path: Path) -> None:
    folder = place.run("bold")
    content = (folder / "artifacts" / "report.html").read_text("utf-8")
    page = Page(content)
    require_sound(page)
    assert "Not all can be told" not in page.text
    assert "optimizer.lr=0.02" in page.text
    assert "val/f1 (max)" in page.text
    assert len(page.all("svg")) >= 5
    for words in ("setosa", "majority class", "logistic regression"):
        assert words in page.text
    assert place.artifact(run_id(folder), "report.html", tmp_path) == content


def test_the_report_of_a_study_tells_its_trials_and_its_seeds(
    place: Place, tmp_path: Path, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.folder / "runs" / STUDY
    page = Page((folder / "artifacts" / "report.html").read_text("utf-8"))
    require_sound(page)
    rows = [one for one in page.texts("tr") if re.match(r"\d+ (complete|pruned) ", one)]
    assert len(rows) == 6
    assert "The winner again, over 2 seeds." in page.text
    for title in ("History", "Importances", "Slices", "Parallel coordinates"):
        assert any(one.startswith(title) for one in page.texts("h3"))
    (command,) = (one for one in page.texts("code") if one.startswith("python -m pipeline.train"))
    words = command.removeprefix("python -m pipeline.train ").split()
    monkeypatch.chdir(place.folder)
    assert train(*words, "name=again", "verbose=0", "tracking=none") == 0
    winner = float(re.findall(r"The winner is trial \d+: val/f1 ([\d.]+)", page.text)[0])
    journal = (place.run("again") / "journal.jsonl").read_text()
    again = float(re.findall(r'"best/val/f1": ([\d.]+)', journal)[0])
    assert again == pytest.approx(winner, abs=5e-5)
    assert place.artifact(run_id(folder), "report.html", tmp_path) == page.content


def test_the_winner_is_confirmed_with_seeds_other_than_the_one_it_was_chosen_with(
    place: Place,
) -> None:
    studies = Studies(f"sqlite:///{place.folder}/optuna.db")
    (name,) = (one for one in studies.names() if one.startswith(f"{STUDY}-confirm-"))
    seeds = [row.params["seed"] for row in studies.open(name).trials()]
    chosen_with = studies.open(STUDY).facts["base"]["seed"]
    studies.close()
    assert len(set(seeds)) == 2
    assert chosen_with not in seeds


def test_two_real_runs_are_laid_against_each_other(place: Place, tmp_path: Path) -> None:
    page = Page((place.folder / "why.html").read_text("utf-8"))
    require_sound(page)
    assert page.texts("h1") == ["bold against calm"]
    assert "optimizer.lr 0.001 0.02" in page.text
    assert "McNemar's exact p = " in page.text
    assert len(page.all("svg")) == 2
    name = f"report-against-{place.run('calm').name}.html"
    assert place.artifact(run_id(place.run("bold")), name, tmp_path) == page.content


def test_a_run_that_lies_elsewhere_is_fetched_by_its_id(place: Place, report: Report) -> None:
    whole = run_id(place.run("calm"))
    code, lines, err = report(f"run={whole}", "folder=nowhere")
    assert code == 0, err
    file = place.folder / f"report-{whole[:8]}.html"
    assert str(file.name) in lines[-1]
    page = Page(file.read_text("utf-8"))
    require_sound(page)
    assert page.texts("h1") == ["calm"]
    assert "optimizer.lr=0.001" in page.text
    code, _, (line,) = report(f"run={'0' * 32}", "folder=nowhere")
    assert code == 2
    assert line.startswith(f"error: run '{'0' * 32}' is unknown in ")


def test_an_unknown_study_is_one_line_with_the_nearest_name(report: Report) -> None:
    code, _, (line,) = report("study=frist")
    assert code == 2
    assert line.startswith("error: study='frist' is unknown")
    assert line.endswith("Did you mean 'first'?")


def test_a_server_that_is_down_costs_one_line_and_no_report(
    place: Place, report: Report, tmp_path: Path
) -> None:
    copy = shutil.copytree(place.run("calm"), tmp_path / "copy")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    state = copy / "mlflow.json"
    state.write_text(re.sub(r'"uri": "[^"]*"', f'"uri": "{address}"', state.read_text()))
    code, _, (line,) = report(f"run={copy}")
    assert code == 0
    assert line.startswith("warning: ")
    assert address in line
    require_sound(Page((copy / "artifacts" / "report.html").read_text("utf-8")))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with real_browser(tmp_path_factory.mktemp("profile"), logs=True) as driver:
        yield Browser(driver)


FADED = """[...document.querySelectorAll('h1, h2, p, td, th, dt, dd, a, figcaption, svg text')]
    .filter(one => one.textContent.trim() && !one.closest('.card')).map(one => {
        const light = (text) => {
            const parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(x => x / 255)
                .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const style = getComputedStyle(one);
        let ground = one;
        while (ground && /rgba\\(.*, 0\\)/.test(getComputedStyle(ground).backgroundColor))
            ground = ground.parentElement;
        const ends = [light(one.closest('svg') ? style.fill : style.color),
            light(getComputedStyle(ground || document.body).backgroundColor)].sort((a, b) => b - a);
        return [(ends[0] + 0.05) / (ends[1] + 0.05), one.textContent.slice(0, 40), style.fill];
    }).filter(one => one[0] < 4.5)"""
"""Texts whose contrast with their ground is too small for weak eyes (WCAG 2, level AA)."""


def test_pages_are_read_by_day_by_night_on_a_phone_and_on_paper(
    place: Place, browser: Browser
) -> None:
    for file in pages(place):
        for width, dark in ((DESK, False), (DESK, True), (PHONE, False)):
            browser.open(file, width=width, dark=dark)
            assert browser.asks("document.documentElement.scrollWidth") <= width
            ground = browser.asks("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") is not dark
            faded = browser.asks(FADED)
            # A cell of the confusion matrix has its own ground and its own ink.
            assert [one for one in faded if not re.match(r"rgb\((11|250),", one[2])] == []
        assert browser.pdf().startswith(b"%PDF")
        assert browser.requests() == []
        assert browser.complaints() == []


def test_a_click_sorts_the_trials(place: Place, browser: Browser) -> None:
    browser.open(pages(place)[-1])
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    column = f"{rows}.map(row => row.cells[3].textContent)"
    before = browser.asks(column)
    browser.clicks("table.sortable th:nth-child(4) button")
    after = browser.asks(column)
    assert sorted(map(float, before)) == list(map(float, after))
    browser.clicks("table.sortable th:nth-child(4) button")
    assert browser.asks(column) == after[::-1]


def test_a_very_long_word_does_not_widen_the_page(browser: Browser, tmp_path: Path) -> None:
    from test_pages import nasty, of_run, of_two

    for number, page in enumerate((of_run(nasty()), of_two(nasty(), nasty(seed=2)))):
        file = tmp_path / f"{number}.html"
        file.write_text(page.content, encoding="utf-8")
        browser.open(file, width=PHONE)
        assert browser.asks("document.documentElement.scrollWidth") <= PHONE
        assert browser.complaints() == []
