"""Records that the program finds by listing a package: a file for each, and no list to edit."""

import pkgutil
import traceback
from collections.abc import Iterator
from dataclasses import Field, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pipeline.base.errors import ConfigError


class NamedRecord(Protocol):
    """A dataclass with a name that no other record of its kind has."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...  # noqa: D102 - the class says it


Kind = TypeVar("Kind", bound=NamedRecord)


def load_records(package: str, kind: type[Kind]) -> dict[str, Kind]:
    """Return the records of one kind in the modules of a package, by name.

    A module has one record or several as global variables; one whose name begins with `_` is
    shared code. Records are in the order of their modules' names, then in that of the module.

    Args:
        package: Dotted name of the package, such as `pipeline.doctor.rules`; it has no subpackages.
        kind: Frozen dataclass of the records. A field without a default must have a value, and its
            text must not be blank. What else is wrong with a record, its `__post_init__` raises as
            `ValueError`.

    Raises:
        ConfigError: A module has no record, or a record is incomplete or has the name of another
            one. Each line names the file, and the field of an incomplete record.
    """
    records: dict[str, Kind] = {}
    problems: list[str] = []
    folder = Path(import_module(package).__path__[0])
    for module in pkgutil.iter_modules([str(folder)]):
        if module.name.startswith("_"):
            continue
        file = folder / f"{module.name}.py"
        try:
            own_records = _records_of(f"{package}.{module.name}", kind)
        except (TypeError, ValueError) as error:
            problems.append(f"{_place(error, folder) or file}: {error}")
            continue
        for record in own_records:
            problems += [f"{file}: {problem}" for problem in _problems(record)]
            if records.setdefault(record.name, record) is not record:
                problems.append(f"{file}: another {kind.__name__} is named {record.name}")
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return records


def record_names(package: str) -> list[str]:
    """Return the names of the records of a package whose files have their names, unimported."""
    spec = find_spec(package)
    assert spec is not None
    modules = pkgutil.iter_modules(spec.submodule_search_locations)
    return [module.name for module in modules if not module.name.startswith("_")]


def _records_of(path: str, kind: type[Kind]) -> list[Kind]:
    values = vars(import_module(path)).values()
    records = [value for value in values if isinstance(value, kind)]
    if not records:
        raise ValueError(f"the file has no {kind.__name__}; add one, as the files beside it do")
    return records


def _problems(record: NamedRecord) -> Iterator[str]:
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str) and not value.strip() and field.default != value:
            yield f"{type(record).__name__} {record.name!r} has an empty `{field.name}`"


def _place(error: BaseException, folder: Path) -> str:
    """Return the file and line of the record; another file may have imported that file."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if file.parent == folder and file.stem != "__init__":  # which may define their kind
            place = f"{frame.filename}:{frame.lineno}"
    return place
