from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import sample_data
from helpers.file_sources import new_rows, refused_rows
from helpers.refused_calls import refusal
from serving import made_models
from torch import Tensor, nn

from pipeline.config.options import DataOptions
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.preparation.reader import Block, Rules, reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.serving.frames import predict_frame
from pipeline.serving.model import Decision, Model

ROWS, HORIZON = 60, 3
COLUMNS = ("a", "b", "c")


def frame(rows: int = ROWS, freq: str = "MS", written: str = "%Y-%m") -> pd.DataFrame:
    """Three random walks in time."""
    values = np.random.default_rng(0).normal(size=(rows, 3)).cumsum(0)
    times = pd.date_range("2000-01-01", periods=rows, freq=freq).strftime(written)
    return pd.DataFrame({"when": times, **dict(zip(COLUMNS, values.T, strict=True))})


def options(**changes: Any) -> DataOptions:
    return sample_data.options(**{"window": 4, "horizon": HORIZON, "scale": "standard", **changes})


def read(content: pd.DataFrame, *, missing: str = "refuse", **changes: Any) -> Prepared:
    """Prepare a file with this content, whose columns c and a are to be predicted."""
    content.to_csv("trained.csv", index=False)
    keys = {"path": "trained.csv", "targets": ("c", "a"), "missing": missing}
    return prepare(sample_data.Shipped("series", keys).source(), options(**changes))


def model_of(schema: Schema, *, decision: Decision | None = None) -> Model:
    """A model whose network is a line with weights of its own."""
    torch.manual_seed(0)
    inputs = int(np.prod(schema.input_shape))
    line = nn.Sequential(nn.Flatten(), nn.Linear(inputs, schema.outputs)).eval()
    return made_models.model(schema, decision, network=line)


def forecast(model: Model, past: pd.DataFrame) -> dict[Any, list[Any]]:
    return predict_frame(model, past).to_dict("list")


def read_frame(past: pd.DataFrame, schema: Schema) -> Block:
    return reader_of(schema).apply(past, what="the frame")


def training_prediction(model: Model, part: Part, row: int) -> Tensor:
    """What the training says of one row of a part, in units, (horizon, targets)."""
    with torch.inference_mode():
        outputs = model.network(part.take(torch.tensor([row])))
    offsets = None if part.offsets is None else part.offsets[row : row + 1]
    return model.schema.to_units(outputs, offsets).reshape(HORIZON, -1)


@pytest.mark.parametrize("difference", [None, 3, 12])
@pytest.mark.parametrize("scale", ["none", "standard", "minmax"])
def test_forecast_equals_training_prediction_of_its_window(
    difference: int | None, scale: str
) -> None:
    parts = read(frame(), difference=difference, scale=scale)
    model = model_of(parts.schema)
    for row in (0, len(parts.test) - 1):
        first = int(parts.test.rows[row])
        columns = forecast(model, frame()[:first])
        expected = training_prediction(model, parts.test, row)
        assert columns["when"] == frame()["when"][first : first + HORIZON].tolist()
        assert columns["c"] == expected[:, 0].tolist()
        assert columns["a"] == expected[:, 1].tolist()


def test_forecast_equals_hand_computed_values() -> None:
    schema = read(frame(), difference=5).schema
    model = model_of(schema)
    values = frame()[list(COLUMNS)].to_numpy()
    changes = values[5:] - values[:-5]
    shift, spread = np.array([schema.input_scaler.shift, schema.input_scaler.spread])
    window = (changes[-4:] - shift) / spread
    line = model.network[1]  # type: ignore[index] # a Sequential
    scaled = line.weight.detach().numpy() @ window.reshape(-1) + line.bias.detach().numpy()
    by_step = scaled.reshape(HORIZON, 2) * spread[[2, 0]] + shift[[2, 0]]
    before = values[[-5, -4, -3]][:, [2, 0]]
    columns = forecast(model, frame())
    np.testing.assert_allclose(
        np.array([columns["c"], columns["a"]]).T, by_step + before, rtol=1e-5
    )


def test_forecast_needs_only_window_and_difference() -> None:
    model = model_of(read(frame(), difference=5).schema)
    assert forecast(model, frame()) == forecast(model, frame()[-9:])
    problem = refusal(forecast, model, frame()[-8:])
    assert "has 8 rows; expected at least 9: " in problem
    assert " a window of 4 and a difference of 5" in problem


def test_intervals_use_residuals_of_step_and_target() -> None:
    pairs = tuple((-float(output), 10.0 + output) for output in range(2 * HORIZON))
    model = model_of(read(frame()).schema, decision=Decision(intervals=pairs))
    columns = forecast(model, frame())
    assert list(columns) == ["when", "c", "c low", "c high", "a", "a low", "a high"]
    for target, outputs in (("c", [0, 2, 4]), ("a", [1, 3, 5])):
        values = np.array(columns[target])
        np.testing.assert_allclose(columns[f"{target} low"], values - outputs)
        np.testing.assert_allclose(columns[f"{target} high"], values + 10 + outputs)


def with_cell(row: int, cell: object) -> pd.DataFrame:
    changed = frame().astype({"b": object})
    changed["b"] = [*changed["b"][:row], cell, *changed["b"][row + 1 :]]
    return changed


EMPTY = " {}, column 'b' is empty"


@pytest.mark.parametrize(
    ("past", "line", "problem"),
    [
        (
            frame()[["when", "b"]].rename(columns={"when": "wen"}),
            1,
            " lacks the columns 'when', 'a', 'c'; it has wen, b",
        ),
        (frame(freq="D", written="%Y-%m-%d"), 1, ": the times have step 1 day; expected 1 month"),
        (frame()[:10], 1, " has 10 rows; expected at least 16: "),
        *((with_cell(20, hole), 22, EMPTY) for hole in (None, "", np.nan, pd.NA, pd.NaT)),
        (with_cell(20, pd.NA).astype({"b": "Float64"}), 22, EMPTY),
        (with_cell(3, "many"), 5, " {}, column 'b': 'many' is not a number"),
    ],
)
def test_unusable_past_is_refused(past: pd.DataFrame, line: int, problem: str) -> None:
    """A place in a file is a line, and in a frame a row."""
    schema = read(frame(), difference=12).schema
    message = refused_rows(past.to_csv(index=False), schema)
    assert message.startswith("new.csv" + problem.format(f"line {line}"))
    message = refusal(read_frame, past, schema)
    assert message.startswith("the frame" + problem.format(f"row {line - 1}"))


@pytest.mark.parametrize("missing", ["previous", "linear"])
def test_missing_values_are_filled_as_in_training(missing: str) -> None:
    schema = read(frame(), missing=missing).schema
    holey = frame()
    holey.loc[[20, 58, 59], "b"] = np.nan
    holey.to_csv("new.csv", index=False)
    (window,) = new_rows("new.csv", schema).raw
    filled = holey["b"].ffill() if missing == "previous" else holey["b"].interpolate()
    np.testing.assert_allclose(window[:, 1], filled[-4:], rtol=1e-12)
    np.testing.assert_array_equal(read_frame(holey, schema).raw, [window])


def test_frame_and_file_give_the_same_rows() -> None:
    """Neither the types nor the order of the columns matter."""
    schema = read(frame()).schema
    frame().to_csv("new.csv", index=False)
    turned = frame()[["b", "when", "c", "a"]].assign(more="word")
    turned.to_csv("turned.csv", index=False)
    in_file = new_rows("new.csv", schema)
    for other in (new_rows("turned.csv", schema), read_frame(frame().astype({"b": str}), schema)):
        np.testing.assert_array_equal(other.raw, in_file.raw)
        assert other.names == in_file.names
    dated = frame().assign(when=pd.to_datetime(frame()["when"]))
    for dated_frame in (dated, dated.set_index("when"), dated.set_index("when").rename_axis(None)):
        rows = read_frame(dated_frame, schema)
        np.testing.assert_array_equal(rows.raw, in_file.raw)
        assert rows.names == [f"{label}-01" for label in in_file.names or ()]


def test_forecast_without_times_has_no_labels() -> None:
    columns = forecast(model_of(read(frame().drop(columns="when")).schema), frame())
    assert list(columns) == ["c", "a"]
    assert len(columns["c"]) == HORIZON


def test_missing_steps_in_new_past_are_reported() -> None:
    schema = read(frame()).schema
    frame().drop(index=[50, 51]).to_csv("gappy.csv", index=False)
    note = (
        "2 steps of 1 month are missing: 2 after 2004-02; a window treats the rows on both sides "
        "as neighbours"
    )
    for name, gaps in (("gappy.csv", (note,)), ("trained.csv", ())):
        assert reader_of(schema).open(Path(name), Rules(), size=1).gaps == gaps
