"""Yearly mean sunspot numbers (US National Geophysical Data Center, public domain)."""

from pipeline.data.shipped import BundledSeries


class Sunspots(BundledSeries):
    """One value a year; the file holds 1700 to 2008.

    Args:
        start: First year.
        end: Last year.
        test_from: First year of the test.
    """

    file = "sunspots_yearly.csv"
    units = "sunspots"

    def __init__(self, *, start: int, end: int, test_from: int) -> None:
        super().__init__(start=str(start), end=str(end), test_from=str(test_from))
