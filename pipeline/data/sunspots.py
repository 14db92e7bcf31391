"""Yearly mean sunspot numbers (US National Geophysical Data Center, public domain)."""

from pipeline.data.bundled_series import read_series
from pipeline.data.source import Series, Source


class Sunspots(Source):
    """One value a year; the file holds 1700 to 2008.

    Args:
        first: First year.
        last: Last year.
        test_from: First year of the test.
    """

    def __init__(self, *, first: int, last: int, test_from: int) -> None:
        self.first = first
        self.last = last
        self.test_from = test_from

    def read(self) -> Series:
        """Read the years, (years, 1)."""
        return read_series(
            "sunspots_yearly.csv",
            first=str(self.first),
            last=str(self.last),
            test_from=str(self.test_from),
            units="sunspots",
        )
