"""Weekly carbon dioxide in the air at Mauna Loa (Keeling and Whorf 2004, public domain)."""

from dataclasses import replace

import numpy as np

from pipeline.data.bundled_series import read_series
from pipeline.data.source import Array, Series, Source


class CO2(Source):
    """One value a week; the file holds 1958-03-29 to 2001-12-29, 59 weeks of them empty.

    An empty week gets the value of the week before it, so that nothing looks ahead.

    Args:
        first: First week, by its Saturday as YYYY-MM-DD.
        last: Last week.
        test_from: First week of the test.
    """

    def __init__(self, *, first: str, last: str, test_from: str) -> None:
        self.first = first
        self.last = last
        self.test_from = test_from

    def read(self) -> Series:
        """Read the weeks, (weeks, 1)."""
        series = read_series(
            "co2_weekly.csv",
            first=self.first,
            last=self.last,
            test_from=self.test_from,
            units="ppm",
        )
        empty = int(np.isnan(series.values).sum())
        told = [f"{empty} weeks without a value repeat the week before them"] if empty else []
        values = repeated_forward(series.values)
        return replace(series, values=values, notes=(*series.notes, *told))


def repeated_forward(values: Array) -> Array:
    """Fill NaN in values (time, channels) with the last value before; none before leaves NaN."""
    times = np.arange(len(values))[:, None]
    last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, times))
    filled: Array = np.take_along_axis(values, last_known, axis=0)
    return filled
