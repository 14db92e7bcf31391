"""The series that ship with the program: a CSV file each, the first column its times."""

import csv
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.data.source import Series, Source
from pipeline.data.tables.file import Place
from pipeline.data.times import IRREGULAR, find_step, read_times
from pipeline.errors import ConfigError, did_you_mean

FOLDER = Path(__file__).parent / "files"


class BundledSeries(Source):
    """The second column of a shipped file, NaN where a cell is empty.

    Args:
        first: Label of the first time.
        last: Label of the last time, included.
        test_from: Label of the first time of the test.
    """

    file: ClassVar[str]
    units: ClassVar[str]

    def __init__(self, *, first: str, last: str, test_from: str) -> None:
        self.first = first
        self.last = last
        self.test_from = test_from

    def read(self) -> Series:
        """Read the values, (times, 1).

        Raises:
            ConfigError: A label is no time of the file.
        """
        with (FOLDER / self.file).open(newline="", encoding="utf-8") as lines:
            header, *rows = csv.reader(lines)
        times = tuple(time for time, _ in rows)
        start, end = _position(times, "first", self.first), _position(times, "last", self.last) + 1
        kept = times[start:end]
        begin = _position(kept, "test_from", self.test_from)
        step = find_step(read_times(kept, Place(file=self.file), header[0]))
        return Series(
            values=np.array([[float(value or "nan")] for _, value in rows[start:end]]),
            times=kept,
            names=(header[1],),
            targets=(header[1],),
            units=self.units,
            test_from=begin,
            reading={"time": header[0], "step": str(step or IRREGULAR)},
        )


def _position(times: tuple[str, ...], key: str, label: str) -> int:
    if label not in times:
        between = f"one from {times[0]} to {times[-1]}" if times else "first before last"
        raise ConfigError(
            f"data.{key}={label} is no time of this series; expected {between}."
            f"{did_you_mean(label, times)}"
        )
    return times.index(label)
