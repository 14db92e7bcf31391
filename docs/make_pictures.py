"""Makes pictures in `docs/pictures/` again: `python docs/make_pictures.py [readme] [mlflow]`.

`readme` runs the README's commands and keeps the end of a run, its report and a study's pictures;
`mlflow` keeps MLflow's pages. Each trains what it shows in a temporary folder, in some minutes. It
needs Chromium and its driver, as the tests in `tests/browser/` do.
"""

import io
import re
import shutil
import subprocess
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
RUN_END = "pipeline train model=lstm"
SWEEP = "pipeline sweep model=lstm sweeps=lr_epochs_clip"
FROM_README = ("run_end", "report", "lr_clip_map", "history")
TERMINAL = """<meta charset="utf-8"><style>pre {{ display: inline-block; margin: 0;
  padding: 14px 18px; background: #1d1f21; color: #d8dad6;
  font: 15px/1.35 'DejaVu Sans Mono', monospace }}</style><pre id="terminal">{code}</pre>"""
CONTROL = re.compile(r"(\r?\n|\r|\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh])")


def main() -> None:
    """Make the pictures that are named, or all of them."""
    for name in sys.argv[1:] or ("readme", "mlflow"):
        with tempfile.TemporaryDirectory() as folder:
            {"readme": show_readme, "mlflow": show_mlflow}[name](Path(folder))


def show_readme(folder: Path) -> None:
    """Keep the end of the README's run, its report, and the pictures of its study."""
    end = screen(in_terminal(RUN_END, folder))
    with browser(folder / "profile") as driver:
        page = folder / "terminal.html"
        page.write_text(as_html(end), encoding="utf-8")
        driver.get(page.as_uri())
        shown = driver.find_element("id", "terminal")
        driver.set_window_size(shown.size["width"] + 20, shown.size["height"] + 160)
        shown.screenshot(str(PICTURES / "run_end.png"))
        (report,) = folder.glob("runs/*/artifacts/report.html")
        driver.set_window_size(1000, 900)
        driver.get(report.as_uri())
        driver.save_screenshot(str(PICTURES / "report.png"))
    (folder / "sweep.txt").write_text(in_terminal(SWEEP, folder), encoding="utf-8")
    for name in ("lr_clip_map", "history"):
        (picture,) = folder.glob(f"runs/lr_epochs_clip-*/artifacts/{name}.png")
        shutil.copy(picture, PICTURES)
    for name in FROM_README:
        shrink(PICTURES / f"{name}.png")


def in_terminal(command: str, folder: Path) -> str:
    """Return what a command writes to a terminal of 80 columns."""
    words = ["script", "--quiet", "--return", "--command", f"stty cols 80 rows 50; {command}"]
    ended = subprocess.run([*words, "/dev/null"], cwd=folder, capture_output=True, check=True)
    return ended.stdout.decode()


def screen(written: str) -> list[str]:
    """Return the lines that stay on a terminal, with their colours."""
    lines = [""]
    for part in CONTROL.split(written):
        if part.endswith("\n"):
            lines.append("")
        elif part == "\x1b[1A":
            lines.pop()
        elif CONTROL.fullmatch(part):
            lines[-1] = ""
        else:
            lines[-1] += part
    return lines


def as_html(lines: list[str]) -> str:
    """Return lines of a terminal as a page."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=80, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines).strip()), soft_wrap=True)
    return console.export_html(inline_styles=True, code_format=TERMINAL)


def show_mlflow(folder: Path) -> None:
    """Keep MLflow's pages of two runs and a study."""
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
