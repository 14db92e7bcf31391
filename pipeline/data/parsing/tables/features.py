"""Features of a training table: which columns they are, how they are read, what looks useless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from pipeline.base.errors import DataError
from pipeline.data.parsing.cells.evidence import ColumnEvidence
from pipeline.data.parsing.cells.kind import Fit, Grammar, LeftOut, Refused, decide
from pipeline.data.parsing.cells.kinds.category import Category
from pipeline.data.parsing.cells.kinds.empty import EMPTY
from pipeline.data.parsing.cells.kinds.identifier import ROW_NUMBERS
from pipeline.data.parsing.cells.kinds.number import Number
from pipeline.data.parsing.tables.roles import Keys, Roles
from pipeline.data.source import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features of a training table.

    Args:
        columns: The columns before encoding.
        roles: The roles of the table's columns without those that can't be features.
        notes: How amounts are read, what is left out, and what may be useless.
    """

    columns: tuple[Column, ...]
    roles: Roles
    notes: tuple[str, ...]


def find_features(
    path: Path, roles: Roles, evidence: Sequence[ColumnEvidence], keys: Keys
) -> Features:
    """Return the features of a table.

    Raises:
        DataError: A column can't be read, none is left, or `strict` refuses to leave columns out.
    """
    fits = {column.name: decide(column) for column in evidence}
    by_name = {column.name: column for column in evidence}
    left_out = {name: fit.why for name, fit in fits.items() if isinstance(fit, LeftOut)}
    if len(left_out) == len(fits):  # a column that counts the rows may be the x of a curve
        left_out = {name: why for name, why in left_out.items() if why != ROW_NUMBERS}
    columns = {}
    for name, fit in fits.items():
        if name not in left_out and not isinstance(fit, Refused):
            columns[name] = tuple(_columns(by_name[name], fit))
    problems = [_refusal(by_name[name], fit, keys) for name, fit in _refused(fits)]
    problems += _name_clashes(fits, columns, keys)
    reasons = _with_reasons(left_out)
    keeps = _ways_to_keep([by_name[name] for name in left_out])
    if left_out and keys.strict:
        problems.append(f"columns that can't be features: {reasons}: {keys.dropping(left_out)}")
    elif len(left_out) == len(fits):
        problems.append(
            f"no column is left to predict {roles.target!r} from; left out: {reasons}{keeps}"
        )
    if problems:
        begin = str(path)
        raise DataError(*(p if p.startswith(begin) else f"{begin}: {p}" for p in problems))
    notes = [*_readings(by_name, columns)]
    if left_out:
        notes.append(f"columns that can't be features are left out: {reasons}{keeps}")
    notes += _doubts(by_name, columns, keys)
    features = {name: kind for name, kind in roles.features.items() if name in columns}
    return Features(
        columns=tuple(chain.from_iterable(columns.values())),
        roles=replace(roles, features=features),
        notes=tuple(notes),
    )


def _columns(evidence: ColumnEvidence, fit: Fit) -> Iterator[Column]:
    grammars: Sequence[Grammar] = [Number(decimal=evidence.file_decimal)]
    if fit is not None and not isinstance(fit, LeftOut | Refused):
        grammars = fit
    for grammar in grammars:
        part = f".{grammar.part}" if grammar.part else ""
        yield Column(name=f"{evidence.name}{part}", grammar=grammar)


def _refused(fits: Mapping[str, Fit]) -> Iterator[tuple[str, Refused]]:
    for name, fit in fits.items():
        if isinstance(fit, Refused):
            yield name, fit


def _refusal(column: ColumnEvidence, refused: Refused, keys: Keys) -> str:
    """Return the message on a column that can't be read."""
    if refused.is_final:
        return refused.problem
    remedy = f"take the column as categories: {keys.as_categories([column.name])}"
    if column.free_text() or column.holds_dates or not column.words:
        remedy = f"leave the column out: {keys.dropping([column.name])}"
    return f"{refused.problem}, or {remedy}"


def _name_clashes(
    fits: Mapping[str, Fit], columns: Mapping[str, Sequence[Column]], keys: Keys
) -> Iterator[str]:
    """Yield a message on each part of dates that has the name of another column."""
    names = {name for name, fit in fits.items() if not isinstance(fit, LeftOut)}
    for name, parts in columns.items():
        for column in parts:
            if column.part and column.name in names:
                yield (
                    f"column {column.name!r} has the name of a part of the dates in {name!r}; "
                    f"rename it, or leave one of them out: {keys.dropping([column.name])}"
                )


def _ways_to_keep(left_out: Sequence[ColumnEvidence]) -> str:
    """Return how to keep a column that is left out; empty = there is no way."""
    if all(column.missing == column.rows for column in left_out):
        return ""
    remedy = "'data.categorical=[COLUMN]' keeps one"
    if any(column.numbers and not column.words for column in left_out):
        remedy = f"'data.numeric=[COLUMN]' (whole numbers) or {remedy}"
    return f"; {remedy}"


def _readings(
    by_name: Mapping[str, ColumnEvidence], columns: Mapping[str, Sequence[Column]]
) -> Iterator[str]:
    """Yield a note on amounts and dates, if there are any."""
    readings = []
    for name, parts in columns.items():
        if parts[0].part:
            readings.append(f"{name} (parts of dates)")
        elif by_name[name].amounts.form is not None:
            readings.append(by_name[name].reading())
    if readings:
        yield f"read as numbers: {', '.join(readings)}"


def _doubts(
    by_name: Mapping[str, ColumnEvidence], columns: Mapping[str, Sequence[Column]], keys: Keys
) -> Iterator[str]:
    """Yield a note on the features that may be useless, if there are any."""
    doubts = {}
    for name, parts in columns.items():
        column = by_name[name]
        if column.missing == column.rows:
            doubts[name] = EMPTY
        elif not column.words and not isinstance(parts[0].grammar, Category):
            doubts[name] = column.values.doubt(column.numbers)
    doubts = {name: why for name, why in doubts.items() if why}
    if doubts:
        yield f"possibly useless columns: {_with_reasons(doubts)}: {keys.dropping(doubts)}"


def _with_reasons(columns: Mapping[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, why in columns.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(alike)} ({why})" for why, alike in names.items())
