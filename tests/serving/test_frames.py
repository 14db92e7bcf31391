"""Rows in memory, answered by networks whose sums are known, block by block."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from serving.made_models import Sum, category_code, model, number_code, schema

from pipeline.data.preparation.schema import Encoder, Scaler, Schema
from pipeline.serving.frames import RowsError, predict_frame
from pipeline.serving.model import MOST_ROWS, Model

NUMBERS = model(schema(features=("a", "b")))
PICTURES = model(
    schema(
        input_shape=(1, 2, 3),
        features=("grey",),
        reading={"kind": "images", "size": [2, 3], "mode": "L"},
    )
)
ARRAYS = model(schema(input_shape=(2, 3), features=("a", "b", "c"), reading={"kind": "array"}))


def table(*codes: Any) -> Model:
    """A model of a table; each category is a feature, so that its sum counts known ones."""
    return model(schema(encoder=Encoder(codes=codes)))


def sums(made: Model, rows: Any) -> list[float]:
    answered: list[float] = predict_frame(made, rows)["prediction"].tolist()
    return answered


def refused(made: Model, rows: Any) -> str:
    """Return the line that a caller outside the program catches as a ValueError."""
    with pytest.raises(ValueError, match=r".+") as caught:
        predict_frame(made, rows)
    assert isinstance(caught.value, RowsError)
    (line,) = str(caught.value).splitlines()
    return line


def png(value: int, *, mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (3, 2), value if mode == "L" else (value,) * 3).save(file, "PNG")
    return file.getvalue()


def test_columns_are_matched_by_name() -> None:
    """The predictions keep the labels of the rows."""
    frame = pd.DataFrame({"note": ["x", "y"], "b": [10, 20], "a": [1.5, 2.5]}, index=["k", "l"])
    answered = predict_frame(NUMBERS, frame)
    assert answered["prediction"].to_dict() == {"k": 11.5, "l": 22.5}
    assert list(answered) == ["prediction"]


@pytest.mark.parametrize(
    "kind", ["float64", "float32", "int64", "int8", "object", "str", "Float64"]
)
def test_numeric_column_types_give_equal_results(kind: Any) -> None:
    """A boolean column is refused."""
    frame = pd.DataFrame({"a": [1, 0], "b": [0, 1]})
    assert sums(NUMBERS, frame.astype(kind)) == [1.0, 1.0]
    assert "'a'" in refused(NUMBERS, frame.astype(bool))


def test_numbers_reach_the_network_exactly_as_float32() -> None:
    values = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100).clip(-30, 30)
    frame = pd.DataFrame({"a": values, "b": np.zeros(200)})
    assert sums(NUMBERS, frame) == values.astype(np.float32).astype(float).tolist()
    assert sums(NUMBERS, frame.astype(object)) == values.astype(np.float32).astype(float).tolist()


LEVELS = [
    ("x y", ["x", "y", "z"], [1, 1, 0]),
    ("1 2", [1, 2, 3], [1, 1, 0]),
    ("1 2", [1.0, 2.0, 2.5], [1, 1, 0]),
    ("1 2", pd.Series([1, 2.0, "2"], dtype=object), [1, 1, 1]),
    ("True False", [True, False, True], [1, 1, 1]),
    ("false true", [True, False, True], [1, 1, 1]),
    ("x y", pd.Categorical(["y", "x", "x"]), [1, 1, 1]),
]


@pytest.mark.parametrize(("levels", "cells", "expected"), LEVELS)
def test_categories_match_the_text_of_a_file(levels: str, cells: Any, expected: Any) -> None:
    made = table(category_code("c", levels.split()))
    assert sums(made, pd.DataFrame({"c": cells})) == expected


@pytest.mark.parametrize("hole", [None, np.nan, pd.NA, pd.NaT, "", "NA"])
def test_missing_cell_needs_missing_cells_in_training(hole: object) -> None:
    frame = pd.DataFrame({"a": pd.Series([1.0, hole], dtype=object)})
    assert sums(table(number_code("a", fill=7.0, has_holes=True)), frame) == [1.0, 7.0]
    line = refused(table(number_code("a", fill=7.0)), frame)
    assert line.startswith("the input row 2, column 'a': the cell is empty")


def test_empty_frame_gives_typed_empty_columns() -> None:
    binary = model(schema("binary", classes=["no", "yes"]))
    answered = predict_frame(binary, pd.DataFrame({"a": [], "b": []}))
    assert list(answered) == ["prediction", "probability of yes"]
    assert len(answered) == 0
    assert answered["probability of yes"].dtype == np.float64
    assert answered["prediction"].dtype == pd.DataFrame({"x": ["a"]})["x"].dtype
    assert sums(PICTURES, pd.DataFrame({"image": []})) == []


@pytest.mark.parametrize("form", [bytes, bytearray, "base64"])
def test_pictures_are_accepted_as_bytes_or_base64(form: Any) -> None:
    contents = [png(10), png(200)]
    cells = [base64.b64encode(c).decode() if form == "base64" else form(c) for c in contents]
    assert sums(PICTURES, pd.DataFrame({"image": cells})) == [60.0, 1200.0]


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(12.0).reshape(2, 2, 3),
        np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        np.arange(12.0).reshape(2, 6),
        np.arange(12).reshape(2, 2, 3).tolist(),
        pd.DataFrame(np.arange(12).reshape(2, 6)),
    ],
    ids=["floats", "bytes", "flat", "lists", "a frame"],
)
def test_arrays_are_accepted_shaped_or_flat(rows: Any) -> None:
    assert sums(ARRAYS, rows) == [15.0, 51.0]


LARGE = np.array([[0.0] * 6, [3e38] * 6, [0.0] * 6])


@pytest.mark.parametrize(
    ("made", "rows", "expected"),
    [
        (ARRAYS, np.zeros((2, 3, 2)), "has the shape 2×3×2; expected rows of 2×3: (rows, 2, 3)"),
        (ARRAYS, np.zeros(6), "has the shape 6; expected rows of 2×3: (rows, 2, 3)"),
        (ARRAYS, [[1.0], [1.0, 2.0]], "holds values that are not numbers, or rows of different"),
        (ARRAYS, [["a"] * 6], "holds values that are not numbers, or rows of different lengths"),
        (ARRAYS, LARGE, "row 2: the prediction is NaN or infinite; "),
        (NUMBERS, {"c": [1.0]}, "lacks the columns 'a', 'b'"),
        (NUMBERS, np.zeros((1, 2)), "this model reads a table; expected a DataFrame"),
        (NUMBERS, {"a": [1], "b": [2], " a": [3]}, "has several columns called 'a'; name each dif"),
        (NUMBERS, {"a": [1.0], "b": [[1, 2]]}, "row 1, column 'b': '[1, 2]' is not a number"),
        (PICTURES, {"image": [png(1), "?!"]}, "row 2, column 'image': neither bytes nor base64; "),
        (PICTURES, {"image": [png(1), b"no"]}, "row 2"),
        (PICTURES, {"picture": [png(1)]}, "has no column 'image'; "),
    ],
)
def test_unusable_rows_are_refused(made: Model, rows: Any, expected: str) -> None:
    message = refused(made, pd.DataFrame(rows) if isinstance(rows, dict) else rows)
    assert message.startswith(expected if "this" in expected else f"the input {expected}")


def test_rows_pass_the_network_in_equal_blocks() -> None:
    """The block size follows from the size of a row and is at least 1."""
    network, calls = Sum(1), list[int]()
    network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    rows = np.arange(2.0 * (2 * MOST_ROWS + 3)).reshape(-1, 2)
    outputs = model(schema(), network=network).outputs(rows)
    assert outputs[:, 0].tolist() == rows.sum(1).tolist()
    assert calls == [MOST_ROWS, MOST_ROWS, 3]
    # Of 3 MiB as bytes, 12 as what a network gets.
    picture = schema(input_shape=(3, 512, 512), reading={"kind": "images"})
    assert model(picture).block_rows == 5
    assert model(schema(input_shape=(3, 9000, 9000))).block_rows == 1


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (schema(target_scaler=Scaler(shift=(100.0,), spread=(10.0,))), [130.0]),
        (schema("binary", classes=["no", "yes"]), torch.tensor(3.0).sigmoid().item()),
        (schema("multiclass", outputs=4, classes=list("abcd")), [0.25] * 4),
    ],
    ids=["regression", "binary", "multiclass"],
)
def test_outputs_are_values_in_units_or_probabilities(made: Schema, expected: object) -> None:
    outputs = model(made).outputs(np.array([[1.0, 2.0]]))
    assert outputs.tolist() == [expected]
    assert model(made).outputs(np.zeros((0, 2))).shape == (0, *outputs.shape[1:])
