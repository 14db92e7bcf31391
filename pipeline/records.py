"""Records that the program finds by listing a package: a file for each, and no list to edit."""

import pkgutil
import traceback
from collections.abc import Iterator
from dataclasses import Field, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from pipeline.errors import ConfigError


class Record(Protocol):
    """A dataclass with a name that no other record of its kind has."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...  # noqa: D102 - the class says it


Kind = TypeVar("Kind", bound=Record)


def load_records(package: str, kind: type[Kind]) -> dict[str, Kind]:
    """Return the records of one kind in the modules of a package, by name.

    A module has one record or several as global variables; one whose name begins with `_` is
    shared code. Records are in the order of their modules' names, then in that of the module.

    Args:
        package: Dotted name of the package, such as `pipeline.doctor.rules`.
        kind: Frozen dataclass of the records. A field without a default must have a value, and its
            text must not be blank. What else is wrong with a record, its `__post_init__` raises as
            `ValueError`.

    Raises:
        ConfigError: A module has no record, or a record is incomplete or has the name of another
            one. Each line names the file, and the field of an incomplete record.
    """
    records: dict[str, Kind] = {}
    problems: list[str] = []
    for module in pkgutil.iter_modules(import_module(package).__path__):
        if module.name.startswith("_"):
            continue
        path = f"{package}.{module.name}"
        file = _file_of(path)
        try:
            own_records = _records_of(path, kind)
        except (TypeError, ValueError) as error:
            problems.append(f"{_place(error, file)}: {error}")
            continue
        for record in own_records:
            problems += [f"{file}: {problem}" for problem in _problems(record)]
            if records.setdefault(record.name, record) is not record:
                problems.append(f"{file}: another {kind.__name__} is named {record.name}")
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return records


def _records_of(path: str, kind: type[Kind]) -> list[Kind]:
    values = vars(import_module(path)).values()
    records = [value for value in values if isinstance(value, kind)]
    if not records:
        raise ValueError(f"the file has no {kind.__name__}; add one, as the files beside it do")
    return records


def _problems(record: Record) -> Iterator[str]:
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str) and not value.strip() and field.default != value:
            yield f"{type(record).__name__} {record.name!r} has an empty `{field.name}`"


def _file_of(path: str) -> str:
    spec = find_spec(path)
    return path if spec is None or spec.origin is None else spec.origin


def _place(error: BaseException, file: str) -> str:
    """Return the file and line of the record; another file may have imported that file."""
    folder = Path(file).parent
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{at.filename}:{at.lineno}" for at in frames if Path(at.filename).parent == folder]
    return lines[-1] if lines else file
