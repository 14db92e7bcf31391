"""Records are found by listing a package; an incomplete one is an error with its file and field."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.fixture_types import Patch

from pipeline.base.errors import ConfigError
from pipeline.base.kinds import load_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Planet:
    """A kind of record."""

    name: str
    moons: int
    note: str = ""

    def __post_init__(self) -> None:
        if self.moons < 0:
            raise ValueError(f"`moons` is {self.moons}; it must be at least 0")


IMPORT = "from test_records import Planet\n"
MARS = f"{IMPORT}RECORD = Planet(name='mars', moons=2)\n"

Package = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: Patch) -> Package:
    """Write the modules of a package named `planets`, which can then be imported."""
    folder = tmp_path / "planets"

    def write(modules: Mapping[str, str]) -> Path:
        folder.mkdir()
        for name, code in {"__init__": "", **modules}.items():
            (folder / f"{name}.py").write_text(code, encoding="utf-8")
        return folder

    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "planets"]:
        monkeypatch.delitem(sys.modules, name)
    return write


def test_records_are_found_by_listing_their_package(package: Package) -> None:
    two = "EARTH = Planet(name='earth', moons=1)\nVENUS = Planet(name='venus', moons=0)\n"
    package({"b": IMPORT + two, "a": MARS, "_shared": "COUNT = 3\n"})
    records = load_records("planets", Planet)
    assert [*records] == ["mars", "earth", "venus"]
    assert records["earth"].moons == 1


def test_record_imported_by_another_file_counts_once(package: Package) -> None:
    package({"mars": MARS, "venus": "from planets.mars import RECORD\n"})
    assert [*load_records("planets", Planet)] == ["mars"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "RECORD = Planet(name='venus')",
            ":2: Planet.__init__() missing 1 required keyword-only argument: 'moons'",
        ),
        (
            "RECORD = Planet(name='venus', moons=0, size=1)",
            ":2: Planet.__init__() got an unexpected keyword argument 'size'",
        ),
        ("RECORD = Planet(name='venus', moons=-1)", ":2: `moons` is -1; it must be at least 0"),
        ("RECORD = Planet(name=' ', moons=0)", ": Planet ' ' has an empty `name`"),
        ("RECORD = Planet(name='mars', moons=0)", ": another Planet is named mars"),
        ("COUNT = 3", ": the file has no Planet; add one, as the files beside it do"),
    ],
)
def test_incomplete_record_names_its_file(package: Package, line: str, problem: str) -> None:
    folder = package({"mars": MARS, "venus": f"{IMPORT}{line}\n"})
    with pytest.raises(ConfigError) as error:
        load_records("planets", Planet)
    assert error.value.problems == (f"{folder / 'venus.py'}{problem}",)


def test_incomplete_record_is_named_once(package: Package) -> None:
    """Not again in a file that imports its file."""
    incomplete = f"{IMPORT}RECORD = Planet(name='venus')\nSIZE = 1\n"
    folder = package({"mars": f"from planets.venus import SIZE\n{MARS}", "venus": incomplete})
    with pytest.raises(ConfigError) as error:
        load_records("planets", Planet)
    (problem,) = error.value.problems
    assert problem.startswith(f"{folder / 'venus.py'}:2: ")


def test_all_incomplete_records_are_named_together(package: Package) -> None:
    package({"a": "COUNT = 3\n", "b": "COUNT = 3\n", "mars": MARS})
    with pytest.raises(ConfigError) as error:
        load_records("planets", Planet)
    assert len(error.value.problems) == 2
