"""Reports of real runs and studies, in MLflow and in a browser."""

import base64
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.chromium import browser as real_browser
from helpers.fixture_types import Capture, Patch, Train
from helpers.how_to_pages import work_through
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient
from PIL import Image
from reporting.pages import Page, require_sound

from pipeline.pictures.style import Picture, panels
from pipeline.report import main
from pipeline.reporting.page import TEMPLATES, draw_pictures
from pipeline.study.stored_studies import Studies
from pipeline.tracking.folders import read_state
from pipeline.tracking.ownership import adopt

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.slow

STUDY = "first"
PHONES, DESK = (360, 390), 1200
#: The ground of a dark page.
PAPER = (0x14, 0x17, 0x1C)

Report = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture(scope="module")
def place(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the steps of the page on reports were followed: the runs calm and bold, a study."""
    folder = tmp_path_factory.mktemp("reports")
    work_through("report", folder, python)
    return folder


@pytest.fixture
def report(place: Path, monkeypatch: Patch, capsys: Capture) -> Report:
    """Call the command `report` there; its exit code, and the lines of both streams."""
    monkeypatch.chdir(place)

    def call(*words: str) -> tuple[int, list[str], list[str]]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def run_of(place: Path, name: str) -> Path:
    (folder,) = (place / "runs").glob(f"*-{name}-*")
    return folder


def pages(place: Path) -> list[Path]:
    own = "artifacts/report.html"
    return [run_of(place, "bold") / own, place / "why.html", place / "runs" / STUDY / own]


def sound(file: Path, run: Path, name: str, into: Path) -> Page:
    """Read a page, which must be sound, and on record as an artifact of a run."""
    page = Page(file.read_text("utf-8"))
    require_sound(page)
    store = MlflowClient(f"sqlite:///{run.parents[1]}/mlflow.db")
    kept = store.download_artifacts(read_state(run).run_id, name, str(into))
    assert Path(kept).read_text("utf-8") == page.content
    return page


def test_report_of_real_run_is_complete(place: Path, tmp_path: Path) -> None:
    """It is an artifact of the run in MLflow."""
    page = sound(pages(place)[0], run_of(place, "bold"), "report.html", tmp_path)
    assert "Incomplete" not in page.text
    for words in (
        *("optimizer.lr=0.02", "val/f1 (max)"),
        *("setosa", "majority class", "logistic regression"),
    ):
        assert words in page.text
    assert len(page.all("img")) >= 5


def test_study_report_has_trials_and_seeds(
    place: Path, tmp_path: Path, train: Train, monkeypatch: Patch
) -> None:
    page = sound(pages(place)[2], place / "runs" / STUDY, "report.html", tmp_path)
    rows = [one for one in page.texts("tr") if re.match(r"\d+ (complete|pruned) ", one)]
    assert len(rows) == 6
    assert "The best trial over 2 seeds." in page.text
    assert re.search(r"(Best trial \d+: .* than|best trial is) the default \(", page.text)
    for title in ("History", "Each parameter against", "Parallel coordinates"):
        assert any(one.startswith(title) for one in page.texts("h3"))
    (command,) = (one for one in page.texts("code") if one.startswith("pipeline train"))
    words = command.removeprefix("pipeline train ").split()
    monkeypatch.chdir(place)
    assert train(*words, "name=again", "verbose=0", "tracking=none") == 0
    winner = float(re.findall(r"Best trial \d+: val/f1 ([\d.]+)", page.text)[0])
    journal = (run_of(place, "again") / "journal.jsonl").read_text()
    again = float(re.findall(r'"best/val/f1": ([\d.]+)', journal)[0])
    assert again == pytest.approx(winner, abs=5e-5)


def test_winner_is_confirmed_with_new_seeds(place: Path) -> None:
    studies = Studies(f"sqlite:///{place}/optuna.db")
    (name,) = (one for one in studies.names() if one.startswith(f"{STUDY}-confirm-"))
    seeds = [row.params["seed"] for row in studies.open(name).trials()]
    chosen_with = studies.open(STUDY).facts["base"]["seed"]
    assert len(set(seeds)) == 2
    assert chosen_with not in seeds


def test_two_real_runs_are_compared(place: Path, tmp_path: Path) -> None:
    calm, bold = run_of(place, "calm"), run_of(place, "bold")
    page = sound(place / "why.html", bold, f"report-against-{calm.name}.html", tmp_path)
    assert page.texts("h1") == ["bold against calm"]
    assert "optimizer.lr 0.001 0.02" in page.text
    assert "McNemar's exact p " in page.text
    assert len(page.all("img")) == 2


def test_run_stored_elsewhere_is_fetched_by_id(place: Path, report: Report) -> None:
    whole = read_state(run_of(place, "calm")).run_id
    code, lines, err = report(f"run={whole}", "folder=nowhere")
    assert code == 0, err
    file = place / f"report-{whole[:8]}.html"
    assert file.name in lines[-1]
    page = Page(file.read_text("utf-8"))
    require_sound(page)
    assert page.texts("h1") == ["calm"]
    assert "optimizer.lr=0.001" in page.text
    code, _, (line,) = report(f"run={'0' * 32}", "folder=nowhere")
    assert code == 2
    assert line.startswith(f"error: run '{'0' * 32}' is unknown in ")


def test_unreachable_server_is_one_warning(place: Path, report: Report, tmp_path: Path) -> None:
    """The report is written to the run's folder all the same."""
    copy = adopt(shutil.copytree(run_of(place, "calm"), tmp_path / "copy"))
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


# ── in a browser ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Chrome]":
    with real_browser(tmp_path_factory.mktemp("profile"), logs=True) as driver:
        yield driver


def show(chrome: "Chrome", file: Path, *, width: int = DESK, dark: bool = False) -> None:
    """Show a file on a screen of a width, by day or by night; it must fit and not complain."""
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width in PHONES}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    chrome.get(file.absolute().as_uri())
    assert asks(chrome, "document.documentElement.scrollWidth") <= width
    assert log_of(chrome, "browser") == []


def screenshot(chrome: "Chrome", file: Path, *, dark: bool) -> "NDArray[np.uint8]":
    """Return the pixels of a page's picture."""
    show(chrome, file, dark=dark)
    png = chrome.find_element("tag name", "figure").screenshot_as_png
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def picture_page(folder: Path, name: str, draw: Callable[[], Figure]) -> Path:
    """Write a page of one picture, in which a dot of the picture is a dot of the screen."""
    (picture,) = draw_pictures([Picture(name, "title", "text", draw)])
    assert picture.content is not None
    content = base64.b64decode(re.findall(r"base64,([^\"]*)", picture.content)[0])
    width, height = Image.open(BytesIO(content)).size
    element = re.sub(r"--width: \d+px", f"--width: {width}px", picture.content)
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    file = folder / f"{Path(name).name}.html"
    file.write_text(
        f'<!doctype html><meta charset="utf-8"><title>title</title><style>{style}</style>'
        f'<body><figure style="width: {width}px; height: {height}px">{element}</figure>',
        encoding="utf-8",
    )
    return file


def test_images_keep_their_colours_in_dark_pages(chrome: "Chrome", tmp_path: Path) -> None:
    def draw() -> Figure:
        figure, axes = panels()
        for _ in range(2):  # images may lie on each other
            image = axes[0, 0].imshow([[0.0, 1.0]], cmap="gray", extent=(0, 1, 0, 1))
        axes[0, 0].set(xlim=(0, 2), ylim=(0, 2))
        figure.colorbar(image, extend="both")
        return figure

    file = picture_page(tmp_path, "images", draw)
    light, dark = (screenshot(chrome, file, dark=is_dark) for is_dark in (False, True))
    assert light.shape == dark.shape
    is_same = (np.maximum(light, PAPER) == dark).all(-1)
    is_inverted = (np.maximum(255 - light, PAPER) == dark).all(-1)  # all colours are grey
    assert (is_same | is_inverted).mean() > 0.999  # not at the slanted ends of the scale
    assert (is_same | is_inverted)[light.shape[0] // 4 : -light.shape[0] // 4].all()
    white, black = (light == 255).all(-1), (light == 0).all(-1)
    # White: a half of the image, one end of the scale. Black: the others. No paper is left.
    assert 0.03 < (white & is_same).mean() < 0.15
    assert 0.03 < (black & is_same).mean() < 0.15
    assert (dark[[0, -1]] == PAPER).all()
    assert (dark[:, 0] == PAPER).all()


def test_charts_are_dark_in_dark_pages(chrome: "Chrome", tmp_path: Path) -> None:
    file = picture_page(tmp_path, "chart", lambda: panels()[0])
    light, dark = (screenshot(chrome, file, dark=is_dark) for is_dark in (False, True))
    screened = 255 - light / 255 * (255 - np.array(PAPER))  # as the blend mode `screen` does
    assert np.abs(screened - dark).max() <= 2


def asks(chrome: "Chrome", script: str) -> Any:
    """Return what an expression of JavaScript comes to in the page."""
    return chrome.execute_script(f"return {script}")


def log_of(chrome: "Chrome", kind: str) -> Any:
    return chrome.get_log(kind)  # type: ignore[no-untyped-call] # Selenium leaves it without types


def requests(chrome: "Chrome") -> list[str]:
    """Return what pages of files have asked for since the last time, but for files."""
    entries = [json.loads(one["message"])["message"] for one in log_of(chrome, "performance")]
    sent = [one["params"] for one in entries if one["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]
    assert asked
    return [address for address in asked if not address.startswith(("file:", "data:"))]


FADED = """[...document.querySelectorAll('h1, h2, p, td, th, dt, dd, a, figcaption')]
    .filter(one => one.textContent.trim()).map(one => {
        const light = (text) => {
            const parts = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map(x => x / 255)
                .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const style = getComputedStyle(one);
        let ground = one;
        while (ground && /rgba\\(.*, 0\\)/.test(getComputedStyle(ground).backgroundColor))
            ground = ground.parentElement;
        const ends = [light(style.color),
            light(getComputedStyle(ground || document.body).backgroundColor)].sort((a, b) => b - a);
        return [(ends[0] + 0.05) / (ends[1] + 0.05), one.textContent.slice(0, 40)];
    }).filter(one => one[0] < 4.5)"""
"""Texts whose contrast with their ground is too small for weak eyes (WCAG 2, level AA)."""


STAYS = """[...document.querySelectorAll('.box:has(tbody th:not(.long))')].filter(box => {
        box.scrollLeft = 9999;
        return box.scrollLeft > 0;
    }).map(box => {
        const first = box.querySelector('tbody th').getBoundingClientRect();
        return Math.abs(first.left - box.getBoundingClientRect().left) < 2;
    })"""
"""Whether the first cells of tables that scroll to the side stay in sight."""

CUT = """[...document.querySelectorAll('table')].filter(table => {
        const box = table.closest('.box');
        const end = (box || document.documentElement).getBoundingClientRect().right;
        return end > innerWidth + 1 || table.getBoundingClientRect().right > end + 1
            && !(box && getComputedStyle(box).overflowX == 'auto');
    }).map(table => table.textContent.slice(0, 40))"""
"""Tables that are wider than their place and can't be scrolled in it."""


def test_pages_are_readable_on_screens_and_paper(place: Path, chrome: "Chrome") -> None:
    """They are shown light and dark, on phones, and printed."""
    for file in pages(place):
        for width, dark in ((DESK, False), (DESK, True), *((phone, False) for phone in PHONES)):
            show(chrome, file, width=width, dark=dark)
            ground = asks(chrome, "getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") is not dark
            assert asks(chrome, FADED) == []
            assert all(asks(chrome, STAYS))
            assert asks(chrome, CUT) == []
        printed = chrome.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
        assert base64.b64decode(printed["data"]).startswith(b"%PDF")
        assert requests(chrome) == []


def test_tables_of_a_run_fit_a_phone(place: Path, chrome: "Chrome") -> None:
    show(chrome, pages(place)[0], width=PHONES[1])
    scrolled = "[...document.querySelectorAll('.box')].filter(x => x.scrollWidth > x.clientWidth)"
    assert asks(chrome, f"{scrolled}.map(box => box.ariaLabel)") == []


def test_click_sorts_the_trials(place: Path, chrome: "Chrome") -> None:
    show(chrome, pages(place)[-1])
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    click = "document.querySelector('table.sortable th:nth-child(4) button').click()"
    before, after, last = (
        asks(chrome, f"({before}, {rows}.map(row => row.cells[3].textContent))")
        for before in ("0", click, click)
    )
    assert sorted(map(float, before)) == list(map(float, after))
    assert last == after[::-1]


def test_long_word_does_not_widen_the_page(chrome: "Chrome", tmp_path: Path) -> None:
    from reporting.test_pages import nasty, of_run, of_two

    for page in (of_run(nasty()), of_two(nasty(), nasty(seed=2))):
        file = tmp_path / "page.html"
        file.write_text(page.content, encoding="utf-8")
        show(chrome, file, width=PHONES[0])
