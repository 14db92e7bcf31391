"""New rows for a trained model, equal to what training read; models from files, by the command."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.case_tables import cases
from helpers.file_sources import idx_bytes, new_rows, prepared, refused_rows, stored
from helpers.refused_calls import refusal
from PIL import Image

from pipeline.data.preparation.schema import Schema
from pipeline.serving.model import Model

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
def test_new_arrays_become_network_inputs(values: Any, expected: Any, form: str) -> None:
    schema = trained(values)
    Path("new").mkdir()
    np.save("new.npy", values[:7])
    np.save("new/x.npy", values[:7])
    arrays = {"x": values[:7], "y": Y[:7]}
    if form == "other names":
        arrays = {"whatever": values[:7]}
    elif form == "several parts":
        arrays = {"x": values[:7], "x_test": values[7:], "ids": Y}
    np.savez("new.npz", **arrays)
    opened = new_rows({"npy": "new.npy", "folder": "new"}.get(form, "new.npz"), schema)
    assert (opened.raw == expected[:7]).all()
    assert opened.raw.shape[1:] == schema.raw_shape
    assert opened.names is None


def test_new_rows_may_be_flattened_or_empty() -> None:
    schema = trained(COLOURS)
    moved = COLOURS.transpose(0, 3, 1, 2)
    for values in (moved, moved.reshape(30, -1), moved[:0]):
        np.save("new.npy", values)
        assert (new("new.npy", schema) == moved[: len(values)]).all()
    Path("new.csv").write_text(",".join(f"pixel{number}" for number in range(90)) + "\n")
    assert new("new.csv", schema).shape == (0, 3, 6, 5)


@pytest.mark.parametrize(
    ("header", "separator"),
    [("", ","), ("a,b,c,d\n", ","), ("a;b;c;d\n", ";"), ("", "\t"), ("0,1,2,3\n", ",")],
)
def test_csv_row_is_one_flattened_sample(header: str, separator: str) -> None:
    schema = trained(TABLE)
    lines = [separator.join(map(repr, row)) + "\r\n" for row in TABLE.tolist()]
    Path("new.csv").write_text("\ufeff" + header + "".join(lines), encoding="utf-8")
    assert (new("new.csv", schema) == TABLE).all()


@pytest.mark.parametrize("header", ["", "a;b;c;d\n", "0;1;2;3\n"])
@pytest.mark.parametrize("separator", [";", "\t"])
def test_csv_of_samples_may_have_decimal_commas(header: str, separator: str) -> None:
    schema = trained(TABLE)
    lines = [separator.join(map(repr, row)).replace(".", ",") for row in TABLE.tolist()]
    content = header.replace(";", separator) + "\n".join([*lines, separator.join("1234")])
    Path("new.csv").write_text(content, encoding="utf-8")
    assert (new("new.csv", schema) == [*TABLE.tolist(), [1, 2, 3, 4]]).all()


AMBIGUOUS = """
1,500;2,250;3;4 → field 1 is '1,500'; expected a number; write 1.500 or 1500
1,500,000;2;3;4 → field 1 is '1,500,000'; expected a number; write 1500000
1.500,5;2;3;4 → field 1 is '1.500,5'; expected a number
0,5;1.728;3;4 → has '1.728' in a file with decimal commas; write 1,728 or 1728
1 2 3 4 → has 1 fields; expected 4 values, a sample of
"""


@pytest.mark.parametrize(("line", "problem"), cases(AMBIGUOUS))
def test_ambiguous_number_in_samples_is_refused(line: str, problem: str) -> None:
    message = refused_rows(line.replace("1 2 3 4", "1 2 3 " + "4" * 200_000) + "\n", trained(TABLE))
    assert message.startswith("new.csv line 1")
    assert problem in message


def test_csv_of_images_equals_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so in memory and mapped from disk."""
    schema = trained(GREYS)
    np.savetxt("new.csv", GREYS.reshape(30, -1), fmt="%d", delimiter=",")
    rows = new("new.csv", schema)
    assert (rows == GREYS[:, None]).all()
    np.testing.assert_allclose(schema.to_inputs(rows), GREYS[:, None] / 255, rtol=1e-6)
    monkeypatch.setattr("pipeline.data.parsing.array_files.IN_MEMORY_BYTES", 0)
    mapped = new_rows("new.csv", schema).raw
    assert isinstance(mapped, np.memmap)
    assert (mapped == rows).all()


def test_array_schema_reads_npy_csv_and_tsv() -> None:
    values = RANDOM.normal(size=(4, 60))
    schema = trained(RANDOM.normal(size=(30, 60, 1)))
    plain = Schema.from_dict({**schema.to_dict(), "reading": {"kind": "array"}})
    np.save("new.npy", values)
    for name, sign in (("new.npy", None), ("new.csv", ","), ("new.tsv", "\t")):
        if sign:
            np.savetxt(name, values, fmt="%.17g", delimiter=sign)
        assert (new(name, plain)[:, :, 0] == values).all()


def ucr_schema(**changes: Any) -> Schema:
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
    ],
    ids=["labels", "no labels", "txt", "csv"],
)
def test_new_series_may_have_labels(name: str, content: str) -> None:
    schema = ucr_schema()
    Path(name).write_text(content)
    assert new(name, schema)[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_new_series_are_truncated_and_padded_as_trained() -> None:
    Path("new.tsv").write_text("7\t1\t2\t3\t4\n7\t5\tNaN\tNaN\tNaN\n")
    assert new("new.tsv", ucr_schema(length=2))[:, :, 0].tolist() == [[1, 2], [5, 5]]


@pytest.mark.parametrize("name", ["new", "new.gz"])
def test_new_idx_files_may_be_packed(name: str) -> None:
    schema, content = trained(GREYS), idx_bytes(GREYS)
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert (new(name, schema) == GREYS[:, None]).all()


def pictures() -> Schema:
    for number, pixels in enumerate(COLOURS[:12]):
        path = Path("set", "ab"[number % 2], f"{number:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return stored(prepared("images", "set").schema)


def test_new_images_are_read_from_folder_or_file() -> None:
    """They are resized, and the rows are sorted by and named after the files."""
    schema = pictures()
    Path("new/deeper").mkdir(parents=True)
    Image.fromarray(COLOURS[20]).save("new/b.PNG")
    Image.fromarray(COLOURS[21]).save("new/deeper/a.png")
    Path("new/notes.txt").write_text("x")
    assert new_rows("new", schema).names == ["b.PNG", "deeper/a.png"]
    assert (new("new", schema) == COLOURS[20:22].transpose(0, 3, 1, 2)).all()
    Image.new("L", (50, 40), 99).save("new.jpg")
    one = new_rows("new.jpg", schema)
    assert (one.names, one.raw.shape) == (["new.jpg"], (1, 3, 6, 5))
    assert abs(np.asarray(one.raw).astype(int) - 99).max() <= 1


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"x": GREYS[:, :5]},
            "new.npz: x has shape (30, 5, 5); the model was trained on (1, 6, 5) per row; expected "
            "(rows, 1, 6, 5), as in training, or (rows, 30)",
        ),
        ({"x": GREYS / 255}, "up to 1; the model was trained on uint8 images (0 to 255)"),
        ({"x": GREYS * 2.0}, "new.npz: x has values up to 510; the model was trained on uint8"),
        ({"x": np.where(GREYS > 250, np.nan, GREYS)}, "is missing (NaN) ("),
        ({"x": GREYS.astype(str)}, "new.npz: x has values of type <U3; expected numbers"),
        ({"a": GREYS, "b": GREYS}, "new.npz has 0 possible arrays of new rows; its arrays a"),
        ({"x_train": GREYS, "x_test": GREYS}, "new.npz has 2 possible arrays of new rows"),
    ],
)
def test_arrays_unlike_those_of_the_model_are_refused(arrays: dict[str, Any], problem: str) -> None:
    schema = trained(GREYS)
    np.savez("new.npz", **arrays)
    assert problem in refusal(new, "new.npz", schema)


BAD_TEXTS = """
1,2 → new.csv line 2 has 2 fields; expected 3 values, a sample of
1,2,x → new.csv line 2: field 3 is 'x'; expected a number
1,2,"3,5" → line 2: field 3 is '3,5'; expected a number; write
1,,3 → new.csv line 2: value 2 of 3 is missing
1,2, → new.csv line 2: field 3 is missing; expected a number
"""


@pytest.mark.parametrize(("line", "problem"), cases(BAD_TEXTS))
def test_texts_unlike_those_of_the_model_are_refused(line: str, problem: str) -> None:
    assert problem in refused_rows(f"1,2,3\n{line}\n", ucr_schema())


def test_series_unlike_those_of_the_model_are_refused() -> None:
    schema = ucr_schema()
    Path("new.tsv").write_text("1\t1\n")
    problem = "new.tsv has series of 1 steps and 1 channels; the model was tr"
    assert refusal(new, "new.tsv", schema).startswith(problem)
    Path("new.ts").write_text("1,2:1,2\n")
    problem = "new.ts is a .ts file; expected .tsv, .txt or .csv, with the lab"
    assert refusal(new, "new.ts", schema).startswith(problem)


def test_missing_or_broken_new_images_are_named() -> None:
    schema = pictures()
    Path("new").mkdir()
    assert "new has no pictures; expected files .png, .jpg" in refusal(new, "new", schema)
    assert "input='no.png' does not exist" in refusal(new, "no.png", schema)
    Path("new/a.png").write_text("no picture")
    problem = "new/a.png is not a picture: it begins with b'no pictu'"
    assert problem in refusal(new, "new", schema)


def test_other_file_names_are_not_idx() -> None:
    np.save("new.npy", GREYS)
    assert refusal(prepared, "idx", "new.npy") == (
        "new.npy does not have the name of an MNIST file; expected train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (each may end "
        "in .gz)"
    )


LABELS = np.arange(120) % 2
BRIGHT = (RANDOM.integers(0, 100, (120, 8, 8)) + 150 * LABELS[:, None, None]).astype(np.uint8)
TRAINED, TESTED = slice(90), slice(90, 120)


def ucr() -> tuple[str, str]:
    for part, rows in {"TRAIN": TRAINED, "TEST": TESTED}.items():
        lines = np.column_stack([LABELS[rows] * 2 - 1, BRIGHT[rows].reshape(-1, 64)])
        np.savetxt(f"Wave_{part}.txt", lines, fmt="%.7e", delimiter="  ")
    np.savetxt("new.tsv", BRIGHT.reshape(120, 64), fmt="%d", delimiter="\t")
    return "Wave_TRAIN.txt", "new.tsv"


def idx() -> tuple[str, str]:
    for part, rows in {"train": TRAINED, "t10k": TESTED}.items():
        for name, values in (("images-idx3", BRIGHT[rows]), ("labels-idx1", LABELS[rows])):
            Path(f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(values)))
    np.save("new.npy", BRIGHT)
    return ".", "new.npy"


@pytest.mark.slow
@pytest.mark.parametrize(("make", "network"), [(ucr, "cnn1d"), (idx, "cnn2d")])
def test_model_from_files_predicts_new_files(
    make: Callable[[], tuple[str, str]], network: str, made: Callable[..., Path]
) -> None:
    path, fresh = make()
    quick = ("trainer.max_epochs=12", "tracking=none", "verbose=0", "optimizer.lr=0.01")
    run = made(*quick, f"model={network}", f"data={make.__name__}", f"data.path='{path}'")
    model = Model.load(run)
    assert model.schema.classes == (("0", "1") if make is idx else ("-1", "1"))
    outputs = model.outputs(new_rows(fresh, model.schema).raw)
    assert ((outputs > 0.5).numpy() == LABELS).mean() > 0.9
