"""Monthly international airline passengers, series G of Box and Jenkins (1976)."""

from pipeline.data.shipped import BundledSeries


class Airline(BundledSeries):
    """One value a month, in thousands; the file holds 1949-01 to 1960-12, as YYYY-MM."""

    file = "airline_passengers.csv"
    units = "thousand passengers"
