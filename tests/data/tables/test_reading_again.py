from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from given_data import shipped
from given_tables import FILE, patients, prepared, read, text

from pipeline.data.encode import UNKNOWN
from pipeline.data.schema import Schema
from pipeline.data.tables.delimited import batches
from pipeline.data.tables.reading_again import Rows, class_indices, rows_of
from pipeline.errors import DataError

NUMBERS = "a,b,y\n" + "".join(
    f"{row},{row % 5},{'no' if row % 3 else 'yes'}\n" for row in range(40)
)


def schema(content: str | None = None, **keys: object) -> Schema:
    keys = {"id": "name", **keys} if content is None else keys
    return prepared(content or text(patients()), **keys).schema


def batch(**columns: list[str | None]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({n: pa.array(c, pa.string()) for n, c in columns.items()})


def rows(known: Schema, *, first_row: int = 1, **words: object) -> Rows:
    columns = {key: value for key, value in words.items() if isinstance(value, list)}
    rules = {key: value for key, value in words.items() if not isinstance(value, list)}
    return rows_of(batch(**columns), known, file="new.csv", first_row=first_row, **rules)


def one(**changes: list[str | None]) -> dict[str, list[str | None]]:
    return {"age": ["50"], "town": ["Bonn"], "ward": ["1"], "dose": ["5"], **changes}


def test_the_rows_of_the_training_file_are_read_as_in_training() -> None:
    samples = read(text(patients()), id="name")
    known = schema()
    ((first, whole),) = batches(Path(FILE))
    found = rows_of(whole, known, file=FILE, first_row=first)
    np.testing.assert_array_equal(found.raw, samples.inputs)
    assert found.ids == samples.ids.tolist()
    assert found.targets.tolist() == samples.targets.tolist()


def test_reordered_and_further_columns_give_the_same_rows() -> None:
    known = schema()
    turned = dict(reversed(one(colour=["red"]).items()))
    found, plain = rows(known, **turned), rows(known, **one())
    assert found.raw.tobytes() == plain.raw.tobytes()
    assert (found.ignored, plain.ignored) == (("colour",), ())


def test_missing_columns_are_all_named() -> None:
    known = schema()
    with pytest.raises(
        DataError,
        match=r"new.csv lacks the columns 'town', 'dose', which the model was trained on; it has "
        r"age, ward, dos\.$",
    ):
        rows(known, age=["1"], ward=["1"], dos=["1"])


def test_an_unknown_category_is_counted_or_refused_as_asked() -> None:
    known = schema()
    strange = one(town=["Bon"])
    found = rows(known, **strange)
    assert found.unknown == {"town": 1}
    assert found.raw[0, 1] == UNKNOWN
    with pytest.raises(
        DataError,
        match=r"new.csv row 7, column 'town': 'Bon' is no category of the training table; "
        r"unknown=other counts it as other. Did you mean 'Bonn'\?",
    ):
        rows(known, **strange, unknown="refuse", first_row=7)


def test_an_empty_cell_is_filled_in_where_training_had_some_and_refused_elsewhere() -> None:
    known = schema()
    assert rows(known, **one(age=[None], town=["NA"])).missing == {"age": 1, "town": 1}
    with pytest.raises(
        DataError,
        match=r"new.csv row 3, column 'dose': the cell is empty, and no training row had an empty "
        r"one there; fill it in, or .* missing=impute",
    ):
        rows(known, **one(dose=[None]), first_row=3)
    assert rows(known, **one(dose=[None]), missing="impute").missing == {"dose": 1}


def test_a_negative_number_is_no_unknown_category() -> None:
    found = rows(schema(), **one(age=["-1"]), unknown="refuse")
    assert found.unknown == {}


def test_a_word_in_a_column_of_numbers_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"new.csv row 2, column 'age': 'old' is no number"):
        rows(schema(), **one(age=["old"]), first_row=2)


def test_an_empty_batch_has_the_columns_and_no_row() -> None:
    found = rows(schema(), **{name: [] for name in one()})
    assert found.raw.shape == (0, 4)


def test_a_table_that_ships_is_read_by_the_names_of_its_features() -> None:
    known = shipped("iris").schema
    cells = {name: ["1.5"] for name in known.features}
    found = rows(known, **cells, missing="impute")
    assert found.raw.tolist() == [[1.5] * 4]
    with pytest.raises(DataError, match=r"column 'petal length \(cm\)': the cell is empty"):
        rows(known, **{**cells, "petal length (cm)": [None]}, missing="impute")


@pytest.mark.parametrize(
    ("written", "read_again"),
    [
        (["0", "1"], ["0.0", "1.0"]),
        (["-1", "1"], ["-1.0", "+1"]),
        (["False", "True"], ["false", "TRUE"]),
        (["no", "yes"], ["no", "yes"]),
    ],
)
def test_labels_of_a_new_file_are_the_classes_of_training_however_they_are_written(
    written: list[str], read_again: list[str]
) -> None:
    content = "a,y\n" + "".join(f"{row},{written[row % 4 == 0]}\n" for row in range(40))
    known = schema(content)
    assert known.classes == tuple(written)
    found = class_indices(pa.array(read_again), known)
    assert found.tolist() == [0, 1]


def test_an_unknown_label_and_an_empty_one_are_refused_with_row_and_value() -> None:
    known = schema(NUMBERS)
    with pytest.raises(
        DataError,
        match=r"new.csv row 6, column 'y': 'yess' is no class; expected 'no', 'yes'. Did you mean "
        r"'yes'\?",
    ):
        class_indices(pa.array(["no", "yess"]), known, file="new.csv", first_row=5)
    with pytest.raises(DataError, match=r"row 2, column 'y': the cell is empty; expected what"):
        class_indices(pa.array(["no", None]), known)


def test_values_of_a_regression_are_read_and_an_empty_one_is_refused() -> None:
    content = "a,y\n" + "".join(f"{row},{row / 7}\n" for row in range(40))
    known = schema(content)
    assert rows(known, a=["1", "2"], y=["0.5", "-3"]).targets.tolist() == [[0.5], [-3.0]]
    assert rows(known, a=["1"]).targets is None
    with pytest.raises(DataError, match=r"new.csv row 1, column 'y': the cell is empty"):
        rows(known, a=["1"], y=[None])
