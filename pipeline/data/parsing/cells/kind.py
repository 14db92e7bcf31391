"""What a kind of cells is: how a column is recognized as one, read as numbers and written again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainSerializer, PlainValidator, TypeAdapter

from pipeline.base.kinds import load_records
from pipeline.data.parsing.cells.evidence import ColumnEvidence, KeyOfKind
from pipeline.data.parsing.cells.texts import Cells, Numbers

#: What a grammar reads from a cell whose category no training row had.
UNKNOWN = -1.0


class Grammar(ABC):
    """How the cells of a column are written; a frozen dataclass of plain values.

    It is learned from the training file and stored with a model, so that new rows are read alike.
    """

    #: Type of a cell in a description of the inputs.
    type: ClassVar[Literal["double", "string"]] = "string"
    #: Name of what is read of each cell, such as `month`; empty = all of it.
    part: str = ""

    @abstractmethod
    def read(self, cells: Cells) -> Numbers:
        """Return a number for each cell, float64 (rows,), NaN = missing.

        Raises:
            DataError: A cell can't be read; the message names it and a remedy.
        """

    @abstractmethod
    def write(self, values: Sequence[float]) -> str | float | None:
        """Return the cell of these numbers, one for each part; None = missing."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that can't be a feature, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A column that can't be read.

    Args:
        problem: What is wrong with which cell, and a remedy.
        is_final: Whether no other remedy is suggested.
    """

    problem: str
    is_final: bool = False


#: What a kind says of a column: how its parts are read, or why it isn't; None = of another kind.
Fit = Sequence[Grammar] | LeftOut | Refused | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellKind:
    """A kind of cells.

    Args:
        rank: Kinds of a lower rank are tried first; a column is of the first kind that fits.
        fits: What the kind says of a column.
        grammar: How cells of the kind are read; None = columns of the kind are left out.
        key: The user's word for columns of the kind; None = the user can't ask for it.
    """

    name: str
    rank: int
    fits: Callable[[ColumnEvidence], Fit]
    grammar: type[Grammar] | None = None
    key: KeyOfKind | None = None


@cache
def cell_kinds() -> Sequence[CellKind]:
    """Return all kinds of cells, in the order in which they are tried.

    Raises:
        ConfigError: A kind is incomplete; the message names its file and the field.
    """
    records = load_records("pipeline.data.parsing.cells.kinds", CellKind)
    return sorted(records.values(), key=lambda kind: kind.rank)


def decide(column: ColumnEvidence) -> Fit:
    """Return what a column is: of the first kind of cells that fits, or refused."""
    if column.values.is_infinite:
        return Refused(column.first_infinite(), is_final=True)
    for kind in cell_kinds():
        is_asked_for = column.keys.kind in (None, kind.key)
        if is_asked_for and (fit := kind.fits(column)) is not None:
            return fit
    return Refused(column.oddity())


def to_plain(grammar: Grammar) -> dict[str, Any]:
    """Return a grammar as plain values, with the name of its kind."""
    name = next(kind.name for kind in cell_kinds() if kind.grammar is type(grammar))
    return {"kind": name, **asdict(grammar)}  # type: ignore[call-overload]  # all are dataclasses


def from_plain(plain: Mapping[str, Any] | Grammar) -> Grammar:
    """Return the grammar that `to_plain` returned.

    Raises:
        ValueError: It is of no kind of this version, or a field has the wrong type.
    """
    if isinstance(plain, Grammar):
        return plain
    if not isinstance(plain, Mapping):
        raise ValueError(f"{plain!r} does not say how cells are written")
    grammars = {kind.name: kind.grammar for kind in cell_kinds()}
    grammar = grammars.get(plain.get("kind", ""))
    if grammar is None:
        raise ValueError(f"there is no kind of cells called {plain.get('kind')!r}")
    fields = {key: value for key, value in plain.items() if key != "kind"}
    read: Grammar = TypeAdapter(grammar).validate_python(fields)
    return read


#: A grammar as the field of a record that is stored as plain values.
StoredGrammar = Annotated[Grammar, PlainValidator(from_plain), PlainSerializer(to_plain)]
