import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from own_sources import prepared, read

from pipeline.errors import DataError

PICTURES = np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8)
LABELS = (np.arange(30) % 3 + 7).astype(np.uint8)
FORMS = ("{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte")


def idx(values: np.ndarray, *, code: int = 8, dtype: str = ">u1") -> bytes:
    """The bytes of an idx file, by its description."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, code, values.ndim]) + sizes + values.astype(dtype).tobytes()


def written(name: str, content: bytes) -> Path:
    path = Path("set") / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def mnist(form: str = FORMS[0], prefix: str = "") -> None:
    """Write a folder as MNIST's, 20 pictures to train on and 10 to test."""
    for part, rows in {"train": slice(20), "t10k": slice(20, 30)}.items():
        written(form.format(f"{prefix}{part}-images", 3), idx(PICTURES[rows]))
        written(form.format(f"{prefix}{part}-labels", 1), idx(LABELS[rows]))


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_is_read_however_its_files_are_spelled_and_packed(form: str) -> None:
    mnist(form)
    samples = read("idx", "set")
    assert samples.inputs.dtype == np.uint8
    assert (samples.inputs[:, 0] == PICTURES).all()
    assert samples.test is not None
    assert samples.test.tolist() == list(range(20, 30))
    assert samples.classes == ("7", "8", "9")
    assert samples.targets.tolist() == (LABELS - 7).tolist()


def test_a_name_does_not_decide_whether_a_file_is_packed() -> None:
    mnist()
    path = Path("set/train-images-idx3-ubyte")
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert (read("idx", "set").inputs[:, 0] == PICTURES).all()


def test_what_is_unpacked_is_read_where_both_lie_there() -> None:
    mnist()
    written("train-images-idx3-ubyte.gz", b"older")
    assert (read("idx", "set").inputs[:, 0] == PICTURES).all()


def test_a_training_part_alone_is_split() -> None:
    mnist()
    for part in ("images-idx3", "labels-idx1"):
        Path(f"set/t10k-{part}-ubyte").unlink()
    assert read("idx", "set").test is None


def test_one_of_several_sets_is_named_by_its_file() -> None:
    mnist(FORMS[1], "emnist-letters-")
    mnist(FORMS[1], "emnist-digits-")
    with pytest.raises(DataError, match=r"set has 2 data sets, beginning with 'emnist-digits-', "):
        read("idx", "set")
    assert len(read("idx", "set/emnist-letters-train-images-idx3-ubyte.gz").inputs) == 30


@pytest.mark.parametrize(
    ("code", "dtype"), [(9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_other_types_than_bytes_are_read_as_numbers(code: int, dtype: str) -> None:
    mnist()
    values = PICTURES[:20].astype(np.int16) - 100
    if dtype == ">i1":
        values = values % 100
    written("train-images-idx3-ubyte", idx(values, code=code, dtype=dtype))
    written("t10k-images-idx3-ubyte", idx(values[:10], code=code, dtype=dtype))
    assert (read("idx", "set").inputs[:20, 0] == values).all()


def test_large_files_give_the_same_rows_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist()
    near = prepared("idx", "set", scale="standard")
    monkeypatch.setattr("pipeline.data.array_files.IN_MEMORY_BYTES", 0)
    assert not isinstance(read("idx", "set").inputs, np.ndarray)
    far = prepared("idx", "set", scale="standard", memory_budget=0)
    assert far.schema == near.schema
    assert (next(far.train.blocks()) == near.train.inputs).all()


WHOLE = idx(PICTURES[:20])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("train-images-idx3-ubyte", b"", "set/train-images-idx3-ubyte is empty (0 bytes)"),
        ("train-images-idx3-ubyte", b"GIF89a", "is no idx file: it begins with b'GIF8'; expected"),
        ("train-images-idx3-ubyte", WHOLE[:9], "is cut short within its header; copy the file"),
        (
            "train-images-idx3-ubyte",
            WHOLE[:-7],
            "is cut short: its header says (20, 6, 5), 600 bytes, but 593 are there; copy the file",
        ),
        ("train-images-idx3-ubyte", WHOLE + b"1", "goes on behind the 600 bytes that its header"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x09", "has 9 dimensions; expected 1 to 4"),
        (
            "train-images-idx3-ubyte",
            b"\0\0\x08\x03" + b"\xff" * 12,
            "is cut short: its header says (4294967295, 4294967295, 4294967295)",
        ),
        (
            "train-labels-idx1-ubyte",
            idx(LABELS[:19]),
            "train-images-idx3-ubyte has shape (20, 6, 5) and set/train-labels-idx1-ubyte has "
            "shape (19,); expected as many labels as images",
        ),
        (
            "t10k-images-idx3-ubyte",
            idx(PICTURES[20:, :5]),
            "has shape (20, 6, 5) and set/t10k-images-idx3-ubyte has shape (10, 5, 5); expected",
        ),
        ("train-labels-idx1-ubyte", idx(LABELS[:20] * 0), "class '7' is in the test part but not"),
    ],
)
def test_files_that_are_damaged_or_do_not_fit_are_refused_by_name_and_sizes(
    name: str, content: bytes, problem: str
) -> None:
    mnist()
    written(name, content)
    with pytest.raises(DataError, match=re.escape(problem)):
        prepared("idx", "set")


def test_a_packed_file_that_is_cut_short_is_refused() -> None:
    mnist(FORMS[1])
    path = Path("set/train-images-idx3-ubyte.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is cut short or damaged \("):
        read("idx", "set")


def test_a_packed_file_that_would_fill_the_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mnist(FORMS[1])
    monkeypatch.setattr("pipeline.data.array_files.LARGEST_PACKED", 500)
    with pytest.raises(DataError, match=r"would unpack to 600 bytes; expected at most 500. Unpack"):
        read("idx", "set")


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        (
            ["train-labels-idx1"],
            "train-images-idx3-ubyte has no labels beside it; expected train-im",
        ),
        (["t10k-images-idx3"], "t10k-labels-idx1-ubyte has no images beside it"),
        (["train-labels-idx1", "train-images-idx3"], "set has no images to train on; expected"),
    ],
)
def test_a_missing_file_is_named_by_what_it_belongs_to(gone: list[str], problem: str) -> None:
    mnist()
    for name in gone:
        Path(f"set/{name}-ubyte").unlink()
    with pytest.raises(DataError, match=problem):
        read("idx", "set")


def test_a_folder_without_such_files_says_what_they_are_called() -> None:
    Path("set").mkdir()
    with pytest.raises(
        DataError, match=r"set has no idx files; expected train-images-idx3-ubyte, "
    ):
        read("idx", "set")
