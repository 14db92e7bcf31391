"""Keys of earlier versions: a command that sets one is refused, a run that has one is read."""

from pathlib import Path

import pytest
from helpers.config_command import written
from helpers.fixture_types import Capture

from faults.refusals import refusal
from faults.test_strangers import change, save_command, saved_command
from pipeline import evaluate, predict, report, train

GONE = (
    "data.allow_url can't be set here: it was removed; download the file with curl -O URL, then "
    "set data.path=FILE."
)
TABLE = ("data=table", "data.path=rows.csv", "data.target=label", "model=mlp", "tracking=none")
QUICK = ("scheduler=none", "verbose=0", "trainer.max_epochs=1")


@pytest.fixture
def rows(own_folder: Path) -> Path:
    lines = [f"{number % 7},{number % 5},{'ab'[number % 2]}" for number in range(60)]
    file = own_folder / "rows.csv"
    file.write_text("\n".join(["x,y,label", *lines]) + "\n", encoding="utf-8")
    return file


def test_removed_key_names_its_replacement(rows: Path, capsys: Capture) -> None:
    text = "# @package _global_\ndata: {allow_url: true}\n"
    config_words = written(Path("../conf"), {"experiment/x.yaml": text})
    for words in (["data.allow_url=true"], [*config_words, "experiment=x"]):
        assert refusal(capsys, train.main, *TABLE, *QUICK, *words) == GONE


def test_run_with_removed_key_is_still_read(rows: Path, capsys: Capture) -> None:
    assert train.main([*TABLE, *QUICK]) == 0
    (run,) = Path("runs").iterdir()
    change(run, lambda config: config["data"].update(allow_url=False))
    save_command(run, *saved_command(run), "data.allow_url=false")
    assert predict.main([f"model_from={run}", "input=rows.csv", "output=out.csv"]) == 0
    assert evaluate.main([f"model_from={run}", "tracking=none", "verbose=0"]) == 0
    assert report.main([f"run={run}", "output=page.html"]) == 0
    assert train.main([f"resume={run}", "trainer.max_epochs=2"]) == 0
    assert "error" not in capsys.readouterr().err
