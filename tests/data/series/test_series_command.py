"""`data=series` as a user meets it: files, commands, what is printed, what is left."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from given_series import written

from pipeline.serving.frames import predict_frame
from pipeline.serving.model import Model

Train = Callable[..., int]

QUICK = ("trainer.max_epochs=2", "tracking=none", "verbose=2", "model=lstm", "model.hidden=4")
MONTHLY = "month;sales;price\r\n" + "".join(
    f"{2000 + row // 12}-{row % 12 + 1:02d};{row % 12 + row / 10};{row % 7}\r\n"
    for row in range(120)
)

pytestmark = pytest.mark.slow


def test_a_file_of_a_spreadsheet_trains_and_is_forecast_with_dates_and_intervals(
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(b"\xef\xbb\xbf" + MONTHLY.encode(), "数 据.csv")
    words = ("data=series", "data.path='数 据.csv'", "data.targets=[sales]", "data.units=pieces")
    shape = ("data.difference=12", "data.window=12", "data.horizon=3")
    # 63 validation rows: 21 forecasts of three steps that share none.
    parts = ("data.test=0.1", "data.validation=0.6")
    assert train(*QUICK, *words, *shape, *parts) == 0
    printed = capsys.readouterr().out
    assert "120 times from 2000-01 to 2009-12, step 1 month (column 'month')" in printed
    assert "to predict: sales; the network also sees price" in printed
    assert "in pieces" in printed
    assert "naive: value 12 steps before" in printed
    (run,) = (own_folder / "runs").iterdir()
    model = Model.load(run)
    columns = predict_frame(model, pd.read_csv(path, sep=";")).to_dict("list")
    assert columns["month"] == ["2010-01", "2010-02", "2010-03"]
    assert list(columns) == ["month", "sales", "sales low", "sales high"]
    assert all(low <= high for low, high in zip(*list(columns.values())[2:], strict=True))
