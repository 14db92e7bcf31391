"""Arrays of numpy and what their labels mean: read, left on disk where large, refused."""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.case_tables import cases, from_yaml, refusals
from helpers.file_sources import assert_equal_from_disk, prepared, read
from helpers.refused_calls import refusal
from helpers.sample_data import array_of, inputs_of, labelled, prepared_of

from pipeline.data.parsing.array_files import arrays_at
from pipeline.data.parsing.labels import Target, TargetKeys, target_of
from pipeline.data.preparation.reader import rows_as_saved
from pipeline.data.source import Array, Samples

X = np.random.default_rng(0).normal(size=(30, 4))
Y = np.arange(30) % 3
PICTURES = np.random.default_rng(1).integers(0, 256, (30, 8, 6), dtype=np.uint8)
CELLS = np.arange(120).reshape(30, 4)
PARTS = {"x_train": X[:20], "y_train": Y[:20], "x_test": X[20:], "y_test": Y[20:]}


def npz(name: str = "x.npz", /, **arrays: Any) -> Path:
    np.savez(name, **arrays)
    return Path(name)


def rows_tested(samples: Samples) -> Array:
    """Return the rows that the files keep for the test."""
    assert samples.test is not None
    return array_of(samples)[samples.test]


@pytest.mark.parametrize(
    "names", ["x y", "X Y", "X y", "images labels", "inputs targets", "signals kind"]
)
def test_npz_pair_gives_inputs_and_targets(names: str) -> None:
    x, y = names.split()
    named = {"x": x, "y": y} if x == "signals" else {}
    arrays: dict[str, Any] = {x: X, y: Y, "other": X[:3]}
    samples = read("arrays", npz(**arrays), **named)
    assert (array_of(samples) == X).all()
    assert samples.targets.tolist() == Y.tolist()
    assert samples.classes == ("0", "1", "2")
    assert (samples.test, samples.validation) == (None, None)


@pytest.mark.parametrize("form", ["x_{}", "X_{}", "{}_images"])
def test_parts_given_by_a_file_are_kept(form: str) -> None:
    other = form.replace("X", "y").replace("x", "y").replace("images", "labels")
    arrays: dict[str, Any] = {}
    for part, rows in {"test": X[:5], "val": X[5:12], "train": X[12:]}.items():
        arrays |= {form.format(part): rows, other.format(part): Y[: len(rows)]}
    samples = read("arrays", npz(**arrays))
    assert (rows_tested(samples) == X[:5]).all()
    assert (array_of(samples)[samples.validation] == X[5:12]).all()
    assert (array_of(samples)[:18] == X[12:]).all()
    assert "the files define the parts: train 18, validation 7, test 5 rows" in samples.notes


@pytest.mark.parametrize("form", ["two pairs of npy", "two npz", "folder of npy"])
def test_test_arrays_may_lie_in_other_files(form: str) -> None:
    Path("test").mkdir()
    for name, values in PARTS.items():
        np.save(f"test/{name}.npy", values)
    if form == "two pairs of npy":
        keys = {"test_path": "test/x_test.npy", "test_targets": "test/y_test.npy"}
        first = read("arrays", "test/x_train.npy", targets="test/y_train.npy", **keys)
    elif form == "two npz":
        tests = str(npz("b.npz", x=X[20:], y=Y[20:]))
        first = read("arrays", npz("a.npz", x=X[:20], y=Y[:20]), test_path=tests)
    else:
        first = read("arrays", "test")
    assert (rows_tested(first) == X[20:]).all()
    assert first.targets[first.test].tolist() == Y[20:].tolist()


AXES = """
30 8 → float64 → null → 8
30 8 → float64 → series → 8 1
30 9 4 → float64 → null → 9 4
30 9 4 → float64 → channels_first → 4 9
30 8 8 → float64 → null → 1 8 8
30 8 8 → float64 → series → 8 8
30 8 6 → uint8 → null → 1 8 6
30 3 8 6 → float64 → null → 3 8 6
30 8 6 3 → float64 → null → 3 8 6
30 8 6 1 → uint8 → null → 1 8 6
30 3 8 3 → float64 → null → 3 8 3
30 3 8 3 → float64 → channels_last → 3 3 8
"""


@pytest.mark.parametrize(("axes", "dtype", "layout", "row_axes"), cases(AXES))
def test_axes_are_inferred_or_given_by_user(
    axes: str, dtype: str, layout: str, row_axes: str
) -> None:
    """They follow from the rank, type and lengths of the array."""
    shape, row = (tuple(map(int, numbers.split())) for numbers in (axes, row_axes))
    values = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    samples = read("arrays", npz(x=values, y=Y), **from_yaml(f"layout: {layout}"))
    assert samples.input_shape == row
    told = [note for note in samples.notes if f"inputs of shape {shape} are" in note]
    assert len(told) == (row != (8,))
    if len(shape) == 4 and row[0] != shape[1]:
        assert (array_of(samples)[4][-1] == values[4, :, :, -1]).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_bytes_of_0_and_1_are_not_scaled(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(x=(PICTURES > 99).astype(dtype), y=Y)
    assert (array_of(read("arrays", path)).reshape(PICTURES.shape) == (PICTURES > 99)).all()
    assert inputs_of(prepared("arrays", path).train).unique().tolist() == [0, 1]
    assert_equal_from_disk("arrays", path, monkeypatch)


@pytest.mark.parametrize("packed", [False, True], ids=["npz", "packed npz"])
@pytest.mark.parametrize("values", [X, PICTURES, np.asfortranarray(X)], ids=["C", "bytes", "F"])
def test_arrays_on_disk_equal_those_in_memory(
    values: np.ndarray, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scaling is the same too."""
    save = np.savez_compressed if packed else np.savez
    save("x.npz", x_train=values[:20], y_train=Y[:20], x_test=values[20:], y_test=Y[20:])
    assert_equal_from_disk("arrays", "x.npz", monkeypatch)


def test_part_on_disk_is_measured_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.parsing.array_files.IN_MEMORY_BYTES", 0)
    rows, labels = np.zeros((3000, 1)), np.arange(3000) % 2
    rows[1] = 3000
    path = npz(x_train=rows, y_train=labels, x_test=rows[:9], y_test=labels[:9])
    scaler = prepared("arrays", path, scale="minmax", validation=0.0).schema.input_scaler
    assert (scaler.shift, scaler.spread) == ((0,), (3000,))


def parted(x_train: np.ndarray, x_test: np.ndarray, y_train: np.ndarray = Y) -> dict[str, Any]:
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": Y}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"x": X, "y": Y[:29]}, "x.npz: x has shape (30, 4) and x.npz: y has shape (29,); expec"),
        ({"a": X, "b": Y}, "x.npz has no inputs to train on; its arrays are a, b; expected x_tr"),
        ({"x_train": X, "b": Y}, "x.npz has x_train but no targets; its arrays are"),
        ({"y_train": Y}, "x.npz has y_train but no inputs; its arrays are y_train"),
        ({"x": X, "X": X, "y": Y}, "x.npz has both x and X; expected one of them"),
        ({"x": X[:0], "y": Y[:0]}, "x.npz: x has shape (0, 4), no rows; expected at least one"),
        ({"x": X[:, 0], "y": Y}, "inputs of shape (30,) can't be read; expected a table (rows, "),
        ({"x": X.astype(str), "y": Y}, "x.npz: x has values of type <U32; expected numbers"),
        ({"x": X + 1j, "y": Y}, "x.npz: x has values of type complex128; expected numbers"),
        (parted(X, X[:, :3]), "x.npz: x_train has shape (30, 4) and x.npz: x_test has shape (30,"),
        (parted(PICTURES, PICTURES / 255), "of type uint8 and x.npz: x_test of type float64; exp"),
        ({"x": np.where(CELLS == 70, np.nan, X), "y": Y}, "x[17, 2] is missing (NaN) (1 of 30 r"),
        ({"x": np.where(CELLS > 70, -np.inf, X), "y": Y}, "x[17, 3] is -inf (13 of 30 rows have"),
        ({"x": X * 1e300, "y": Y}, f"x.npz: x[0, 0] is {X[0, 0] * 1e300} (30 of 30 rows"),
        ({"x": X, "y": np.zeros(30)}, "all 30 rows are of class '0'; expected at least 2 classes"),
        ({"x": X, "y": np.r_[np.zeros(29), 1]}, "class '1' has only 1 row for training and "),
        (parted(X, X, Y % 2), "class '2' is in the test part but not in the training part"),
        (b"", "x.npz is empty (0 bytes)"),
        (
            b"x,y\n1,2\n",
            "x.npz is not a .npz, .npy or idx file: it begins with b'x,y\\n1,'; expected one",
        ),
        (b"\x80\x04\x95pickle", "x.npz is not a .npz, .npy or idx file: it begins with b'\\x80"),
        (b"PK\x03\x04 and then nothing", "x.npz is damaged or incomplete (File is not a zip file)"),
        (b"\x93NUMPY\x01\x00\x10", "x.npz is damaged or incomplete"),
    ],
)
def test_unusable_numpy_file_is_refused(
    content: bytes | dict[str, np.ndarray], problem: str
) -> None:
    if isinstance(content, bytes):
        Path("x.npz").write_bytes(content)
    else:
        npz(**content)
    assert problem in refusal(prepared, "arrays", "x.npz")


class Trap:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run"),))


def test_pickled_objects_are_refused_and_not_loaded() -> None:
    """Arrays of objects that no option names are ignored."""
    trap = np.array([Trap(), Trap()], dtype=object)
    problem = refusal(read, "arrays", npz(x=trap, y=Y[:2]))
    assert problem.startswith("x.npz: x holds pickled Python objects, which can run code;")
    samples = read("arrays", npz(x=X, y=Y, labels=trap, images=trap, extra=trap, scalar=3))
    assert samples.targets.tolist() == Y.tolist()
    assert not Path("run").exists()


@pytest.mark.parametrize("is_large", [False, True])
def test_large_npy_is_mapped_or_refused(is_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_large:
        monkeypatch.setattr("pipeline.data.parsing.array_files.MAPPED_FROM_BYTES", 0)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    samples = read("arrays", "x.npy", targets="y.npy")
    assert isinstance(samples.inputs, np.memmap) == is_large
    assert (array_of(samples) == X).all()
    Path("x.npy").write_bytes(Path("x.npy").read_bytes()[:-8])
    problem = refusal(read, "arrays", "x.npy", targets="y.npy")
    assert re.match(r"x.npy is .*incomplete.*; copy", problem)


@pytest.mark.parametrize("shape", [(10**9, 8), (10**12, 10**6), (-1, 4)])
def test_false_array_header_allocates_no_memory(shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile("x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(960))

    def read_it() -> None:
        arrays_at(Path("x.npz"))["x"].read()

    problem = r"x.npz: x is (incomplete: its header .* has 960;|damaged or incomplete)"
    assert re.match(problem, refusal(read_it))


def test_oversized_compressed_array_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.parsing.array_files.RATIO_FROM", 10_000)
    np.savez_compressed("x.npz", x=np.zeros((100_000, 4)), y=np.zeros(100_000))
    problem = r"x.npz: x would unpack from \d+ to 3200128 bytes; .*savez"
    assert re.match(problem, refusal(read, "arrays", "x.npz"))


UNFITTING = """
x.npz x: signal, y: kind
- data.x='signal' is not in x.npz; its arrays are signals, kind. Did

x.npz x: signals, y: kind, layout: images
- data.layout=images does not fit inputs

x.npz targets: y.npy
- data.targets='y.npy' needs a .npy file of inputs, but x.

x.npz x: signals, y: kind, test_targets: y.npy
- data.test_targets needs data.test

p.npz test_path: p.npz
- data.test_path='p.npz' is set, but p.npz has test rows

x.npy
- x.npy has only inputs; set their targets: data.targets=FILE.npy

x.np
- data.path='x.np' does not exist (looked in '

p.np
- '). Did you mean 'p.npz'?

x.npy targets: no/y.npy
- data.targets='no/y.npy' does not exist; the folder 'no'

https://x.org/a.npz
- data.path='https://x.org/a.npz' is a URL; download it first: curl -O https
"""


@pytest.mark.parametrize(("source", "problem"), refusals(UNFITTING))
def test_unfitting_key_is_refused(source: str, problem: str) -> None:
    npz(signals=X, kind=Y)
    npz("p.npz", **PARTS)
    np.save("x.npy", X)
    path, _, keys = source.partition(" ")
    assert problem in refusal(read, "arrays", path, **from_yaml(f"{{{keys}}}"))


@pytest.mark.parametrize("name", ["ucr", "idx", "images"])
def test_url_of_a_folder_is_refused(name: str) -> None:
    assert " is a URL; download it first: " in refusal(read, name, "https://x.org/a.npz")


def target(values: Any, **asked: Any) -> Target:
    return target_of(np.asarray(values), TargetKeys(**asked), lambda row: f"x.npz: y[{row}]")


def labels_of(text: str) -> Any:
    """Return labels that are written as a list of YAML."""
    return from_yaml(f"labels: {text}")["labels"]


def named(values: Any, **asked: Any) -> list[str]:
    """The class of each row, by its name."""
    found = target(values, **asked)
    return [found.classes[index] for index in found.values]


LABELS = """
[1, 2, 3, 1] → 1 2 3
[10, 9, 11] → 9 10 11
[1.0, 2.0, 3.0] → 1 2 3
[[1], [2], [3]] → 1 2 3
[1, -1, -1] → -1 1
[0.0, 1.0, 0.0] → 0 1
[true, false, false] → False True
[b, a, c, a] → a b c
[[0, 1, 0], [0, 0, 1], [1, 0, 0]] → 0 1 2
[[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]] → 0 1
"""
TYPED = [
    ([b"b", b"a", "ü".encode()], "a b ü"),
    (np.array([1, 2], dtype=">i8"), "1 2"),
    *((labels_of(labels), classes) for labels, classes in cases(LABELS)),
]


@pytest.mark.parametrize(("labels", "classes"), TYPED)
def test_labels_of_any_type_become_named_classes(labels: Any, classes: str) -> None:
    found = target(labels)
    assert " ".join(found.classes) == classes
    assert found.values.dtype == np.int64
    assert found.task == ("binary" if len(found.classes) == 2 else "multiclass")


def test_class_names_follow_the_sorted_labels() -> None:
    assert named([3, 1, 2, 1]) == ["3", "1", "2", "1"]
    assert named([[0, 0, 1], [1, 0, 0]], classes=["x", "y", "z"]) == ["z", "x"]
    assert named(["no", "yes", "no"]) == ["no", "yes", "no"]
    assert named([7, 5, 9], classes=["five", "seven", 9]) == ["seven", "five", "9"]
    # A name may stand for a class without a row.
    assert target([0, 3, 3], classes=list("abcd")).classes == ("a", "b", "c", "d")
    assert named([0, 3, 3], classes=list("abcd")) == ["a", "d", "d"]


def test_rarer_label_is_positive_by_default() -> None:
    """A note says so, unless `data.positive` names the class."""
    for labels, positive in (([1, 1, 0], "0"), ([0, 1, 0], "1"), ([0, 1], "1")):
        found = target(labels)
        assert found.classes[1] == positive
        assert f"the positive class is '{positive}'" in found.notes[0]
    positives: list[str | float] = ["-1", -1, -1.0]
    for named_class in positives:
        found = target([1, -1, -1, -1], positive=named_class)
        assert found.classes == ("1", "-1")
        assert found.values.tolist() == [0, 1, 1, 1]
        assert found.notes == ()


def test_other_rows_keep_positive_class_of_model() -> None:
    rows = np.arange(40.0).reshape(20, 2)

    def samples(labels: list[str]) -> Samples:
        found = target(labels)
        fields = {"classes": found.classes, "notes": (*found.notes, "told")}
        return labelled(found.values, inputs=rows, features=("a", "b"), **fields)

    model = prepared_of(samples(["A"] * 14 + ["B"] * 6)).schema
    content = rows_as_saved(samples(["A"] * 5 + ["B"] * 15), model)
    assert (content.schema.positive, content.targets.tolist()) == ("B", [0] * 5 + [1] * 15)
    assert content.notes == ("told",)


def test_fractions_or_many_values_mean_regression() -> None:
    """So does a target of several columns; `data.task` overrides this."""
    column, columns = (np.linspace(0, 1, 9).reshape(-1, width) for width in (1, 3))
    for values in ([0, 0.5, 1], column, columns, np.arange(21), np.r_[18:60, 18:60]):
        found = target(values)
        shape = np.asarray(values).shape
        assert (found.task, found.values.shape) == ("regression", (*shape, 1)[:2])
        assert "the target is a regression" in found.notes[0]
    # What the user says wins, and many numbers without a gap are classes.
    assert target([0, 1, 2], task="regression").task == "regression"
    assert target([[0, 1], [1, 0]], task="regression").values.tolist() == [[0, 1], [1, 0]]
    assert len(target(np.arange(30), task="multiclass").classes) == 30
    assert target([0, 1], task="multiclass").classes == ("0", "1")
    assert target([1, 2, 3], always_classes=True).task == "multiclass"
    assert len(target(np.arange(400) % 100).classes) == 100


UNLEARNABLE = """
[0, 0.5] task: binary
- x.npz: y[1] is 0.5, but data.task=binary expec

[0, .nan]
- x.npz: y[1] is missing or infinite, 1 in all; expected a la

[[0, 1.5], [.inf, 1]]
- x.npz: y[1] is missing or infinite, 1 in all

[[0, 1], [1, 1]]
- x.npz: y[1] has 2 ones; expected exactly one in a one-

[[0.2, 0.8]] task: multiclass
- labels of shape (1, 2) are not one-hot

[[[0, 0], [0, 0]], [[0, 0], [0, 0]]]
- labels of shape (2, 2, 2) can't be read; expected (

[[a, b]]
- labels of shape (1, 2) can't be read

[a] task: regression
- data.task=regression expects numbers, but the

[0, 7] classes: [a, b, c]
- x.npz: y[1] is 7, but data.classes has 3 n

[0, 1, 2] task: binary
- data.task=binary, but the target has 3 classes (0: 1, 1: 1, 2: 1); expected 2

[0, 1, 2] positive: 1
- data.positive=1 does not apply to 3 classes; remove it

["no", "yes"] positive: yess
- data.positive='yess' is not a class of t

[1, 2, 3] classes: [a, b]
- data.classes has 2 names (2 distinct) for 3

[x, y] classes: [a, a]
- data.classes has 2 names (1 distinct) for 2

[0.5, 1] positive: 1
- data.positive is for classes, but the target is
"""


@pytest.mark.parametrize(("learned", "problem"), refusals(UNLEARNABLE))
def test_unlearnable_labels_are_refused_by_row_or_key(learned: str, problem: str) -> None:
    labels, bracket, keys = learned.rpartition("] ") if ": " in learned else (learned, "", "")
    assert problem in refusal(target, labels_of(f"{labels}{bracket}"), **from_yaml(f"{{{keys}}}"))


def test_complex_labels_are_refused() -> None:
    assert refusal(target, [1j, 2j]).startswith(
        "x.npz: y[0]: labels of type complex128 can't be read"
    )
