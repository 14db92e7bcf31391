"""Who may import whom: the table of docs/architecture.md, held by import-linter."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from helpers.fixture_types import Capture, Patch
from importlinter.cli import lint_imports

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def contracts() -> list[dict[str, list[str]]]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, list[str]]] = content["tool"]["importlinter"]["contracts"]
    return found


def test_files_import_only_from_permitted_layers(monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_architecture_page_equals_the_import_contract(
    contracts: list[dict[str, list[str]]],
) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.+?) \|", text, re.MULTILINE)
    told = [set(re.findall(r"`(\w+?)(?:\.py|/)`", row)) for row in rows]
    held = [set(layer.split(" : ")) for layer in contracts[0]["layers"]]
    assert told == held


def test_drawing_of_the_layers_is_current() -> None:
    drawn = (ROOT / "docs" / "pictures" / "layers.svg").read_text(encoding="utf-8")
    script = ROOT / "docs" / "draw_layers.py"
    assert drawn == runpy.run_path(str(script))["drawing"](), f"run python {script}"


def test_every_module_is_in_one_layer(contracts: list[dict[str, list[str]]]) -> None:
    package = ROOT / "pipeline"
    there = {path.stem for path in package.glob("*.py")} - {"__init__"}
    there |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert {name for layer in contracts[0]["layers"] for name in layer.split(" : ")} == there
