"""Yearly mean sunspot numbers (US National Geophysical Data Center, public domain)."""

from pipeline.data.shipped import BundledSeries


class Sunspots(BundledSeries):
    """One value a year; the file holds 1700 to 2008.

    Args:
        first: First year.
        last: Last year.
        test_from: First year of the test.
    """

    file = "sunspots_yearly.csv"
    units = "sunspots"

    def __init__(self, *, first: int, last: int, test_from: int) -> None:
        super().__init__(first=str(first), last=str(last), test_from=str(test_from))
