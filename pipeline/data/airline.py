"""Monthly international airline passengers, series G of Box and Jenkins (1976)."""

from pipeline.data.bundled_series import read_series
from pipeline.data.source import Series, Source


class Airline(Source):
    """One value a month, in thousands; the file holds 1949-01 to 1960-12.

    Args:
        first: First month, as YYYY-MM.
        last: Last month.
        test_from: First month of the test.
    """

    def __init__(self, *, first: str, last: str, test_from: str) -> None:
        self.first = first
        self.last = last
        self.test_from = test_from

    def read(self) -> Series:
        """Read the months, (months, 1)."""
        return read_series(
            "airline_passengers.csv",
            first=self.first,
            last=self.last,
            test_from=self.test_from,
            units="thousand passengers",
        )
