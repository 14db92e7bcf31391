"""The library's door: runs from the cells of a notebook, as a user would write them."""

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.fixture_types import Capture
from helpers.how_to_pages import HOW_TO
from helpers.printed_lines import blocks

from pipeline.config.compose import compose
from pipeline.run import run

SHOWN = """
for more in ([], ["verbose=0"]):
    run(compose(["model=mlp", "data=iris", "trainer.max_epochs=3", "output=a", *more]))
"""
MISTAKE = """
from pipeline.base.errors import ConfigError
try:
    run(compose(["model=mlp", "data=iris", "optimizer.lr=-1"]))
except ConfigError as error:
    print(error)
"""


@pytest.mark.slow
def test_notebook_page_and_a_mistake_run_in_kernel(own_folder: Path) -> None:
    from nbclient import NotebookClient  # the quick tests are collected without it
    from nbformat import v4

    page = blocks((HOW_TO / "notebook.md").read_text(encoding="utf-8"), "python")
    cells = [*page, SHOWN, MISTAKE]
    new: Any = v4  # nbformat leaves its functions without types
    notebook = new.new_notebook(cells=[new.new_code_cell(one) for one in cells])
    place = {"metadata": {"path": str(own_folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    printed = ["".join(one.get("text", "") for one in cell.outputs) for cell in notebook.cells]
    told = r"accuracy 0\.\d{3}, a line 0\.\d{3}\nbest epoch [1-5] of 5\nsetosa "
    assert re.match(told, printed[1])
    lines = [line.split()[0] for line in printed[-2].splitlines() if "train/loss" in line]
    assert lines == ["1/3", "2/3", "3/3"]
    assert printed[-1].startswith("optimizer.lr=-1 is not allowed; expected a number > 0")
    assert len(list(own_folder.glob("runs/*/journal.jsonl"))) == 4


def test_composed_config_is_enough_for_a_run(own_folder: Path, capsys: Capture) -> None:
    words = ["model=mlp", "data=iris", "trainer.max_epochs=3", "tracking=none"]
    first = run(compose([*words, "output=a"]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "train/loss" in line] == ["1/3", "2/3", "3/3"]
    assert (first.epochs, first.run_id, [*first.history]) == (3, None, [1, 2, 3])
    assert 0 <= first.metrics["test/f1"] <= 1
    assert "linear/f1" in first.metrics
    second = run(compose([*words, "output=b", "verbose=0"]))
    third = run(dict(compose([*words, "output=b", "verbose=0", "seed=1"])))
    assert capsys.readouterr().out == ""
    assert second.metrics["test/f1"] == first.metrics["test/f1"]
    assert third.metrics["test/loss"] != first.metrics["test/loss"]
    assert [len(list(own_folder.glob(f"{name}/*/journal.jsonl"))) for name in "ab"] == [1, 2]
