"""New rows for a trained model: from any file of its kind, equal to what training read."""

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_sources import new_rows, prepared, stored
from PIL import Image

from pipeline.data.schema import Schema
from pipeline.errors import DataError

RANDOM = np.random.default_rng(0)
Y = np.arange(30) % 3
TABLE = RANDOM.normal(size=(30, 4))
SERIES = RANDOM.normal(size=(30, 6, 2))
COLOURS = RANDOM.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
GREYS = RANDOM.integers(0, 256, (30, 6, 5), dtype=np.uint8)


def trained(values: np.ndarray, **changes: Any) -> Schema:
    np.savez("train.npz", x=values, y=Y)
    return stored(prepared("arrays", "train.npz", **changes).schema)


def new(path: str, schema: Schema) -> np.ndarray:
    return np.asarray(new_rows(path, schema).raw)


@pytest.mark.parametrize("form", ["npz", "npy", "folder", "other names", "several parts"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (TABLE, TABLE),
        (SERIES, SERIES),
        (COLOURS, COLOURS.transpose(0, 3, 1, 2)),
        (GREYS, GREYS[:, None]),
        (TABLE > 0, TABLE > 0),
    ],
    ids=["table", "series", "colours", "greys", "truths"],
)
def test_new_arrays_of_the_trainings_form_are_the_networks_rows(
    values: np.ndarray, expected: np.ndarray, form: str
) -> None:
    schema = trained(values)
    Path("new").mkdir()
    if form == "npz":
        np.savez("new.npz", x=values[:7], y=Y[:7])
    elif form == "npy":
        np.save("new.npy", values[:7])
    elif form == "folder":
        np.save("new/x.npy", values[:7])
    elif form == "other names":
        np.savez("new.npz", whatever=values[:7])
    else:
        np.savez("new.npz", x=values[:7], x_test=values[7:], ids=Y)
    path = {"npy": "new.npy", "folder": "new"}.get(form, "new.npz")
    rows = new(path, schema)
    assert (rows == expected[:7]).all()
    assert rows.shape[1:] == schema.raw_shape


def test_rows_may_come_with_the_networks_axes_or_flattened() -> None:
    schema = trained(COLOURS)
    moved = COLOURS.transpose(0, 3, 1, 2)
    for values in (moved, moved.reshape(30, -1)):
        np.save("new.npy", values)
        assert (new("new.npy", schema) == moved).all()


def test_no_rows_are_no_error() -> None:
    schema = trained(TABLE)
    np.save("new.npy", TABLE[:0])
    Path("new.csv").write_text("a,b,c,d\n")
    assert new("new.npy", schema).shape == new("new.csv", schema).shape == (0, 4)


@pytest.mark.parametrize(
    ("header", "separator"),
    [("", ","), ("a,b,c,d\n", ","), ("a;b;c;d\n", ";"), ("", "\t"), ("0,1,2,3\n", ",")],
)
def test_a_csv_has_a_flattened_sample_a_row_with_a_header_or_without(
    header: str, separator: str
) -> None:
    schema = trained(TABLE)
    lines = [separator.join(map(repr, row)) + "\r\n" for row in TABLE.tolist()]
    Path("new.csv").write_text("\ufeff" + header + "".join(lines), encoding="utf-8")
    assert (new("new.csv", schema) == TABLE).all()


def test_a_csv_of_pictures_equals_the_pictures() -> None:
    schema = trained(GREYS)
    np.savetxt("new.csv", GREYS.reshape(30, -1), fmt="%d", delimiter=",")
    rows = new("new.csv", schema)
    assert (rows == GREYS[:, None]).all()
    np.testing.assert_allclose(schema.to_inputs(rows), GREYS[:, None] / 255, rtol=1e-6)


def test_a_large_csv_is_the_same_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.text_rows.IN_MEMORY_BYTES", 0)
    schema = trained(SERIES)
    np.savetxt("new.csv", SERIES.reshape(30, -1), fmt="%.17g", delimiter=",")
    rows = new_rows("new.csv", schema).raw
    assert isinstance(rows, np.memmap)
    assert (rows == SERIES).all()


def test_a_data_set_that_ships_predicts_from_arrays_series_and_csv() -> None:
    from pipeline.data.synthetic_control import STEPS

    values = RANDOM.normal(size=(4, STEPS))
    np.savez("train.npz", x=RANDOM.normal(size=(30, STEPS, 1)), y=Y)
    schema = stored(prepared("arrays", "train.npz").schema)
    plain = Schema.from_dict({**schema.to_dict(), "reading": {"kind": "array"}})
    np.save("new.npy", values)
    np.savetxt("new.csv", values, fmt="%.17g", delimiter=",")
    np.savetxt("new.tsv", values, fmt="%.17g", delimiter="\t")
    for name in ("new.npy", "new.csv", "new.tsv"):
        assert (new(name, plain)[:, :, 0] == values).all()


def ucr(**changes: Any) -> Schema:
    lines = [f"{label}\t1.5\t{row}\t3\n" for row, label in enumerate(Y)]
    Path("a_TRAIN.tsv").write_text("".join(lines))
    return stored(prepared("ucr", "a_TRAIN.tsv", **changes).schema)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.tsv", "7\t1\t2\t3\n7\t4\t5\t6\n"),
        ("new.tsv", "1\t2\t3\n4\t5\t6\n"),
        ("new.txt", "  1.0  1  2  3\n  2.0  4  5  6\n"),
        ("new.csv", "1,2,3\n4,5,6\n"),
        ("new.ts", "@classLabel true a b\n@data\n1,2,3:x\n4,5,6:?\n"),
        ("new.ts", "@classLabel false\n@data\n1,2,3\n4,5,6\n"),
    ],
    ids=["labels", "no labels", "txt", "csv", "ts", "ts without labels"],
)
def test_new_series_are_read_with_labels_or_without(name: str, content: str) -> None:
    schema = ucr()
    Path(name).write_text(content)
    assert new(name, schema)[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_new_series_are_cut_and_padded_as_in_training() -> None:
    schema = ucr(length=2)
    Path("new.tsv").write_text("7\t1\t2\t3\t4\n7\t5\tNaN\tNaN\tNaN\n")
    assert new("new.tsv", schema)[:, :, 0].tolist() == [[1, 2], [5, 5]]


def test_series_of_a_table_of_steps_are_its_rows() -> None:
    schema = trained(TABLE)
    Path("new.ts").write_text("@classLabel false\n@data\n1,2,3,4\n")
    assert new("new.ts", schema).tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("name", ["new", "new.gz"])
def test_new_idx_files_are_read_packed_or_not(name: str) -> None:
    schema = trained(GREYS)
    content = struct.pack(">4B3I", 0, 0, 8, 3, *GREYS.shape) + GREYS.tobytes()
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert (new(name, schema) == GREYS[:, None]).all()


def pictures() -> Schema:
    for number, pixels in enumerate(COLOURS[:12]):
        path = Path("set", "ab"[number % 2], f"{number:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return stored(prepared("images", "set").schema)


def test_a_folder_of_new_pictures_is_read_in_order_with_names() -> None:
    schema = pictures()
    Path("new/deeper").mkdir(parents=True)
    Image.fromarray(COLOURS[20]).save("new/b.PNG")
    Image.fromarray(COLOURS[21]).save("new/deeper/a.png")
    Path("new/notes.txt").write_text("x")
    assert new_rows("new", schema).names == ["b.PNG", "deeper/a.png"]
    assert (new("new", schema) == COLOURS[20:22].transpose(0, 3, 1, 2)).all()


def test_one_new_picture_is_enough_and_gets_the_trainings_size_and_mode() -> None:
    schema = pictures()
    Image.new("L", (50, 40), 99).save("new.jpg")
    assert new_rows("new.jpg", schema).names == ["new.jpg"]
    rows = new("new.jpg", schema)
    assert rows.shape == (1, 3, 6, 5)
    assert abs(rows.astype(int) - 99).max() <= 1


def test_rows_of_arrays_have_no_names() -> None:
    schema = trained(TABLE)
    np.save("new.npy", TABLE)
    assert new_rows("new.npy", schema).names is None


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"x": GREYS[:, :5]},
            "new.npz: x has shape (30, 5, 5); the model was trained on (1, 6, 5) a row; expected "
            "(rows, 1, 6, 5), as in training, or (rows, 30)",
        ),
        (
            {"x": GREYS / 255},
            "up to 1; the model was trained on pictures of type uint8, 0 to 255, ",
        ),
        ({"x": GREYS * 2.0}, "new.npz: x has values up to 510; the model was trained on pictures"),
        ({"x": np.where(GREYS > 250, np.nan, GREYS)}, "is missing (NaN) ("),
        ({"x": GREYS.astype(str)}, "new.npz: x has values of type <U3; expected numbers"),
        (
            {"a": GREYS, "b": GREYS},
            "new.npz has 0 arrays that could be the new rows; its arrays are",
        ),
        ({"x_train": GREYS, "x_test": GREYS}, "new.npz has 2 arrays that could be the new rows"),
    ],
)
def test_new_arrays_that_are_not_the_models_are_refused(
    arrays: dict[str, np.ndarray], problem: str
) -> None:
    schema = trained(GREYS)
    np.savez("new.npz", **arrays)
    with pytest.raises(DataError, match=re.escape(problem)):
        new("new.npz", schema)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("new.csv", "", "new.csv is empty (0 bytes)"),
        ("new.csv", "1,2,3\n1,2\n", "new.csv line 2 has 2 fields; expected 3 values, a sample of"),
        ("new.csv", "1,2,3\n1,2,x\n", "new.csv line 2: field 3 is 'x'; expected a number"),
        (
            "new.csv",
            "1;2;3\n1;2;3,5\n",
            "new.csv line 2: field 3 is '3,5'; expected a number; write",
        ),
        ("new.csv", "1,2,3\n1,,3\n", "new.csv line 2: value 2 of 3 is missing"),
        ("new.csv", "1,2,3\n1,2,\n", "new.csv line 2: field 3 is missing; expected a number"),
        ("new.tsv", "1\t1\n", "new.tsv has series of 1 steps and 1 channels; the model was tr"),
        (
            "new.ts",
            "@classLabel false\n@data\n1,2,3:1,2,3\n",
            "new.ts has series of 3 steps and 2 channels; the model was trained on (3, 1) a row",
        ),
    ],
)
def test_new_texts_that_are_not_the_models_are_refused_by_line(
    name: str, content: str, problem: str
) -> None:
    schema = ucr()
    Path(name).write_text(content)
    with pytest.raises(DataError, match=re.escape(problem)):
        new(name, schema)


def test_new_pictures_that_are_missing_or_broken_are_named() -> None:
    schema = pictures()
    Path("new").mkdir()
    with pytest.raises(DataError, match=r"new has no picture; expected files .png, .jpg"):
        new("new", schema)
    with pytest.raises(DataError, match=r"input='no.png' is not there"):
        new("no.png", schema)
    Path("new/a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"new/a.png is no picture: it begins with b'no pictu'"):
        new("new", schema)
