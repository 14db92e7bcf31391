"""Series in files that a test writes itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from given_data import Shipped, options

from pipeline.data.prepare import Prepared, prepare
from pipeline.data.series import SeriesFile
from pipeline.data.source import Series
from pipeline.data.tables.file import Place
from pipeline.data.times import Times, read_times

PLACE = Place(file="f.csv")


def times_of(labels: Sequence[str | None]) -> Times:
    return read_times(labels, PLACE, "time")


def written(content: str | bytes, name: str = "f.csv") -> Path:
    """Write a file into the current folder, byte by byte."""
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source(path: Path | str, **changes: Any) -> SeriesFile:
    """The source as `conf/data/series.yaml` builds it."""
    return cast(SeriesFile, Shipped("series", {"path": str(path), **changes}).source())


def read(content: str | bytes, **changes: Any) -> Series:
    return source(written(content), **changes).read()


def prepared(series_source: SeriesFile, **changes: Any) -> Prepared:
    return prepare(series_source, options(**{"window": 3, **changes}))
