"""Data sources, and the raw rows or series that they return."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from pipeline.base.errors import ConfigError
from pipeline.base.paths import url_problem
from pipeline.data.parsing.cells.kind import Grammar
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.parsing.cells.kinds.number import PLAIN

Task = Literal["binary", "multiclass", "regression"]
#: A list of columns, for which one name alone may stand.
ColumnNames = Annotated[
    tuple[str | int, ...],
    BeforeValidator(lambda given: (given,) if type(given) in (str, int) else given),
]
Array = NDArray[Any]
Indices = NDArray[np.int64]

#: Most distinct whole numbers of a target that always count as classes, not as values.
MOST_CLASSES = 20


class OnDemand(ABC):
    """Rows that are read on access, such as pictures that must be decoded.

    They are indexed like an array: by a slice or by row numbers (rows,). `shape` and `dtype` are
    those of all rows together.
    """

    #: Whether rows are so expensive that only some of them are measured.
    costly: ClassVar[bool] = True
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: Fingerprint of each row, (rows,); equal rows have equal ones.
    fingerprints: NDArray[np.uint64]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, rows: slice | Indices) -> Array:
        """Return the given rows, (rows, *row_shape)."""


#: How a file of this kind is read again, as plain values; `kind` names the kind.
Reading = Mapping[str, Any]


class ReadColumn:
    """Column of raw numbers that are read from the cells of a file."""

    __slots__ = ()
    name: str
    grammar: Grammar

    @property
    def part(self) -> str:
        """What the column holds of each cell, such as `month`; empty = all of it."""
        return self.grammar.part

    @property
    def in_file(self) -> str:
        """Name of the column in the file; `joined.month` is a part of `joined`."""
        return self.name.removesuffix(f".{self.part}") if self.part else self.name

    @property
    def levels(self) -> tuple[str, ...]:
        """Categories in the order of their indices; empty = the column holds numbers."""
        return self.grammar.levels if isinstance(self.grammar, Category) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(ReadColumn):
    """A column of a table before encoding: its name, and how its cells are read."""

    name: str
    grammar: Grammar = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Independent rows, as the source holds them.

    Args:
        inputs: (rows, features), (rows, steps, features) or (rows, channels, height, width);
            floats, or uint8 for pictures; may lie on disk.
        targets: Class indices, int64 (rows,), or values, float (rows, outputs).
        task: binary, multiclass or regression.
        classes: Names of the classes in the order of their indices, the positive one at index 1
            of a binary task; empty for a regression.
        is_turned: Whether the user has made the other class the positive one: training starts
            from the negated output layer, so that it trains the same network.
        features: Names of the features or channels; empty = they have none.
        units: Unit of a regression's targets; empty = none.
        test: Row numbers that the source itself keeps for the test; None = to be split off.
        validation: Row numbers that the source itself keeps for the validation; None = to be
            split off.
        groups: (rows,) label of what must stay in one part, such as a patient; None = no groups.
        columns: Columns of `inputs` (rows, columns) that have yet to be filled in and encoded:
            NaN = a missing cell, a category = the index of its level. Empty = `inputs` are final
            numbers.
        label: Name of the target; empty = it has none.
        numbers: (rows,) number of each row, those of further files following the first, if rows
            were left out; None = all are here.
        left_out: Number of rows that were left out.
        order: Row numbers from the oldest to the newest: the newest rows are the test part, those
            before them the validation part; None = rows have no order.
        strict: Whether test rows that also train are an error rather than a note.
        reading: How new rows of this kind are read from a file.
        notes: What was found and decided while reading, one line each.
    """

    inputs: Array | OnDemand
    targets: Array
    task: Task
    classes: tuple[str, ...]
    features: tuple[str, ...]
    is_turned: bool = False
    units: str = ""
    test: Indices | None = None
    validation: Indices | None = None
    groups: Array | None = None
    columns: tuple[Column, ...] = ()
    label: str = ""
    numbers: Indices | None = None
    left_out: int = 0
    order: Indices | None = None
    strict: bool = False
    reading: Reading = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.inputs.shape[1:])

    @property
    def group_numbers(self) -> Indices | None:
        """Number of each row's group, (rows,), whatever its label; None = no groups."""
        if self.groups is None:
            return None
        numbers: Indices = np.unique(self.groups, return_inverse=True)[1].astype(np.int64)
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Values in time, oldest first.

    Args:
        values: (time, channels), floats.
        times: A label for each time.
        names: A name for each channel.
        targets: The channels to predict, by name.
        units: Unit of these channels; empty = none.
        test_from: Index of the first time of the test; None = to be split off.
        reading: How the past of a new forecast is read from a file.
        notes: What was found and decided while reading, one line each.
    """

    values: Array
    times: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[str, ...]
    units: str = ""
    test_from: int | None = None
    reading: Reading = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Source(ABC):
    """Base of all data sources; its arguments are the keys of `conf/data/<name>.yaml`."""

    @property
    def place(self) -> str:
        """Name of the data in messages: the path, if one was given."""
        return str(getattr(self, "path", None) or "the data")

    @abstractmethod
    def read(self) -> Samples | Series:
        """Return the raw content, the same at every call."""


def local_file(path: str, *, key: str) -> Path:
    """Return the path of a file, the value of the option `key`.

    Raises:
        ConfigError: The path is a URL.
    """
    if problem := url_problem(key, path):
        raise ConfigError(problem)
    return Path(path)
