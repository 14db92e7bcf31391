"""The pages of `docs/`: their code runs, their links lead somewhere, no key is missing."""

import re
import runpy
import shlex
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from helpers.fixture_types import Patch
from helpers.how_to_pages import HOW_TO, work_through
from omegaconf import OmegaConf

from pipeline.config.compose import compose
from pipeline.config.options import SweepConfig, SweepOptions

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "benchmarks" / "README.md"]
ELSEWHERE = {
    "compose": "compose/test_compose_stack.py",
    "notebook": "test_notebook.py",
    "own-model": "test_packaging.py",
    "report": "reporting/test_real_reports.py",
}
"""Pages that other tests run, with the file of these tests."""
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
HOW_TOS = sorted({page.stem for page in HOW_TO.glob("*.md")} - ELSEWHERE.keys())
RECORDS = runpy.run_path(str(DOCS / "write_records.py"))
SWEEP_OPTIONS = re.findall(
    r"^\| `('?sweep\..*?)` \|", (DOCS / "how-to" / "sweep.md").read_text(encoding="utf-8"), re.M
)


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TOS)
def test_how_to_works_in_an_empty_folder(
    page: str, own_folder: Path, python: str, monkeypatch: Patch
) -> None:
    if page == "pictures":  # it lists what a run draws
        monkeypatch.delenv("PIPELINE_PICTURES")
    work_through(page, own_folder, python)


@pytest.mark.parametrize("word", SWEEP_OPTIONS)
def test_options_of_sweep_page_are_valid(word: str) -> None:
    tree = compose(shlex.split(word), config_name="sweep", options=SweepConfig)
    SweepOptions.model_validate(OmegaConf.to_container(tree.sweep, resolve=True))


def test_configuration_page_equals_comments_of_conf() -> None:
    written = runpy.run_path(str(DOCS / "write_configuration.py"))["page"]()
    shown = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert shown == written, "write it anew: python docs/write_configuration.py"


@pytest.mark.parametrize(("page", "part"), RECORDS["PARTS"])
def test_pages_have_the_texts_of_records(page: str, part: str) -> None:
    shown = (DOCS / page).read_text(encoding="utf-8")
    written = RECORDS["with_part"](shown, part, RECORDS["PARTS"][page, part]())
    assert shown == written, "write it anew: python docs/write_records.py"


def test_groups_and_sweep_keys_are_on_the_configuration_page() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    groups = {folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir()} - {"hydra"}
    assert [name for name in groups if f"\n## `{name}`: " not in page] == []
    tree = compose(config_name="sweep", options=SweepConfig)
    named = (f"`sweep.{key}" for key in tree.sweep)  # of a group, its keys are there
    assert [name for name in named if not re.search(rf"{name}[`.]", page)] == []


@each_page
def test_internal_links_lead_to_files_and_headings(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8"))
    targets = [(page.parent / file if file else page, heading) for file, heading in links]
    assert [file for file, _ in targets if not file.exists()] == []
    named = [(file, name) for file, name in targets if file.suffix == ".md" and name]
    assert [(file, name) for file, name in named if name not in headings(file)] == []


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for words in found}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [*chain.from_iterable(PROJECT["optional-dependencies"].values())]


def test_every_dependency_has_its_reason_in_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    names = {re.split(r"[<>=\[]", one)[0] for one in (*PROJECT["dependencies"], *EXTRAS)}
    assert {name for name in names if f"`{name}`" not in page} == {"pipeline"}


def test_pages_name_the_packages_of_an_extra() -> None:
    """In the package index `pipeline` is another project, so `pipeline[ray]` would install that."""
    shown = [*PAGES, *(ROOT / "conf").rglob("*.yaml")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in shown)
    words = [word for line in re.findall(r"pip install ([^`\n]*)", text) for word in line.split()]
    named = {word.strip("'") for word in words if re.search(r"[\[<>=]", word)}
    assert {"ray>=2.60,<3", "onnx>=1.19", "psycopg[binary]>=3.2"} <= named
    assert named - {*EXTRAS} == {".[test]", ".[dev]"}  # of the clone that the reader is in


@each_page
def test_shown_commands_work_in_any_shell(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\b[^\n]*\n(.*?)^```$", text, flags=re.M | re.S)
    blocks += re.findall(r"^    (?:pipeline|python) .*(?:\\\n.*)*", text, flags=re.M)
    blocks += re.findall(r"`(pipeline \w+ [^`|…\n]*)`", text)
    bare = (re.sub(r"'[^']*'|\"[^\"]*\"|(?m:#.*$)", "", block) for block in blocks)
    lines = (line for block in bare for line in block.splitlines())
    # zsh refuses a command with an unquoted pattern that matches no file.
    assert [line for line in lines if re.search(r"=\S*[\[*?]", line)] == []
