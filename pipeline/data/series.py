"""A user's values in time, from a CSV or Parquet file."""

from typing import Any

from pipeline.data.series_file.columns import Layout
from pipeline.data.series_file.file import layout_of, recorded_in
from pipeline.data.series_file.forms import form_and_position
from pipeline.data.series_file.holes import Missing, without_holes
from pipeline.data.series_file.recorded import Recorded, described, irregularities
from pipeline.data.series_file.steps import IRREGULAR
from pipeline.data.series_file.times import Times
from pipeline.data.source import Series, Source
from pipeline.data.tables.address import local_file
from pipeline.errors import DataError, did_you_mean


class SeriesFile(Source):
    """Columns of a file as channels of one series.

    Args:
        path: The file.
        time: Column of the times; None = found by name or content, else each row is a step.
        columns: Columns of values; empty = all but the times.
        targets: Those of them to predict; empty = all.
        sort: Whether rows may be put in order.
        test_from: First time of the test, as the file writes it; None = the last share of them.
        units: Unit of the values to predict; empty = none.
        sep: Sign between the cells of a CSV; None = found.
        missing: What happens to empty cells.
        strict: Refuse missing steps and irregular times instead of telling them.
        allow_url: Whether the path may be a URL.
    """

    def __init__(
        self,
        *,
        path: str,
        time: str | int | None,
        columns: tuple[str | int, ...],
        targets: tuple[str | int, ...],
        sort: bool,
        test_from: str | int | None,
        units: str,
        sep: str | None,
        missing: Missing,
        strict: bool,
        allow_url: bool,
    ) -> None:
        self.path = path
        self.wanted = Layout(
            time=None if time is None else str(time),
            values=tuple(map(str, columns)),
            targets=tuple(map(str, targets)),
        )
        self.sort = sort
        self.test_from = test_from
        self.units = units
        self.sep = sep
        self.missing: Missing = missing
        self.strict = strict
        self.allow_url = allow_url

    def read(self) -> Series:
        """Read the values, (times, columns of values)."""
        path = local_file(self.path, key="data.path", allow_url=self.allow_url)
        layout = layout_of(path, self.wanted, sep=self.sep)
        found = recorded_in(path, layout, sep=self.sep, sort=self.sort)
        series, filling = without_holes(found, self.missing)
        told = irregularities(series)
        if told and self.strict:
            raise DataError(*(f"{line}. data.strict=false trains all the same" for line in told))
        return Series(
            values=series.values,
            times=series.times.labels,
            names=series.names,
            targets=layout.targets,
            units=self.units,
            test_from=_position(series.times, self.test_from),
            reading=self._reading(series),
            notes=(_read(series, layout), *told, *filling),
        )

    def _reading(self, series: Recorded) -> dict[str, Any]:
        return {
            "time": series.time,
            "step": str(series.step or IRREGULAR),
            "missing": self.missing,
            "sort": self.sort,
            "sep": self.sep,
        }


def _read(series: Recorded, layout: Layout) -> str:
    seen = [name for name in layout.values if name not in layout.targets]
    beside = f"; the network also sees {', '.join(seen)}" if seen else ""
    return f"{described(series)}; to predict: {', '.join(layout.targets)}{beside}"


def _position(times: Times, test_from: str | int | None) -> int | None:
    """Return the index of the first time at or after a label."""
    if test_from is None:
        return None
    label = str(test_from)
    read = form_and_position(label, only=times.form.kind)
    after = None if read is None else (times.positions >= read[1]).argmax()
    if read is None or not times.positions[0] < read[1] <= times.positions[-1]:
        raise DataError(
            f"data.test_from={label} is no time within the series; expected one after "
            f"{times.labels[0]} and up to {times.labels[-1]}.{did_you_mean(label, times.labels)}"
        )
    return int(after or 0)
