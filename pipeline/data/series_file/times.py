"""The times of a series: read from labels of one form, in rising order, each once."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.forms import EXPECTED, Form, form_and_position
from pipeline.data.source import Indices
from pipeline.data.tables.file import where
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeColumn:
    """Where a label stands, for messages.

    Args:
        file: The file, or what else holds the series.
        column: Name of the column.
        sep: Sign between the cells of the file; None = found.
    """

    file: str
    column: str
    sep: str | None = None

    def of(self, index: int) -> str:
        """Name a cell by its line or row, the first one at index 0."""
        return f"{where(self.file, index + 1, sep=self.sep)}, column {self.column!r}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """Labels and where they lie.

    Args:
        labels: (time,) as they are written.
        positions: (time,) microseconds since 1970, months since the year 0, or numbers, by the
            form.
        form: How all of them are written.
    """

    labels: tuple[str, ...]
    positions: NDArray[np.int64]
    form: Form

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, order: Indices) -> "Times":
        """Return some of the times, in the given order."""
        labels = tuple(self.labels[index] for index in order)
        return replace(self, labels=labels, positions=self.positions[order])


def read_times(labels: Sequence[str | None], place: TimeColumn) -> Times:
    """Read labels, which must all be written in one form.

    Raises:
        DataError: Names the first row whose label is empty, is no time, is written in another form
            or has another zone.
    """
    read = [form_and_position(label or "") for label in labels]
    if _are_numbers({one[0] for one in read if one is not None}):
        read = [form_and_position(label or "", only="whole") for label in labels]
    if None in read:
        index = read.index(None)
        raise _unreadable(index, labels[index], labels[0], place)
    forms, positions = zip(*filter(None, read), strict=True)
    distinct = dict.fromkeys(forms)
    for form in distinct:
        _require_same(form, forms[0], forms.index(form), labels, place)
    return Times(
        labels=tuple(str(label) for label in labels),
        positions=np.array(positions, dtype=np.int64),
        form=replace(forms[0], decimals=max(form.decimals for form in distinct)),
    )


def in_order(times: Times, place: TimeColumn, *, sort: bool) -> Indices:
    """Return the order in which the times rise.

    Args:
        times: As the file has them.
        place: Where they stand.
        sort: Whether they may be put in order.

    Raises:
        DataError: Names the first row that comes too early, or stands twice.
    """
    order: Indices = np.argsort(times.positions, kind="stable")
    sorted_positions = times.positions[order]
    if len(repeated := np.flatnonzero(np.diff(sorted_positions) == 0)):
        first, second = (int(order[repeated[0] + step]) for step in (0, 1))
        raise DataError(
            f"{place.of(second)}: {times.labels[second]!r} stands {second - first} rows above "
            "already; expected each time once. Keep one of the two, or give each series columns or "
            "a file of its own"
        )
    if not sort and len(early := np.flatnonzero(np.diff(times.positions) < 0)):
        index = int(early[0]) + 1
        raise DataError(
            f"{place.of(index)}: {times.labels[index]!r} comes after {times.labels[index - 1]!r}; "
            "expected the oldest first. Put them in order with data.sort=true"
        )
    return order


def _are_numbers(forms: AbstractSet[Form]) -> bool:
    """Tell whether numbers only look like years or days here and there."""
    whole = all(form.kind in ("whole", "year", "day") and not form.rule for form in forms)
    return whole and len({form.kind for form in forms}) > 1


def _unreadable(index: int, label: str | None, first: str | None, place: TimeColumn) -> DataError:
    if not label:
        return DataError(f"{place.of(index)} is empty; expected a time. Fill it in or drop the row")
    like = f", written as {first!r} in the first row" if index else ""
    return DataError(f"{place.of(index)}: {label!r} is no time; expected {EXPECTED}{like}")


def _require_same(
    form: Form, first: Form, index: int, labels: Sequence[str | None], place: TimeColumn
) -> None:
    if form.zone != first.zone:
        raise DataError(
            f"{place.of(index)}: {labels[index]!r} has zone {form.zone or 'none'!r} and "
            f"{labels[0]!r} has {first.zone or 'none'!r}; expected one zone. Write all times in "
            "UTC, as 2020-01-31 12:00Z"
        )
    same = replace(form, decimals=0, tail="") == replace(first, decimals=0, tail="")
    if not same:
        raise DataError(
            f"{place.of(index)}: {labels[index]!r} is written otherwise than {labels[0]!r} in "
            "the first row; expected one form for all times"
        )
