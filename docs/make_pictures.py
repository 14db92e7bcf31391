"""Makes the pictures of MLflow's pages in `docs/pictures/` again: `python docs/make_pictures.py`.

Trains what they show in a temporary folder, in about two minutes. It needs Chromium and its driver,
as the tests in `tests/browser/` do, whose way through the pages it goes.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from mlflow_pages import ESCAPE, Pages, Trained, call  # noqa: E402
from real_browser import browser, mlflow_ui  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SIZE = (1400, 1000)
COLORS = 192
"""Colours of a picture that is kept: pages have few, and the files stay small."""
RUN, STUDY = "lstm-mnist1d", "lr_clip"
HIDDEN = ("Dataset", "Source", "Models")
SHOWN = ("best/val/f1", "test/f1", "linear/f1")
NOTE = "//*[@data-testid='note-editor-preview-content']"


def main() -> None:
    """Train, look, and keep what is seen."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        trained = Trained(folder)
        with mlflow_ui(folder) as address, browser(folder / "profile") as driver:
            driver.set_window_size(*SIZE)
            pages = Pages(driver, address, PICTURES)
            show_runs(pages, trained)
            show_note(pages, trained, RUN, "mlflow_run")
            show_note(pages, trained, STUDY, "mlflow_study")
    for picture in PICTURES.glob("mlflow_*.png"):
        shrink(picture)


def train(folder: Path) -> None:
    """Train two networks and a study."""
    for model in ("mlp", "lstm"):
        call(folder, "train", f"model={model}", "pictures=true", f"name={model}-mnist1d")
    call(
        folder, "sweep", "model=gru", f"sweep.name={STUDY}", "sweep.n_trials=12",
        "sweep.workers=1", "trainer.max_epochs=8", "optimizer.lr=tag(log, interval(1e-3, 1e-1))",
        "trainer.gradient_clip_val=tag(off, log, interval(0.1, 10))",
    )  # fmt: skip


def show_runs(pages: Pages, trained: Trained) -> None:
    """Show the table of runs, with the study unfolded and telling columns."""
    pages.open(trained.table(RUN))
    pages.until("the study", lambda: STUDY in pages.runs())
    for column in (*HIDDEN, *SHOWN):
        toggle_column(pages, column)
    pages.click(f"{pages.row(STUDY)}//button")
    pages.until("its trials", lambda: f"{STUDY}-11" in pages.runs())
    pages.shoot("mlflow_runs")


def toggle_column(pages: Pages, name: str) -> None:
    """Show or hide a column of the table of runs."""
    pages.click("//button[contains(., 'Columns')]")
    pages.type_into("//input[@placeholder='Search columns']", name)
    title = f"//*[@data-testid='column-selector-tree']//strong[text()='{name}']"
    pages.click(f"{title}/ancestor::*[contains(@class, 'treenode')]/*[contains(@class, 'box')]")
    pages.driver.switch_to.active_element.send_keys(ESCAPE)


def show_note(pages: Pages, trained: Trained, run: str, name: str) -> None:
    """Show the description of a run, unfolded."""
    pages.open(trained.page(run))
    pages.click("//button[@aria-label='Expand description']")
    pages.pictures(f"{NOTE}//img")
    pages.shoot(name)


def shrink(picture: Path) -> None:
    """Write a picture again with few colours."""
    from PIL import Image

    with Image.open(picture) as opened:
        opened.convert("RGB").quantize(COLORS).save(picture, optimize=True)


if __name__ == "__main__":
    main()
