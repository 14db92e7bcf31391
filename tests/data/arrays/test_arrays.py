import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_sources import prepared, read

from pipeline.errors import ConfigError, DataError

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3
PICTURES = np.random.default_rng(1).integers(0, 256, (30, 8, 6), dtype=np.uint8)


def npz(name: str = "x.npz", **arrays: Any) -> Path:
    np.savez(name, **arrays)
    return Path(name)


def npy(name: str, values: np.ndarray) -> Path:
    np.save(name, values)
    return Path(name)


@pytest.mark.parametrize(
    "names",
    [("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels"), ("inputs", "targets")],
    ids="/".join,
)
def test_an_npz_of_two_arrays_is_inputs_and_targets(names: tuple[str, str]) -> None:
    samples = read("arrays", npz(**{names[0]: X, names[1]: Y}))
    assert (samples.inputs == X).all()
    assert samples.targets.tolist() == Y.tolist()
    assert samples.classes == ("0", "1", "2")
    assert samples.test is None
    assert samples.validation is None


@pytest.mark.parametrize("form", ["x_{}", "X_{}", "{}_images"])
def test_parts_that_a_file_gives_are_kept(form: str) -> None:
    other = form.replace("X", "y").replace("x", "y").replace("images", "labels")
    arrays = {}
    for part, rows in {"test": X[:5], "val": X[5:12], "train": X[12:]}.items():
        arrays |= {form.format(part): rows, other.format(part): Y[: len(rows)]}
    samples = read("arrays", npz(**arrays))
    assert (samples.inputs[samples.test] == X[:5]).all()
    assert (samples.inputs[samples.validation] == X[5:12]).all()
    assert (samples.inputs[:18] == X[12:]).all()
    assert "the files give their own parts: train 18, validation 7, test 5 rows" in samples.notes


def test_a_given_validation_shares_no_row_with_a_test_that_is_split_off() -> None:
    path = npz(x_train=X[:20], y_train=Y[:20], x_val=X[20:], y_val=Y[20:])
    parts = prepared("arrays", path, test=0.5)
    assert parts.validation is not None
    assert parts.validation.rows.tolist() == list(range(20, 30))
    assert len(parts.test) == 10
    assert not set(parts.test.rows) & set(parts.validation.rows)


@pytest.mark.parametrize(("x", "y"), [("u.npy", "v.npy"), ("test/x.npy", "test/y.npy")])
def test_a_second_pair_of_files_is_the_test(x: str, y: str) -> None:
    Path("test").mkdir()
    path, targets = npy("x.npy", X[:20]), npy("y.npy", Y[:20])
    tests = {"test_path": str(npy(x, X[20:])), "test_targets": str(npy(y, Y[20:]))}
    samples = read("arrays", path, targets=str(targets), **tests)
    assert (samples.inputs[samples.test] == X[20:]).all()
    assert samples.targets[samples.test].tolist() == Y[20:].tolist()


def test_a_second_npz_is_the_test_whole() -> None:
    first, second = npz("a.npz", x=X[:20], y=Y[:20]), npz("b.npz", x=X[20:], y=Y[20:])
    samples = read("arrays", first, test_path=str(second))
    assert (samples.inputs[samples.test] == X[20:]).all()


def test_a_folder_of_npy_files_is_read_as_an_npz() -> None:
    Path("set").mkdir()
    for name, values in {"x_train": X[:20], "y_train": Y[:20], "x_test": X[20:]}.items():
        np.save(f"set/{name}.npy", values)
    np.save("set/y_test.npy", Y[20:])
    samples = read("arrays", "set")
    assert (samples.inputs[samples.test] == X[20:]).all()


def test_arrays_of_other_names_are_named_by_the_user() -> None:
    path = npz(signals=X, kind=Y, other=X[:3])
    samples = read("arrays", path, x="signals", y="kind")
    assert (samples.inputs == X).all()
    assert samples.targets.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "row"),
    [
        ((30, 8), float, None, (8,)),
        ((30, 8), float, "series", (8, 1)),
        ((30, 9, 4), float, None, (9, 4)),
        ((30, 9, 4), float, "channels_first", (4, 9)),
        ((30, 8, 8), float, None, (1, 8, 8)),
        ((30, 8, 8), float, "series", (8, 8)),
        ((30, 8, 6), np.uint8, None, (1, 8, 6)),
        ((30, 3, 8, 6), float, None, (3, 8, 6)),
        ((30, 8, 6, 3), float, None, (3, 8, 6)),
        ((30, 8, 6, 1), np.uint8, None, (1, 8, 6)),
        ((30, 3, 8, 3), float, None, (3, 8, 3)),
        ((30, 3, 8, 3), float, "channels_last", (3, 3, 8)),
    ],
)
def test_axes_are_told_by_rank_type_and_lengths_or_by_the_user(
    shape: tuple[int, ...], dtype: type, layout: str | None, row: tuple[int, ...]
) -> None:
    values = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    samples = read("arrays", npz(x=values, y=Y), layout=layout)
    assert samples.input_shape == row
    told = [note for note in samples.notes if f"inputs of shape {shape} are" in note]
    assert len(told) == (row != (8,))


def test_channels_that_come_last_are_moved_to_the_front() -> None:
    values = np.random.default_rng(3).normal(size=(30, 8, 6, 3))
    samples = read("arrays", npz(x=values, y=Y))
    assert (samples.inputs[4][1] == values[4, :, :, 1]).all()


def test_pictures_stay_bytes_and_reach_the_network_between_0_and_1() -> None:
    parts = prepared("arrays", npz(x=PICTURES, y=Y), shuffle=False)
    expected = PICTURES[parts.train.rows][:, None] / 255
    np.testing.assert_allclose(parts.train.inputs, expected, rtol=1e-6)


def test_bytes_of_0_and_1_are_numbers_and_not_shades() -> None:
    parts = prepared("arrays", npz(x=(PICTURES > 99).astype(np.uint8), y=Y))
    assert parts.train.inputs.unique().tolist() == [0, 1]


def test_truths_are_0_and_1() -> None:
    samples = read("arrays", npz(x=X > 0, y=Y))
    assert samples.inputs.tolist() == (X > 0).astype(float).tolist()


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_many_truths_become_numbers_as_they_are_needed(
    dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = npz(x=(PICTURES > 99).astype(dtype), y=Y)
    near = prepared("arrays", path, scale="standard")
    monkeypatch.setattr("pipeline.data.array_files.IN_MEMORY_BYTES", 0)
    assert not isinstance(read("arrays", path).inputs, np.ndarray)
    far = prepared("arrays", path, scale="standard", memory_budget=0)
    assert far.schema == near.schema
    assert (next(far.test.blocks()) == near.test.inputs).all()


@pytest.mark.parametrize("packed", [False, True], ids=["npz", "packed npz"])
@pytest.mark.parametrize("values", [X, PICTURES, np.asfortranarray(X)], ids=["C", "bytes", "F"])
def test_large_arrays_give_the_same_rows_and_scaling_from_disk(
    values: np.ndarray, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.savez_compressed if packed else np.savez
    save("x.npz", x_train=values[:20], y_train=Y[:20], x_test=values[20:], y_test=Y[20:])
    near = prepared("arrays", "x.npz", scale="standard")
    monkeypatch.setattr("pipeline.data.array_files.MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr("pipeline.data.array_files.IN_MEMORY_BYTES", 0)
    assert not isinstance(read("arrays", "x.npz").inputs, np.ndarray)
    far = prepared("arrays", "x.npz", scale="standard", memory_budget=0)
    assert far.schema == near.schema
    assert (next(far.test.blocks()) == near.test.inputs).all()


def test_a_large_npy_is_mapped_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.array_files.MAPPED_FROM_BYTES", 0)
    samples = read("arrays", npy("x.npy", X), targets=str(npy("y.npy", Y)))
    assert isinstance(samples.inputs, np.memmap)
    assert (samples.inputs == X).all()


def test_a_part_on_disk_is_measured_whole_however_many_rows_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.data.array_files.IN_MEMORY_BYTES", 0)
    rows = np.zeros((3000, 1))
    rows[1] = 3000
    labels = np.arange(3000) % 2
    path = npz(x_train=rows, y_train=labels, x_test=rows[:9], y_test=labels[:9])
    scaler = prepared("arrays", path, scale="minmax", validation=0.0).schema.input_scaler
    assert (scaler.shift, scaler.spread) == ((0,), (3000,))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (
            {"x": X, "y": Y[:29]},
            r"x.npz: x has shape (30, 4) and x.npz: y has shape (29,); expected as many rows",
        ),
        (
            {"a": X, "b": Y},
            "x.npz has no inputs to train on; its arrays are a, b; expected x_train",
        ),
        ({"x_train": X, "b": Y}, "x.npz has x_train but no targets beside it; its arrays are"),
        ({"y_train": Y}, "x.npz has y_train but no inputs beside it; its arrays are y_train"),
        ({"x": X, "X": X, "y": Y}, "x.npz has both x and X; expected one of them"),
        ({"x": X[:0], "y": Y[:0]}, "x.npz: x has shape (0, 4), 0 rows; expected at least one"),
        (
            {"x": X[:, 0], "y": Y},
            "inputs of shape (30,) can't be read; expected a table (rows, fea",
        ),
        ({"x": X.astype(str), "y": Y}, "x.npz: x has values of type <U32; expected numbers"),
        ({"x": X + 1j, "y": Y}, "x.npz: x has values of type complex128; expected numbers"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y},
            "x.npz: x_train has shape (30, 4) and x.npz: x_test has shape (30, 3); expected the",
        ),
        (
            {"x_train": PICTURES, "y_train": Y, "x_test": PICTURES / 255, "y_test": Y},
            "x.npz: x_train is of type uint8 and x.npz: x_test of type float64; expected one type",
        ),
        (
            {"x": np.where(np.arange(120).reshape(30, 4) == 70, np.nan, X), "y": Y},
            "x.npz: x[17, 2] is missing (NaN) (1 of 30 rows have such a value); expected finite",
        ),
        (
            {"x": np.where(np.arange(120).reshape(30, 4) > 70, -np.inf, X), "y": Y},
            "x.npz: x[17, 3] is -inf (13 of 30 rows have such a value)",
        ),
        ({"x": X * 1e300, "y": Y}, f"x.npz: x[0, 0] is {X[0, 0] * 1e300} (30 of 30 rows"),
        ({"x": X, "y": np.zeros(30)}, "all 30 rows are of class '0'; expected at least 2 classes"),
        (
            {"x": X, "y": np.r_[np.zeros(29), 1]},
            "class '1' has 1 row to share between training and test; expected at least 2. Give it",
        ),
        (
            {"x_train": X, "y_train": Y % 2, "x_test": X, "y_test": Y},
            "class '2' is in the test part but not in the training part",
        ),
        ({"x": X[:2], "y": Y[:2]}, "class '0' has 1 row to share between training and test"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_file_key_and_shape(
    arrays: dict[str, np.ndarray], problem: str
) -> None:
    path = npz(**arrays)
    with pytest.raises(DataError, match=re.escape(problem)):
        prepared("arrays", path)


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run"),))


def test_python_objects_are_refused_and_never_unpickled() -> None:
    path = npz(x=np.array([Trap(), Trap()], dtype=object), y=Y[:2])
    with pytest.raises(
        DataError, match=r"x.npz: x holds Python objects, which only a pickle can read and"
    ):
        read("arrays", path)
    assert not Path("run").exists()


def test_arrays_that_nothing_asks_for_may_hold_anything() -> None:
    names = np.array(["a", None], dtype=object)
    samples = read("arrays", npz(x=X, y=Y, labels=names, images=names, extra=names, scalar=3))
    assert samples.targets.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "x.npz is empty (0 bytes)"),
        (b"x,y\n1,2\n", "x.npz is no .npz or .npy file: it begins with b'x,y\\n1,'; expected one"),
        (b"\x80\x04\x95pickle", "x.npz is no .npz or .npy file: it begins with b'\\x80"),
        (b"PK\x03\x04 and then nothing", "x.npz is damaged or cut short (File is not a zip file)"),
        (b"\x93NUMPY\x01\x00\x10", "x.npz is damaged or cut short"),
    ],
    ids=["empty", "text", "pickle", "torn zip", "torn npy"],
)
def test_a_file_that_is_no_numpy_file_is_refused_by_what_it_begins_with(
    content: bytes, problem: str
) -> None:
    Path("x.npz").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(problem)):
        read("arrays", "x.npz")


@pytest.mark.parametrize("from_disk", [False, True])
def test_an_array_that_is_cut_short_is_refused(
    from_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if from_disk:
        monkeypatch.setattr("pipeline.data.array_files.MAPPED_FROM_BYTES", 0)
    path = npy("x.npy", X)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"x.npy is .*cut short.*; copy"):
        read("arrays", path, targets=str(npy("y.npy", Y)))


def test_a_member_that_would_unpack_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.data.array_files.RATIO_FROM", 10_000)
    np.savez_compressed("x.npz", x=np.zeros((100_000, 4)), y=np.zeros(100_000))
    with pytest.raises(
        DataError, match=r"x.npz: x would unpack from \d+ to 3200128 bytes; .*savez"
    ):
        read("arrays", "x.npz")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"x": "signal"},
            "data.x='signal' is not in x.npz; its arrays are signals, kind. Did you ",
        ),
        (
            {"layout": "images", "x": "signals", "y": "kind"},
            "data.layout=images does not fit inputs",
        ),
        ({"targets": "y.npy"}, "data.targets='y.npy' goes with a .npy of inputs, but x.npz holds"),
        (
            {"test_targets": "y.npy", "x": "signals", "y": "kind"},
            "data.test_targets needs data.test",
        ),
    ],
)
def test_a_key_that_does_not_fit_the_file_is_refused(keys: dict[str, str], problem: str) -> None:
    path = npz(signals=X, kind=Y)
    with pytest.raises(ConfigError, match=re.escape(problem)):
        read("arrays", path, **keys)


def test_a_test_given_twice_is_refused() -> None:
    path = npz(x_train=X, y_train=Y, x_test=X, y_test=Y)
    with pytest.raises(ConfigError, match=r"test_path='x.npz' is given, but x.npz has test rows"):
        read("arrays", path, test_path=str(path))


def test_inputs_without_targets_say_which_key_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"x.npy has inputs alone; .* data.targets=FILE.npy"):
        read("arrays", npy("x.npy", X))


def test_a_missing_file_is_refused_with_the_nearest_name() -> None:
    npz("waves.npz", x=X, y=Y)
    with pytest.raises(DataError, match=r"data.path='wave.npz' is not there .* 'waves.npz'\?"):
        read("arrays", "wave.npz")
    with pytest.raises(DataError, match=r"data.targets='no/y.npy' is not there; the folder 'no'"):
        read("arrays", npy("x.npy", X), targets="no/y.npy")


@pytest.mark.parametrize("name", ["arrays", "ucr", "idx", "images"])
def test_a_url_is_refused_and_never_fetched(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"data.path='https://x.org/a.npz' is a URL; .* Download it first"
    ):
        read(name, "https://x.org/a.npz")
