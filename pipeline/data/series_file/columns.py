"""Which columns of a series hold its times, its values and what is to be predicted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.series_file.forms import form_and_position
from pipeline.data.tables.cells import MISSING, all_numbers
from pipeline.errors import DataError, did_you_mean

Cells = Sequence[str | None]

TIME_NAMES = {"time", "date", "datetime", "timestamp", "year", "ds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Columns by what they are for.

    Args:
        time: Column of the times; None = each row is a step.
        values: Columns of the values, in the order of the channels.
        targets: Those to predict.
    """

    time: str | None
    values: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return self.values if self.time is None else (self.time, *self.values)


def find_layout(file: str, first: Mapping[str, Cells], wanted: Layout) -> Layout:
    """Complete what the user says by what the first rows of a file look like.

    Args:
        file: Its name, for messages.
        first: The first rows, by column.
        wanted: The user's words: no time = to be found, no values = all others, no targets = all.

    Raises:
        DataError: A column is not there, is named twice, or holds no numbers.
    """
    names = list(first)
    if problems := list(_unknown(file, wanted, names)):
        raise DataError(*problems)
    time = wanted.time or _find_time(first, (*wanted.values, *wanted.targets))
    values = wanted.values or tuple(name for name in names if name != time)
    if not wanted.values:
        _require_numbers(file, {name: first[name] for name in values})
    _require_values(file, time, values, wanted.targets)
    return Layout(time=time, values=values, targets=wanted.targets or values)


def _unknown(file: str, wanted: Layout, names: Sequence[str]) -> Iterator[str]:
    times = () if wanted.time is None else (wanted.time,)
    for key, given in (("time", times), ("columns", wanted.values), ("targets", wanted.targets)):
        for name in dict.fromkeys(given):
            if name not in names:
                yield (
                    f"data.{key}={name} is no column of {file}; its columns are "
                    f"{', '.join(names)}.{did_you_mean(name, names)}"
                )
            elif given.count(name) > 1:
                yield f"data.{key} names {name!r} twice; expected each column once"


def _require_values(
    file: str, time: str | None, values: Sequence[str], targets: Sequence[str]
) -> None:
    if not values:
        raise DataError(f"{file} has one column, {time!r}, of times; expected one of values beside")
    if time in values:
        raise DataError(f"{time!r} is both data.time and one of data.columns; expected one of both")
    for name in targets:
        if name not in values:
            raise DataError(
                f"data.targets={name} is not among the values {', '.join(values)}; expected one of "
                "them, since what is predicted is also what the network sees"
            )


def _require_numbers(file: str, values: Mapping[str, Cells]) -> None:
    numeric = [name for name, cells in values.items() if _has_number(cells)]
    for name in values:
        words = [cell for cell in values[name] if cell and cell not in MISSING]
        if name not in numeric and words:
            raise DataError(
                f"{file}: column {name!r} holds no numbers but {words[0]!r}, …; name the columns "
                f"of values, as data.columns=[{','.join(numeric) or '…'}], or that of the times, "
                "as data.time=NAME"
            )


def _has_number(cells: Cells) -> bool:
    return any(cell and cell not in MISSING and all_numbers([cell]) for cell in cells)


def _find_time(first: Mapping[str, Cells], taken: Sequence[str]) -> str | None:
    """Return the column that looks like times: the first one that names each time once."""
    found = [
        name
        for position, (name, cells) in enumerate(first.items())
        if name not in taken
        and _looks_like_times(name, cells, is_first=not position and len(first) > 1)
    ]
    unique = [name for name in found if len(set(first[name])) == len(first[name])]
    return next(iter([*unique, *found]), None)


def _looks_like_times(name: str, cells: Cells, *, is_first: bool) -> bool:
    if _is_dated(cells):
        return True
    read = [form_and_position(cell or "") for cell in cells]
    if not read or read[0] is None:
        return False
    return name.lower() in TIME_NAMES or (is_first and _counts_up([one and one[1] for one in read]))


def _counts_up(positions: Sequence[int | None]) -> bool:
    """Tell whether at least three numbers rise by the same step."""
    known = [position for position in positions if position is not None]
    steps = np.diff(known)
    all_known = len(known) == len(positions)
    return all_known and len(steps) > 1 and bool((steps == steps[0]).all() and steps[0] > 0)


def _is_dated(cells: Cells) -> bool:
    """Tell whether the first cell is a date that can't be taken for a number."""
    read = form_and_position((cells[0] if cells else "") or "")
    return read is not None and bool(read[0].rule)
