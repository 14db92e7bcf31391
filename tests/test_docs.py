"""The pages of `docs/`: their code runs, their links lead somewhere, no key is missing."""

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from printed import blocks, differences
from printed_studies import skeleton

from pipeline.config.compose import compose
from pipeline.config.options import SweepConfig, SweepOptions

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
ELSEWHERE = ("compose", "notebook")
"""Pages whose code tests of their own run."""
HOW_TOS = [page for page in (DOCS / "how-to").glob("*.md") if page.stem not in ELSEWHERE]
CHOICES = [
    f"{folder.name}={choice.stem}"
    for folder in sorted((ROOT / "conf").iterdir())
    if folder.is_dir() and folder.name not in ("hydra", "trainer", "experiment", "debug", "sweeps")
    for choice in sorted(folder.glob("*.yaml"))
]
SWEEP_OPTIONS = re.findall(
    r"^\| `('?sweep\..*?)` \|", (DOCS / "how-to" / "sweep.md").read_text(encoding="utf-8"), re.M
)

_FENCE = re.compile(r"^```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<content>.*?)^```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the `key=value` words behind it, its content."""

    language: str
    content: str
    words: dict[str, str] = field(default_factory=dict)


def fenced(page: Path) -> Iterator[Block]:
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        words = dict(word.split("=", 1) for word in match["words"].split())
        yield Block(match["language"], match["content"], words)


def shell(lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines in bash, where `python` is the one of the tests, both streams as one."""
    path = f'PATH="{Path(sys.executable).parent}:$PATH"\n'
    return subprocess.run(
        ["bash", "-euc", path + lines],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TOS, ids=lambda page: page.stem)
def test_the_steps_of_a_how_to_work_from_an_empty_folder(page: Path, own_folder: Path) -> None:
    printed = ""
    for block in fenced(page):
        if "file" in block.words:
            file = own_folder / block.words["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.content, encoding="utf-8")
        elif block.language == "sh":
            ended = shell(block.content)
            printed = ended.stdout
            assert ended.returncode == int(block.words.get("exit", "0")), printed
        elif block.words.get("form") == "study":
            assert differences(skeleton(block.content), skeleton(printed), tolerance=0) == []
        else:
            assert block.language == "text", f"nothing says what to do with {block.language}"
            assert differences(block.content, printed, tolerance=0.1) == []


@pytest.mark.slow
def test_the_cells_of_the_notebook_page_run_in_a_notebook(own_folder: Path) -> None:
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    page = (DOCS / "how-to" / "notebook.md").read_text(encoding="utf-8")
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in blocks(page, "python")])
    client = NotebookClient(notebook, resources={"metadata": {"path": str(own_folder)}})
    client.execute()
    printed = notebook.cells[1].outputs[0].text
    assert re.match(r"accuracy 0\.\d{3}, a line 0\.\d{3}\nbest epoch [1-5] of 5\nsetosa ", printed)
    assert len(list(own_folder.glob("runs/*"))) == 4


@pytest.mark.parametrize("word", SWEEP_OPTIONS)
def test_every_option_of_the_sweep_page_is_one_that_a_study_takes(word: str) -> None:
    tree = compose(shlex.split(word), config_name="sweep", options=SweepConfig)
    SweepOptions.model_validate(OmegaConf.to_container(tree.sweep, resolve=True))


def test_the_configuration_page_is_what_the_comments_of_conf_say() -> None:
    written = runpy.run_path(str(DOCS / "write_configuration.py"))["page"]()
    shown = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert shown == written, "write it anew: python docs/write_configuration.py"


@pytest.mark.parametrize("choice", CHOICES)
def test_every_public_key_is_on_the_configuration_page(choice: str) -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    absent = [key for key in keys(compose([choice])) if f"`{key}`" not in page]
    assert absent == []


def test_every_key_of_a_sweep_is_on_the_configuration_page() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    tree = compose(config_name="sweep", options=SweepConfig)
    named = (f"`sweep.{key}" for key in tree.sweep)  # of a group, its keys are there
    assert [name for name in named if not re.search(rf"{name}[`.]", page)] == []


def keys(tree: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in tree:
        node = tree._get_node(str(name))
        if isinstance(node, DictConfig) and not node._is_none() and len(node):
            yield from keys(node, f"{prefix}{name}.")
        elif name != "_target_":
            yield f"{prefix}{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_to_a_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_dependency_has_its_reason_in_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for group in project["optional-dependencies"].values() for one in group]
    names = {re.split(r"[<>=\[]", one)[0] for one in (*project["dependencies"], *extras)}
    assert {name for name in names if f"`{name}`" not in page} == {"pipeline"}
