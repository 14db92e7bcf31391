"""Roles of the columns of a training table, as the keys of `conf/data/table.yaml` give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Len

from pipeline.base.errors import DataError, did_you_mean, typed
from pipeline.data.parsing.cells.evidence import CellKeys, Decimals, KeyOfKind
from pipeline.data.parsing.cells.written import Thousands
from pipeline.data.parsing.tables.file import CsvOptions
from pipeline.data.source import ColumnNames, Task

Named = str | int | None

KINDS: tuple[KeyOfKind, ...] = ("numeric", "categorical")
#: Keys of columns that are read but are not features.
BESIDE = ("id", "group", "time", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of `conf/data/table.yaml` that say how a table is read.

    Args:
        path: Training file, with a line of column names if it is a CSV.
        target: Column to predict; None = the last one.
        test_path: File of the test rows; None = they are split off.
        validation_path: File of the validation rows; None = they are split off.
        task: The task; None = inferred from the target.
        positive: Class to which precision, recall and F1 refer; None = 1 of -1 and 1, else the
            rarer one.
        numeric: Columns that must hold numbers.
        categorical: Columns whose cells are categories, even if they are numbers.
        drop: Columns that are left out.
        id: Column that names the rows; None = they have no names.
        group: Column of groups that stay in one part, such as patients; None = no groups.
        time: Column that orders the rows, the last of which are the test; None = random split.
        split: Column with the words train, validation and test; None = random split.
        image_shape: Shape of the image whose pixels the features are; None = not an image.
        missing: How to treat rows with empty cells.
        sep: Separator of the cells of a CSV; None = detected.
        header: Whether the first line of a CSV has the names of the columns; None = yes, with
            an error if it holds values.
        decimal: Sign before the decimals of numbers, of all columns or by column; None = by the
            cells.
        thousands: Sign between groups of three digits; None = by the cells.
        dates: Whether dates are left out or become their parts.
        dayfirst: Whether 1/2/2024 is the first of February; None = by the cells.
        units: Unit of a regression's target; empty = none.
        strict: Whether columns that can't be features, features that reveal the target, and test
            rows that also train are errors.
    """

    path: str
    target: Named
    test_path: str | None
    validation_path: str | None
    task: Task | None
    positive: str | int | float | bool | None
    numeric: ColumnNames
    categorical: ColumnNames
    drop: ColumnNames
    id: Named
    group: Named
    time: Named
    split: Named
    image_shape: Annotated[tuple[Annotated[int, Gt(0)], ...], Len(2, 3)] | None
    missing: Literal["mean", "drop", "refuse"]
    sep: str | None
    header: bool | None
    # Runs of earlier versions, which can be resumed and evaluated, lack these three.
    decimal: Decimals = None
    thousands: Thousands | None = None
    dayfirst: bool | None = None
    dates: Literal["drop", "parts"]
    units: str
    strict: bool

    @property
    def csv(self) -> CsvOptions:
        """How a CSV is read."""
        return CsvOptions(self.sep, self.header)

    def of_cells(self, kind: KeyOfKind | None = None) -> CellKeys:
        """Return what the user says of how the cells of a column are written."""
        return CellKeys(
            kind=kind,
            decimal=self.decimal,
            thousands=self.thousands,
            dates=self.dates,
            dayfirst=self.dayfirst,
        )

    def dropping(self, names: Iterable[str]) -> str:
        """Return the override that leaves out these columns, too."""
        return typed("data.drop", [*map(str, self.drop), *names])

    def as_categories(self, names: Iterable[str]) -> str:
        """Return the override that takes these columns as categories, too."""
        return typed("data.categorical", [*map(str, self.categorical), *names])

    def named(self) -> dict[str, list[str]]:
        """Return the columns that each key names."""
        columns: dict[str, list[str]] = {}
        for key in ("target", *BESIDE):
            name = getattr(self, key)
            if name is not None:
                columns[key] = [str(name)]
        for key in (*KINDS, "drop"):
            columns[key] = [*map(str, getattr(self, key))]
        columns["decimal"] = [*self.decimal] if isinstance(self.decimal, Mapping) else []
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What the columns of one table are for.

    `features` maps each feature, in file order, to its required kind (`None` = detected). `beside`
    maps id, group, time and split to their columns.
    """

    target: str
    features: Mapping[str, KeyOfKind | None]
    beside: Mapping[str, str]

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys((*self.features, self.target, *self.beside.values())))


def roles_of(path: Path, names: Sequence[str], keys: Keys) -> Roles:
    """Return the role of every column of a file. Raises DataError with all wrong keys."""
    if len(names) == 1:
        raise DataError(
            f"{path}: one column found, {names[0]!r}; expected the target and at least one more. "
            "For another separator, set data.sep=;"
        )
    named = keys.named()
    target = named.get("target", names[-1:])[0]
    kinds: dict[str, KeyOfKind] = {}
    for key in KINDS:
        kinds |= dict.fromkeys(named[key], key)
    problems = _key_problems(path, names, named, target)
    beside = {key: named[key][0] for key in BESIDE if key in named}
    left_out = {target, *named["drop"], *beside.values()} - {*kinds}
    features = {name: kinds.get(name) for name in names if name not in left_out}
    if not features and not problems:
        problems.append(
            f"{path}: no column is left to predict {target!r} from; its columns are "
            f"{', '.join(names)}. "
            "Drop fewer"
        )
    if problems:
        raise DataError(*problems)
    return Roles(target=target, features=features, beside=beside)


def _key_problems(
    path: Path, names: Sequence[str], named: Mapping[str, Sequence[str]], target: str
) -> list[str]:
    problems = []
    for key, columns in named.items():
        for name in columns:
            if name not in names:
                problems.append(
                    f"data.{key}={name} is not a column of {path}; its columns are "
                    f"{', '.join(names)}.{did_you_mean(name, names)}"
                )
            elif name == target and key not in ("target", "decimal"):
                problems.append(
                    f"data.{key}={name} is also the target; name another with data.target=COLUMN"
                )
    for name in named["drop"]:
        if name in named["numeric"] or name in named["categorical"]:
            problems.append(f"data.drop=[{name}] drops a column that another key uses as a feature")
    for name in named["numeric"]:
        if name in named["categorical"]:
            problems.append(
                f"{name!r} is in data.numeric and in data.categorical; expected one of them"
            )
    parting = [key for key in ("group", "time", "split") if key in named]
    if len(parting) > 1:
        options = " and ".join(f"data.{key}" for key in parting[:2])
        problems.append(f"{options} both split the rows; expected one")
    return problems
