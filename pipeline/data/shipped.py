"""Bases of the data sets that ship: cached arrays, scikit-learn's tables, series in files."""

import csv
import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.base.errors import ConfigError, did_you_mean
from pipeline.base.paths import read_cached, write_cached
from pipeline.data.parsing.tables.file import CellLocation
from pipeline.data.parsing.times import IRREGULAR, find_step, read_times
from pipeline.data.source import Array, Samples, Series, Source, Task

Arrays = dict[str, Array]

FOLDER = Path(__file__).parent / "files"


def cached(name: str, make: Callable[[], Arrays], *, made_by: str) -> Arrays:
    """Return the arrays that `make` returns, from the user's cache if they are there undamaged.

    Processes may call this at the same time. If the cache can't be written, nothing is stored.
    `name` and the version of the distribution `made_by` identify the arrays.
    """
    file = f"{name}-{made_by}-{metadata.version(made_by)}.npz"
    archive = read_cached(file)
    if archive is not None:
        with suppress(ValueError), np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            return dict(arrays)
    arrays = make()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its flag
    write_cached(file, buffer.getvalue())  # NumPy ignores the digest that is appended
    return arrays


class ScikitLearnSet(Source):
    """Data set of `sklearn.datasets.load_<name>`, cached: importing scikit-learn takes a second."""

    name: ClassVar[str]
    task: ClassVar[Task] = "multiclass"

    def read(self) -> Samples:
        """Read the table, (rows, features)."""
        arrays = cached(self.name, self._load, made_by="scikit-learn")
        return Samples(
            inputs=arrays["inputs"],
            targets=arrays["targets"],
            task=self.task,
            classes=tuple(str(label) for label in arrays["classes"]),
            features=tuple(str(feature) for feature in arrays["features"]),
        )

    def _load(self) -> Arrays:
        import sklearn.datasets

        bunch = getattr(sklearn.datasets, f"load_{self.name}")()
        return {
            "inputs": np.asarray(bunch.data),
            "targets": np.asarray(bunch.target),
            "features": np.asarray(bunch.feature_names, dtype=np.str_),
            "classes": np.asarray(getattr(bunch, "target_names", ()), dtype=np.str_),
        }


@dataclass(kw_only=True, eq=False)
class BundledSeries(Source):
    """Series in the second column of a shipped file; an empty cell is NaN.

    Args:
        start: Label of the first time.
        end: Label of the last time, included.
        test_from: Label of the first test time.
    """

    file: ClassVar[str]
    units: ClassVar[str]

    start: str
    end: str
    test_from: str

    def read(self) -> Series:
        """Read the values, (times, 1).

        Raises:
            ConfigError: A label is not among the times.
        """
        with (FOLDER / self.file).open(newline="", encoding="utf-8") as lines:
            header, *rows = csv.reader(lines)
        all_times = tuple(time for time, _ in rows)
        start = _position(all_times, "start", self.start)
        end = _position(all_times, "end", self.end) + 1
        times = all_times[start:end]
        test_from = _position(times, "test_from", self.test_from)
        step = find_step(read_times(times, CellLocation(file=self.file), header[0]))
        values = [float(value or "nan") for _, value in rows[start:end]]
        return Series(
            values=np.array(values).reshape(-1, 1),
            times=times,
            names=(header[1],),
            targets=(header[1],),
            units=self.units,
            test_from=test_from,
            reading={"time": header[0], "step": str(step or IRREGULAR)},
        )


def _position(times: tuple[str, ...], key: str, label: str) -> int:
    if label not in times:
        expected = f"one from {times[0]} to {times[-1]}" if times else "start before end"
        raise ConfigError(
            f"data.{key}={label} is not a time of this series; expected {expected}."
            f"{did_you_mean(label, times)}"
        )
    return times.index(label)
