"""Files of a table as samples: what they mean first, then their rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data.source import Array, Indices, Samples
from pipeline.data.tables.converted import Conversion
from pipeline.data.tables.delimited import batches, column_names, require_columns
from pipeline.data.tables.gather import Gathered, InMemory, OnDisk
from pipeline.data.tables.location import Place
from pipeline.data.tables.meaning import Meaning, meaning_of
from pipeline.data.tables.parts import TEST, VALIDATION
from pipeline.data.tables.roles import Keys, Roles, roles_of
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one table.

    Args:
        paths: Each with the part that its rows belong to, the training file first.
        sep: What parts the cells of a CSV file; None = found.
    """

    paths: tuple[tuple[Path, int], ...]
    sep: str | None

    @property
    def training(self) -> Path:
        """The file whose rows train, and that says what the columns mean."""
        return self.paths[0][0]


def read_samples(files: Files, keys: Keys, *, folder: Path | None = None) -> Samples:
    """Read all rows of all files.

    Args:
        files: The files.
        keys: What the user says about them.
        folder: An empty folder that takes the rows; None = they are kept in memory.

    Raises:
        ConfigError: A key can't apply to this table.
        DataError: The table can't be learned from as it stands.
    """
    names = column_names(files.training, sep=files.sep)
    roles = roles_of(files.training, names, keys)
    ignored = _check_further(files, names, roles)
    meaning = meaning_of(files.training, roles, keys, sep=files.sep)
    into = _gathered(roles, keys, files, folder)
    conversion = Conversion(roles, keys, meaning, into)
    for path, part in files.paths:
        for first_row, batch in batches(path, sep=files.sep, columns=roles.read):
            conversion.add(batch, Place(file=str(path), first_row=first_row, sep=files.sep), part)
    conversion.require_whole()
    leaks = conversion.leaks()
    if leaks and keys.strict:
        raise DataError(*(f"{files.training}: {line}" for line in leaks))
    notes = (*meaning.notes, *ignored, *leaks, *conversion.notes())
    rows = {name: one.finished() for name, one in into.items()}
    return _samples(rows, meaning, keys, files, notes)


def _check_further(files: Files, names: Sequence[str], roles: Roles) -> list[str]:
    """Find the columns of the training file in the others; say what else is in them."""
    notes = []
    for path, _ in files.paths[1:]:
        there = column_names(path, sep=files.sep)
        require_columns(path, there, roles.read)
        if further := [name for name in there if name not in names]:
            notes.append(f"{path}: ignored, as the training file has no {', '.join(further)}")
    return notes


def _gathered(roles: Roles, keys: Keys, files: Files, folder: Path | None) -> dict[str, Gathered]:
    into: dict[str, Gathered] = {name: InMemory() for name in ("inputs", "targets", "parts")}
    for key, name in (("time", "times"), ("id", "ids"), ("group", "groups")):
        if getattr(keys, key) is not None:
            into[name] = InMemory()
    if folder is None:
        return into
    into["inputs"] = OnDisk(
        folder / "inputs.npy", dtype=np.dtype(np.float64), row_shape=(len(roles.features),)
    )
    if keys.id is not None:
        width = _longest(files, keys.id)
        into["ids"] = OnDisk(folder / "ids.npy", dtype=np.dtype(f"<U{width}"), row_shape=())
    return into


def _longest(files: Files, column: str) -> int:
    """Return the letters of the longest cell of a column."""
    import pyarrow.compute as pc

    lengths = [
        pc.max(pc.utf8_length(batch.column(column))).as_py() or 1
        for path, _ in files.paths
        for _, batch in batches(path, sep=files.sep, columns=[column])
    ]
    return max(lengths, default=1)


def _samples(
    rows: dict[str, Array], meaning: Meaning, keys: Keys, files: Files, notes: tuple[str, ...]
) -> Samples:
    outcome, times = meaning.outcome, rows.get("times")
    return Samples(
        inputs=rows["inputs"],
        targets=rows["targets"],
        task=outcome.task,
        classes=outcome.classes,
        features=tuple(column.name for column in meaning.columns),
        units=keys.units,
        test=_in_part(rows["parts"], TEST),
        validation=_in_part(rows["parts"], VALIDATION),
        groups=rows.get("groups"),
        columns=meaning.columns,
        label=outcome.name,
        ids=rows.get("ids"),
        order=None if times is None else np.argsort(times, kind="stable"),
        reading={"kind": "table", "target": outcome.name, "id": keys.id, "sep": files.sep},
        strict=keys.strict,
        notes=notes,
    )


def _in_part(parts: Array, part: int) -> Indices | None:
    """Return the rows that the files put into a part; None where they leave that open."""
    rows = np.flatnonzero(parts == part)
    return rows if len(rows) else None
