import numpy as np
import pandas as pd
import pytest
from given_series import prepared, read, source, written

from pipeline.data.series_file.recording import filled
from pipeline.errors import DataError

HOLE = float("nan")
FILE = "month,a,b\n2020-01,1,5\n2020-02,,6\n2020-03,3,\n2020-04,,\n2020-05,7,9\n"


def holey(rows: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(rows, 3))
    values[generator.random(values.shape) < 0.4] = HOLE
    values[0] = 0
    return values


def test_previous_is_what_pandas_fills_forward() -> None:
    values = holey(200)
    expected = pd.DataFrame(values).ffill().to_numpy()
    np.testing.assert_array_equal(filled(values, "previous", borders=(50, 120)), expected)


def test_a_line_is_what_pandas_interpolates() -> None:
    values = holey(200)
    expected = pd.DataFrame(values).interpolate().to_numpy()
    np.testing.assert_allclose(filled(values, "linear", borders=()), expected)


def test_no_line_looks_across_a_border() -> None:
    values = holey(200)
    changed = values.copy()
    changed[120:] = np.where(np.isnan(changed[120:]), HOLE, 1e6)
    before, after = (filled(content, "linear", borders=(120,)) for content in (values, changed))
    np.testing.assert_array_equal(before[:120], after[:120])
    assert not np.isnan(after).any()


def test_after_a_border_a_line_begins_at_the_last_known_value() -> None:
    values = np.array([[0.0], [1.0], [HOLE], [HOLE], [HOLE], [5.0]])
    assert filled(values, "linear", borders=(3,))[:, 0].tolist() == [0, 1, 1, 3, 4, 5]


def test_an_empty_cell_is_refused_by_line_and_column_with_the_count() -> None:
    with pytest.raises(
        DataError,
        match=r"f\.csv line 3, column 'a' is empty, one of 4 such cells; expected a number\. Fill "
        r"it in, or let data\.missing=previous .* or data\.missing=linear",
    ):
        read(FILE)


def test_the_line_that_is_named_is_that_of_the_file_even_after_sorting() -> None:
    lines = FILE.splitlines()
    shuffled = "\n".join([lines[0], lines[5], *lines[1:5]])
    with pytest.raises(DataError, match=r"line 4, column 'a' is empty"):
        read(shuffled, sort=True)


def test_filled_cells_are_told_column_by_column() -> None:
    series = read(FILE, missing="previous")
    assert series.values.tolist() == [[1, 5], [1, 6], [3, 6], [3, 6], [7, 9]]
    assert series.notes[1:] == (
        "f.csv: empty cells of column 'a' (2, the first at 2020-02) are filled with the last value "
        "before (data.missing=previous)",
        "f.csv: empty cells of column 'b' (2, the first at 2020-03) are filled with the last value "
        "before (data.missing=previous)",
    )


def test_a_line_is_told_as_looking_ahead() -> None:
    assert "(data.missing=linear), which looks ahead" in read(FILE, missing="linear").notes[1]


@pytest.mark.parametrize("missing", ["previous", "linear"])
def test_an_empty_beginning_is_refused_with_where_the_values_begin(missing: str) -> None:
    with pytest.raises(
        DataError,
        match=r"f\.csv line 2, column 'a' is empty and nothing comes before it to fill it; leave "
        r"out the 2 rows before its first value",
    ):
        read("month,a\n2020-01,\n2020-02,\n2020-03,1\n", missing=missing)


def test_a_column_without_any_value_is_refused() -> None:
    with pytest.raises(DataError, match=r"line 2, column 'a' is empty .*; leave out this column"):
        read("month,a,b\n2020-01,,1\n2020-02,,2\n", missing="previous", columns=("a", "b"))


@pytest.mark.parametrize("missing", ["previous", "linear"])
def test_no_training_row_changes_with_what_comes_after_the_training(missing: str) -> None:
    values = np.round(holey(100)[:, :1], 3)
    values[55:65] = HOLE  # an empty stretch across the border at 60
    changed = values.copy()
    changed[60:] += 1000
    trained = []
    for content in (values, changed):
        rows = "".join("\n" if np.isnan(value) else f"{value}\n" for value in content[:, 0])
        lines = (f"{time},{row}" for time, row in enumerate(rows.splitlines()))
        path = written("time,a\n" + "\n".join(lines))
        part = prepared(source(path, missing=missing), test=0.25, validation=0.2, scale="standard")
        trained.append(part.train)
    assert trained[0].rows[-1] == 59
    assert (trained[0].inputs == trained[1].inputs).all()
    assert (trained[0].targets == trained[1].targets).all()


def test_the_holes_of_a_training_part_are_on_the_line_between_its_values() -> None:
    rows = "".join(f"{row},{'' if row % 5 == 3 else row}\n" for row in range(60))
    train = prepared(source(written(f"time,a\n{rows}"), missing="linear")).train
    assert train.inputs[:, :, 0].tolist() == [[row, row + 1, row + 2] for row in range(len(train))]
