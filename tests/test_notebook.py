"""The library's door: a run from the cells of a notebook, as a user would write them."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

IMPORTS = """
from pipeline.config.compose import compose
from pipeline.run import run
"""
FIRST = """
config = compose(["model=mlp", "data=iris", "trainer.max_epochs=3", "tracking=none", "output=a"])
first = run(config)
assert first.epochs == 3 and first.run_id is None
assert 0 <= first.metrics["test/f1"] <= 1
assert "linear/f1" in first.metrics
assert list(first.history) == [1, 2, 3]
"""
SECOND = """
words = ["model=mlp", "data=iris", "trainer.max_epochs=3", "tracking=none", "verbose=0"]
second = run(compose([*words, "output=b"]))
assert second.metrics["test/f1"] == first.metrics["test/f1"]
assert second.folder != first.folder
third = run(dict(compose([*words, "seed=1"])))
assert third.metrics["test/loss"] != first.metrics["test/loss"]
"""
MISTAKE = """
from pipeline.errors import ConfigError
try:
    run(compose(["model=mlp", "data=iris", "optimizer.lr=-1"]))
except ConfigError as error:
    print(error)
"""


def executed(folder: Path, *cells: str) -> list[str]:
    """Run the cells in one kernel; return what each has printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]


@pytest.mark.slow
def test_a_notebook_trains_twice_in_one_kernel_and_has_the_results(own_folder: Path) -> None:
    printed = executed(own_folder, IMPORTS, FIRST, SECOND, MISTAKE)
    lines = printed[1].splitlines()
    assert [line.split()[0] for line in lines if "train/loss" in line] == ["1/3", "2/3", "3/3"]
    assert printed[2] == ""
    assert printed[3].startswith("optimizer.lr=-1 is not allowed; expected a number > 0")


def test_a_composed_config_is_all_that_a_run_needs(own_folder: Path) -> None:
    namespace: dict[str, object] = {}
    for cell in (IMPORTS, FIRST, SECOND):
        exec(cell, namespace)
    assert len(list(own_folder.glob("[ab]/*/journal.jsonl"))) == 2
