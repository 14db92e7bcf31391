"""The times of a series: read from labels of one form, in rising order, each once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.series_file.forms import EXPECTED, Form, Kind, form_and_position
from pipeline.data.source import Indices
from pipeline.data.tables.location import where
from pipeline.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
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


def read_times(labels: Sequence[str | None], place: Place) -> Times:
    """Read labels, which must all be written in one form.

    Raises:
        DataError: Names the first row whose label is empty, is no time, is written in another form
            or has another zone.
    """
    kind = _common_kind(labels)
    forms, positions = [], np.empty(len(labels), dtype=np.int64)
    for index, label in enumerate(labels):
        read = form_and_position(label or "", only=kind)
        if read is None:
            raise _unreadable(index, label, labels[0], place)
        forms.append(read[0])
        positions[index] = read[1]
    for index, form in enumerate(forms):
        _require_same(form, forms[0], index, labels, place)
    return Times(
        labels=tuple(str(label) for label in labels),
        positions=positions,
        form=replace(forms[0], decimals=max(form.decimals for form in forms)),
    )


def in_order(times: Times, place: Place, *, sort: bool) -> Indices:
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


def _common_kind(labels: Sequence[str | None]) -> Kind | None:
    """Return `whole` where numbers only look like years or days here and there."""
    kinds = {read[0].kind for read in _readable(labels)}
    return "whole" if "whole" in kinds else None


def _readable(labels: Sequence[str | None]) -> Iterator[tuple[Form, int]]:
    for label in labels:
        read = form_and_position(label or "")
        if read is not None:
            yield read


def _unreadable(index: int, label: str | None, first: str | None, place: Place) -> DataError:
    if not label:
        return DataError(f"{place.of(index)} is empty; expected a time. Fill it in or drop the row")
    like = f", written as {first!r} in the first row" if index else ""
    return DataError(f"{place.of(index)}: {label!r} is no time; expected {EXPECTED}{like}")


def _require_same(
    form: Form, first: Form, index: int, labels: Sequence[str | None], place: Place
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
