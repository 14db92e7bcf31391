"""Series of the UCR archive and pictures in MNIST's idx format, found, read and refused."""

import gzip
import struct
import subprocess
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.case_tables import cases
from helpers.file_sources import assert_equal_from_disk, prepared, read
from helpers.file_sources import idx_bytes as idx
from helpers.refused_calls import refusal
from helpers.sample_data import array_of

VALUES = np.random.default_rng(0).normal(size=(12, 5))
GOOD = "1\t1\t2\t3\n2\t4\t5\t6\n"


def written(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(labels: Sequence[object], separator: str = "\t") -> str:
    """Lines with a label in front of the first of `VALUES`."""
    return "".join(
        separator.join([str(label), *map(repr, VALUES[row].tolist())]) + "\n"
        for row, label in enumerate(labels)
    )


def wave() -> None:
    """Write a folder with both files of a data set."""
    written("Wave/Wave_TRAIN.tsv", rows([1, -1, 1, -1, 1, -1, -1, -1]))
    written("Wave/Wave_TEST.tsv", rows([-1, 1]))


@pytest.mark.parametrize("path", ["Wave", "Wave/Wave_TRAIN.tsv", "Wave/Wave_TEST.tsv"])
def test_archive_files_keep_their_split(path: str) -> None:
    wave()
    samples = read("ucr", path)
    assert samples.inputs.shape == (10, 5, 1)
    assert (array_of(samples)[samples.test][:, :, 0] == VALUES[:2]).all()
    assert (array_of(samples)[:8, :, 0] == VALUES[:8]).all()
    assert [samples.classes[label] for label in samples.targets[:3]] == ["1", "-1", "1"]
    assert samples.classes == ("-1", "1")  # 1 is the rarer one


@pytest.mark.parametrize(("suffix", "separator"), [("txt", "  "), ("csv", ","), ("TXT", "\t")])
@pytest.mark.parametrize("path", ["Wave", "Wave/Wave_TRAIN.tsv"])
def test_test_file_may_have_another_suffix(path: str, suffix: str, separator: str) -> None:
    wave()
    Path("Wave/Wave_TEST.tsv").unlink()
    written(f"Wave/Wave_TEST.{suffix}", rows([-1, 1], separator))
    samples = read("ucr", path)
    assert (array_of(samples)[samples.test][:, :, 0] == VALUES[:2]).all()
    assert not any("no _TEST file" in note for note in samples.notes)
    written("Wave/Wave_TEST.tsv", rows([1, -1, 1]))  # that of the same suffix comes first
    assert (array_of(read("ucr", path))[-3:, :, 0] == VALUES[:3]).all()


@pytest.mark.parametrize(
    "content",
    [
        rows([1, 2, 3, 1]),
        rows([1, 2, 3, 1], ","),
        rows(["1.0000000e+00", "2.0000000e+00", "3.0000000e+00", "1.0000000e+00"], "   "),
        "".join(f"   {line}\n" for line in rows([1, 2, 3, 1], "  ").splitlines()),
        "\ufeff" + rows([1, 2, 3, 1]).replace("\n", "\r\n") + "\r\n\r\n",
        rows([1, 2, 3, 1]).replace("\n", "\r"),
    ],
    ids=["tabs", "commas", "floats and runs of spaces", "leading spaces", "BOM and CRLF", "CR"],
)
def test_text_file_separators_are_detected(content: str) -> None:
    samples = read("ucr", written("a_TRAIN.txt", content))
    assert (array_of(samples)[:, :, 0] == VALUES[:4]).all()
    assert (samples.classes, samples.targets.tolist()) == (("1", "2", "3"), [0, 1, 2, 0])


def test_labels_are_classes_or_values_with_fractions() -> None:
    """Without a test file, some rows are held out for testing."""
    for labels, classes in (
        ([10, 9, 11, 9], "9 10 11"),
        (["up", "down", "up", "flat"], "down flat up"),
    ):
        samples = read("ucr", written("a_TRAIN.tsv", rows(labels)))
        assert " ".join(samples.classes) == classes
    samples = read("ucr", written("a_TRAIN.tsv", rows([0.5, 1.25, 3])))
    assert (samples.task, samples.targets[:, 0].tolist()) == ("regression", [0.5, 1.25, 3])
    assert "the target is a regression (fractions); or set data.task=multiclass" in samples.notes
    assert samples.test is None
    assert (
        "a_TRAIN.tsv has no _TEST file; some of its rows are held out for testing" in samples.notes
    )


def test_padding_is_dropped_and_lengths_become_equal() -> None:
    """A note counts the series that `data.length` cuts or pads."""
    lines = "1\t1\t2\t3\tNaN\tNaN\n2\t4\t5\t6\tnan\t\n"
    samples = read("ucr", written("a.tsv", lines))
    assert array_of(samples)[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    path = written("a.tsv", "1\t1\t2\t3\tNaN\n2\t4\t5\t6\t7\n1\t8\t9\tNaN\tNaN\n")
    samples = read("ucr", path, length=3)
    assert array_of(samples)[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6], [8, 9, 9]]
    told = "data.length=3: 1 series are cut, 1 padded with their last value (lengths from 2 to 4)"
    assert told in samples.notes


def test_printed_conversion_of_ts_file_works() -> None:
    path = written(
        "a b.ts", "# x\n@classLabel true B A\n@data\n1,2,3:8.6E-4,5,6:A\n7,8,9:-1,-2,-3: B\n"
    )
    message, _, command = refusal(read, "ucr", path).partition("train with data=arrays: ")
    assert message.startswith("a b.ts is a .ts file; expected .tsv, .txt or .csv, with the label")
    subprocess.run(["sh", "-c", command], check=True)
    samples = read("arrays", "a b.npz")
    assert samples.inputs.shape == (2, 3, 2)
    assert array_of(samples)[0].tolist() == [[1, 8.6e-4], [2, 5], [3, 6]]
    assert [samples.classes[label] for label in samples.targets] == ["A", "B"]


def test_first_format_in_folder_is_read() -> None:
    wave()
    written("Wave/WaveDimension1_TRAIN.tsv", rows([5, 6, 7]))
    assert len(read("ucr", "Wave").inputs) == 10
    written("Wave/Wave_TRAIN.ts", "@data\n1,2:A\n3,4:B\n")
    samples = read("ucr", "Wave")
    assert "using Wave_TRAIN.tsv; its ts files are ignored" in samples.notes


# The third line of a file, whose tabs are written as slashes, behind two good ones.
BAD_LINES = """
1/1/NaN/3 → a.tsv line 3: value 2 of 3 is missing, 1 in this line
1//2/3 → a.tsv line 3: value 1 of 3 is missing
1/NaN/NaN/NaN → a.tsv line 3 has no value; expected numbers
1/1/2/x → a.tsv line 3: field 4 is 'x'; expected a number
1/1,5/2/3 → field 2 is '1,5'; expected a number; write 1.5
1/1/inf/3 → a.tsv line 3: field 3 is inf; expected a finite num
1/1/1e300/3 → a.tsv line 3: field 3 is 1e300; expected a finite
NaN/1/2/3 → a.tsv line 3 has the missing label 'NaN'; remove
1/1/2 → line 3 has 2 values, a.tsv line 1 has 3 (from 2 to 3 in al
1/1/2 → data.length=3 repeats the last value of shorter ones,
1/1\0/2 → a.tsv line 3 has a NUL byte at position 3
"""


@pytest.mark.parametrize(("line", "problem"), cases(BAD_LINES))
def test_bad_line_is_refused_by_number(line: str, problem: str) -> None:
    path = written("a.tsv", GOOD + line.replace("/", "\t") + "\n")
    assert problem in refusal(prepared, "ucr", path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.tsv", "", "a.tsv is empty (0 bytes)"),
        ("a.tsv", "\n\n", "a.tsv has 0 series; expected one per line, its label first"),
        ("a.tsv", "1\n2\n", "a.tsv line 1 has 1 field, '1'; expected a label, then the values"),
        ("a.tsv", GOOD.encode("utf-16"), "a.tsv line 1 begins as UTF-16; expected UTF-8"),
        ("a.tsv", GOOD.encode() + b"\xfc\t1\n", "a.tsv line 3 has byte 0xFC at position 0"),
        ("a.tsv", "1\t1\t2\n1\t3\t4\n" * 3, "all 6 rows are of class '1'; expected at least 2"),
        ("a_TEST.tsv", "1\t1\t2\n", "a_TEST.tsv has only test series; expected a_TRAIN.tsv beside"),
        ("b_TEST.tsv", "1\t1\n", "b_TEST.tsv line 1 has 1 values, b_TRAIN.tsv line 1 has 3"),
    ],
)
def test_unusable_series_file_is_refused(name: str, content: str | bytes, problem: str) -> None:
    written("b_TRAIN.tsv", GOOD)
    assert problem in refusal(prepared, "ucr", written(name, content))


def test_folder_without_one_set_of_series_is_refused() -> None:
    written("b_TRAIN.tsv", GOOD)
    written("c_TRAIN.ts", GOOD)
    Path("none").mkdir()
    problem = ". has several data sets: b_TRAIN.tsv, c_TRAIN.ts; choose one: data.path=./NAM"
    assert refusal(prepared, "ucr", ".").startswith(problem)
    problem = "none has no series file; expected NAME_TRAIN.tsv and NAME_TEST.tsv in i"
    assert refusal(prepared, "ucr", "none").startswith(problem)


PICTURES = np.random.default_rng(0).integers(0, 256, (30, 6, 5), dtype=np.uint8)
LABELS = (np.arange(30) % 3 + 7).astype(np.uint8)
FORMS = ("{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte")
IMAGES, KINDS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST = "t10k-images-idx3-ubyte"


def stored(name: str, content: bytes) -> Path:
    return written(f"set/{name}", gzip.compress(content) if name.endswith(".gz") else content)


def mnist(form: str = FORMS[0], prefix: str = "") -> None:
    """Write a folder as MNIST's, 20 pictures to train on and 10 to test."""
    for part, rows in {"train": slice(20), "t10k": slice(20, 30)}.items():
        stored(form.format(f"{prefix}{part}-images", 3), idx(PICTURES[rows]))
        stored(form.format(f"{prefix}{part}-labels", 1), idx(LABELS[rows]))


@pytest.mark.parametrize("form", FORMS)
def test_idx_folder_is_read_in_every_form(form: str) -> None:
    mnist(form)
    samples = read("idx", "set")
    assert samples.inputs.dtype == np.uint8
    assert (array_of(samples)[:, 0] == PICTURES).all()
    assert samples.test is not None
    assert samples.test.tolist() == list(range(20, 30))
    assert samples.classes == ("7", "8", "9")
    assert samples.targets.tolist() == (LABELS - 7).tolist()


def test_unpacked_idx_file_wins_over_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file gives the same rows from disk."""
    mnist()
    written(f"set/{IMAGES}", gzip.compress(idx(PICTURES[:20])))
    stored(f"{IMAGES}.gz", b"older")
    assert (array_of(read("idx", "set"))[:, 0] == PICTURES).all()
    mnist()
    assert_equal_from_disk("idx", "set", monkeypatch)


def test_one_of_several_sets_is_chosen_by_file() -> None:
    """A training part without a test part is split."""
    mnist(FORMS[1], "emnist-letters-")
    mnist(FORMS[1], "emnist-digits-")
    assert "set has 2 data sets, such as 'emnist-digits-', " in refusal(read, "idx", "set")
    path = "set/emnist-letters-train-images-idx3-ubyte.gz"
    assert len(read("idx", path).inputs) == 30
    for test in Path("set").glob("*letters-t10k*"):
        test.unlink()
    assert read("idx", path).test is None


def test_idx_types_other_than_bytes_are_numbers() -> None:
    mnist()
    for code, dtype in {9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}.items():
        values = PICTURES[:20] % 100 - (0 if dtype == ">i1" else 60.0)
        stored(IMAGES, idx(values, code=code, dtype=dtype))
        stored(TEST, idx(values[:10], code=code, dtype=dtype))
        assert (array_of(read("idx", "set"))[:20, 0] == values).all()


def test_large_numbers_on_disk_give_equal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist()
    stored(IMAGES, idx(PICTURES[:20] - 60.0, code=13, dtype=">f4"))
    stored(TEST, idx(PICTURES[20:] - 60.0, code=13, dtype=">f4"))
    assert_equal_from_disk("idx", "set", monkeypatch)


def test_idx_files_are_arrays_too() -> None:
    mnist(FORMS[1])
    folder = Path("set")
    samples = read("arrays", str(folder / f"{IMAGES}.gz"), targets=str(folder / f"{KINDS}.gz"))
    assert (array_of(samples)[:, 0] == PICTURES[:20]).all()
    assert samples.targets.tolist() == (LABELS[:20] - 7).tolist()


WHOLE = idx(PICTURES[:20])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (IMAGES, b"", f"set/{IMAGES} is empty (0 bytes)"),
        (IMAGES, b"GIF89a", "is not an idx file: it begins with b'GIF8'; expected"),
        (IMAGES, WHOLE[:9], "is damaged or incomplete (its header ends early); copy"),
        (
            IMAGES,
            WHOLE[:-7],
            "is incomplete: its header says (20, 6, 5), 600 bytes, but it has 593;",
        ),
        (
            IMAGES,
            WHOLE + b"1",
            "is larger than its header says (600 bytes, shape (20, 6, 5)); copy",
        ),
        (IMAGES, b"\0\0\x08\x09", "has 9 dimensions; expected 1 to 4"),
        (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12, "is incomplete: its header says (4294967295, 429"),
        (
            KINDS,
            idx(LABELS[:19]),
            f"{KINDS} has shape (19,); expected equal numbers of labels and images",
        ),
        (TEST, idx(PICTURES[20:, :5]), f"has shape (20, 6, 5) and set/{TEST} has shape (10, 5, 5)"),
        (KINDS, idx(LABELS[:20] * 0), "class '7' is in the test part but not"),
        (KINDS, None, f"{IMAGES} but no labels; expected train-im"),
        (TEST, None, "t10k-labels-idx1-ubyte but no images"),
    ],
)
def test_unfitting_idx_files_are_refused_by_name(
    name: str, content: bytes | None, problem: str
) -> None:
    mnist()
    if content is None:
        Path("set", name).unlink()
    else:
        stored(name, content)
    assert problem in refusal(prepared, "idx", "set")


def test_truncated_or_oversized_packed_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mnist(FORMS[1])
    path = Path(f"set/{IMAGES}.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    problem = "train-images-idx3-ubyte.gz is damaged or incomplete ("
    assert problem in refusal(read, "idx", "set")
    path.write_bytes(whole)
    monkeypatch.setattr("pipeline.data.parsing.array_files.LARGEST_PACKED", 500)
    problem = " to 600 bytes; expected at most 500. Unpack"
    assert problem in refusal(read, "idx", "set")


def test_headers_are_compared_before_decompression() -> None:
    """The images would unpack to 60 MB, and their labels are 20."""
    mnist(FORMS[1])
    header = b"\0\0\x08\x03" + struct.pack(">3I", 6 * 10**7, 1, 1)
    path = Path(f"set/{IMAGES}.gz")
    path.write_bytes(gzip.compress(header + bytes(6 * 10**7), compresslevel=1))
    tracemalloc.start()
    assert "expected equal numbers of labels and images" in refusal(read, "idx", "set")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_decompression_bomb_is_refused() -> None:
    mnist(FORMS[1])
    header = b"\0\0\x08\x03" + struct.pack(">3I", 20, 2**14, 2**13)
    Path(f"set/{IMAGES}.gz").write_bytes(gzip.compress(header + bytes(2**20)))
    test = Path(f"set/{TEST}.gz")
    test.unlink()
    Path("set/t10k-labels-idx1-ubyte.gz").unlink()
    assert " to 2684354560 bytes; expected at most 1073" in refusal(read, "idx", "set")


def test_folder_without_training_files_names_expected_files() -> None:
    mnist()
    for pattern, problem in (
        ("train-*", "set has no images to train on; ex"),
        ("*", "no idx files"),
    ):
        for file in Path("set").glob(pattern):
            file.unlink()
        message = refusal(read, "idx", "set")
        assert problem in message
        assert "train-images-idx3-ubyte" in message
