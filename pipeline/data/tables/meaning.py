"""What the columns of a training table mean, found in one pass over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.source import Column
from pipeline.data.tables.delimited import batches
from pipeline.data.tables.evidence import Evidence, Wanted
from pipeline.data.tables.location import Place
from pipeline.data.tables.outcome import Outcome, TargetEvidence
from pipeline.data.tables.roles import Keys, Roles
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What is predicted from what.

    Args:
        outcome: The target.
        columns: The features, in the order of the file.
        notes: Lines worth telling.
    """

    outcome: Outcome
    columns: tuple[Column, ...]
    notes: tuple[str, ...]


def meaning_of(path: Path, roles: Roles, keys: Keys, *, sep: str | None) -> Meaning:
    """Look at every cell of the features and the target.

    Raises:
        ConfigError: `positive` names no class.
        DataError: All columns that are no features as they stand, or a target that is none.
    """
    features = [Evidence(name, _wanted(name, keys)) for name in roles.features]
    target = TargetEvidence(roles.target)
    read = tuple(dict.fromkeys((*roles.features, roles.target)))
    for first_row, batch in batches(path, sep=sep, columns=read):
        place = Place(file=str(path), first_row=first_row, sep=sep)
        for evidence in features:
            evidence.add(batch.column(evidence.name), place)
        target.add(batch.column(target.name), place)
    if not target.rows:
        raise DataError(f"{path} has a header and no rows (0 rows); expected at least one a part")
    if problems := _problems(path, features):
        raise DataError(*problems)
    outcome, notes = target.outcome(keys)
    return Meaning(
        outcome=outcome,
        columns=tuple(evidence.column() for evidence in features),
        notes=(
            *_target_note(roles, keys),
            *notes,
            *(note for evidence in features for note in evidence.notes()),
        ),
    )


def _wanted(name: str, keys: Keys) -> Wanted:
    if name in keys.numeric:
        return "numeric"
    return "categorical" if name in keys.categorical else None


def _problems(path: Path, features: Sequence[Evidence]) -> list[str]:
    """List what is wrong; lines that name no file of their own begin with it."""
    found = [problem for evidence in features for problem in evidence.problems()]
    return [line if line.startswith(str(path)) else f"{path}: {line}" for line in found]


def _target_note(roles: Roles, keys: Keys) -> list[str]:
    if keys.target is not None:
        return []
    return [f"target: {roles.target!r}, the last column; another with data.target=COLUMN"]
