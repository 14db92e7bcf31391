"""Makes the pictures in `docs/pictures/` again: `python docs/make_pictures.py [PART ...]`.

The parts are `run` and `study`, which run the README's commands and keep the end of a run, its
report and the pictures of a study; `pages`, the pictures of how-tos; and `mlflow`, MLflow's pages.
Each trains what it shows in a temporary folder, in some minutes. It needs Chromium and its driver,
as the tests in `tests/browser/` do.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from helpers.chromium import browser, mlflow_ui  # noqa: E402
from mlflow_pages import Pages, Trained, call  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
SIZE = (1400, 1000)
COLORS = 192
"""Colours of a picture that is kept: pages have few, and the files stay small."""
RUN, STUDY = "lstm-mnist1d", "lr_clip"
NOTE = "//*[@data-testid='note-editor-preview-content']"
OF_PAGES = {
    "model=cnn2d trainer.max_epochs=10": {
        "run_confusion": "classes/confusion",
        "run_mistakes": "mistakes/worst",
    },
    "model=lstm data=sunspots": {"run_forecast": "forecast/truth"},
    "model=mlp data=wine": {"run_importance": "columns/importance"},
    "model=cnn2d data=digits feature_maps.channels=true trainer.max_epochs=10": {
        "inside_feature_maps": "inside/feature_maps",
        "inside_channels": "inside/channels_layers.layer1",
        "inside_kernels": "inside/kernels",
    },
    "model=cnn1d feature_maps.samples=[4010,4006,4000]": {"inside_curves": "inside/feature_maps"},
    "model=lstm model.hidden=16 feature_maps.samples=[4010,4006,4000]": {
        "inside_gates": "inside/gates"
    },
    "model=mlp data=iris trainer.max_epochs=20": {"inside_activations": "inside/activations"},
}
"""Runs of how-tos, each with the pictures that are kept of it."""
RUN_END = "pipeline train model=lstm"
SWEEP = "pipeline sweep model=lstm sweeps=lr_epochs_clip"
TERMINAL = """<meta charset="utf-8"><style>pre {{ display: inline-block; margin: 0;
  padding: 14px 18px; background: #1d1f21; color: #d8dad6;
  font: 15px/1.35 'DejaVu Sans Mono', monospace }}</style><pre id="terminal">{code}</pre>"""
CONTROL = re.compile(r"(\r?\n|\r|\x1b\[1A|\x1b\[2K|\x1b\[\?25[lh])")


def main() -> None:
    """Make the pictures that are named, or all of them."""
    makers = {"run": show_run, "study": show_study, "pages": show_pages, "mlflow": show_mlflow}
    for name in sys.argv[1:] or makers:
        with tempfile.TemporaryDirectory() as folder:
            for picture in makers[name](Path(folder)):
                shrink(PICTURES / f"{picture}.png")


def show_run(folder: Path) -> Sequence[str]:
    """Keep the end of the README's run, and its report."""
    end = screen(in_terminal(RUN_END, folder))
    with browser(folder / "profile") as driver:
        page = folder / "terminal.html"
        page.write_text(as_html(end), encoding="utf-8")
        driver.get(page.as_uri())
        shown = driver.find_element("id", "terminal")
        driver.set_window_size(shown.size["width"] + 20, shown.size["height"] + 160)
        shown.screenshot(str(PICTURES / "run_end.png"))
        (report,) = folder.glob("runs/*/artifacts/report.html")
        driver.set_window_size(1000, 1760)
        driver.get(report.as_uri())
        driver.save_screenshot(str(PICTURES / "report.png"))
    return "run_end", "report"


def show_study(folder: Path) -> Sequence[str]:
    """Keep the pictures of the README's study."""
    in_terminal(SWEEP, folder)
    (artifacts,) = folder.glob("runs/lr_epochs_clip-*/artifacts")
    for name in ("lr_clip_map", "history"):
        shutil.copy(artifacts / f"{name}.png", PICTURES)
    return "lr_clip_map", "history"


def show_pages(folder: Path) -> Sequence[str]:
    """Keep the pictures of runs that how-tos show."""
    for number, (words, pictures) in enumerate(OF_PAGES.items()):
        output = folder / str(number)
        call(folder, "train", *words.split(), "tracking=none", f"output={output}")
        for name, file in pictures.items():
            (picture,) = output.glob(f"*/artifacts/pictures/{file}.png")
            shutil.copy(picture, PICTURES / f"{name}.png")
    return [name for pictures in OF_PAGES.values() for name in pictures]


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


def show_mlflow(folder: Path) -> Sequence[str]:
    """Keep MLflow's pages of two runs and a study."""
    train(folder)
    trained = Trained(folder)
    with mlflow_ui(folder) as address, browser(folder / "profile") as driver:
        driver.set_window_size(*SIZE)
        pages = Pages(driver, address, PICTURES)
        show_runs(pages, trained)
        show_note(pages, trained, RUN, "mlflow_run")
        show_note(pages, trained, STUDY, "mlflow_study")
    return "mlflow_runs", "mlflow_run", "mlflow_study"


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
    """Show the table of runs as the printed link opens it, with the study unfolded."""
    pages.open(trained.table(RUN))
    pages.until("the study", lambda: STUDY in pages.runs())
    pages.click(f"{pages.row(STUDY)}//button")
    pages.until("its trials", lambda: f"{STUDY}-11" in pages.runs())
    pages.shoot("mlflow_runs")


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
