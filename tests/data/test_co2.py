import numpy as np
from given_data import Shipped, shipped

from pipeline.data.co2 import CO2


def test_the_published_weeks_come_out_and_the_empty_ones_repeat_the_week_before() -> None:
    series = Shipped("co2").source().read()
    assert (len(series.values), series.times[0], series.times[-1]) == (
        2284,
        "1958-03-29",
        "2001-12-29",
    )
    at = series.times.index("1958-05-10")
    assert series.values[at - 1 : at + 2, 0].tolist() == [316.9, 316.9, 317.5]
    assert series.notes == ("59 weeks without a value repeat the week before them",)


def test_every_week_of_co2_comes_seven_days_after_the_one_before() -> None:
    times = np.array(Shipped("co2").source().read().times, dtype="datetime64[D]")
    assert set(np.diff(times).astype(int)) == {7}


def test_no_week_of_the_co2_test_was_empty() -> None:
    series = CO2(first="1986-01-04", last="2001-12-29", test_from="1994-01-01").read()
    assert series.notes == ()
    assert series.values[0] == [346.4]


def test_co2_is_forecast_a_week_ahead_in_its_own_units() -> None:
    prepared = shipped("co2")
    assert prepared.schema.units == "ppm"
    assert len(prepared.test) == 418


def test_an_empty_week_without_a_week_before_it_stays_empty() -> None:
    values = CO2(first="1958-05-10", last="2001-12-29", test_from="1994-01-01").read().values[:, 0]
    assert np.isnan(values[0])
    assert values[1] == 317.5
