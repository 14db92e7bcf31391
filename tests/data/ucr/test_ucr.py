import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from own_sources import prepared, read

from pipeline.errors import DataError

VALUES = np.random.default_rng(0).normal(size=(12, 5))
TS = "@classLabel true A B\n@data\n"


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


def wave(suffix: str = "tsv") -> None:
    """Write a folder with both files of a data set."""
    written(f"Wave/Wave_TRAIN.{suffix}", rows([1, -1, 1, -1, 1, -1, -1, -1]))
    written(f"Wave/Wave_TEST.{suffix}", rows([-1, 1]))


@pytest.mark.parametrize(
    "path", ["Wave", "Wave/Wave_TRAIN.tsv", "Wave/Wave_TEST.tsv"], ids=["folder", "train", "test"]
)
def test_both_files_are_found_and_their_split_is_kept(path: str) -> None:
    wave()
    samples = read("ucr", path)
    assert samples.inputs.shape == (10, 5, 1)
    assert samples.test is not None
    assert (samples.inputs[samples.test][:, :, 0] == VALUES[:2]).all()
    assert (samples.inputs[:8, :, 0] == VALUES[:8]).all()
    assert [samples.classes[label] for label in samples.targets[:3]] == ["1", "-1", "1"]
    assert samples.classes == ("-1", "1")  # 1 is the rarer one


@pytest.mark.parametrize(
    "content",
    [
        rows([1, 2, 3, 1]),
        rows([1, 2, 3, 1], ","),
        rows(["1.0000000e+00", "2.0000000e+00", "3.0000000e+00", "1.0000000e+00"], "   "),
        "".join(f"   {line}\n" for line in rows([1, 2, 3, 1], "  ").splitlines()),
        "\ufeff" + rows([1, 2, 3, 1]).replace("\n", "\r\n") + "\r\n\r\n",
    ],
    ids=["tabs", "commas", "floats and runs of spaces", "leading spaces", "BOM and CRLF"],
)
def test_a_text_file_is_read_however_it_is_written(content: str) -> None:
    samples = read("ucr", written("a_TRAIN.txt", content))
    assert (samples.inputs[:, :, 0] == VALUES[:4]).all()
    assert samples.classes == ("1", "2", "3")
    assert samples.targets.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 2, 3], ("0", "1", "2", "3")),
        ([10, 9, 11, 9], ("9", "10", "11")),
        (range(1, 13), tuple(map(str, range(1, 13)))),
        (["up", "down", "flat", "up"], ("down", "flat", "up")),
    ],
)
def test_labels_of_any_numbers_or_words_are_classes(
    labels: Sequence[object], classes: tuple[str, ...]
) -> None:
    assert read("ucr", written("a_TRAIN.tsv", rows(labels))).classes == classes


def test_labels_with_fractions_are_values_to_predict_and_told() -> None:
    samples = read("ucr", written("a_TRAIN.tsv", rows([0.5, 1.25, 3])))
    assert samples.task == "regression"
    assert samples.targets[:, 0].tolist() == [0.5, 1.25, 3]
    assert "the target is a regression (fractions); data.task= says otherwise" in samples.notes


def test_a_training_file_alone_is_split_and_told() -> None:
    samples = read("ucr", written("a_TRAIN.tsv", rows([1, 2])))
    assert samples.test is None
    assert "a_TRAIN.tsv has no _TEST file beside it; a share of its rows tests" in samples.notes


def test_padding_at_the_end_is_no_value() -> None:
    lines = "1\t1\t2\t3\tNaN\tNaN\n2\t4\t5\t6\tnan\t\n"
    assert read("ucr", written("a.tsv", lines)).inputs[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_unequal_lengths_become_equal_as_asked_and_told() -> None:
    path = written("a.tsv", "1\t1\t2\t3\tNaN\n2\t4\t5\t6\t7\n1\t8\t9\tNaN\tNaN\n")
    samples = read("ucr", path, length=3)
    assert samples.inputs[:, :, 0].tolist() == [[1, 2, 3], [4, 5, 6], [8, 9, 9]]
    assert (
        "data.length=3: 1 series are cut, 1 padded with their last value (lengths from 2 to 4)"
        in samples.notes
    )


@pytest.mark.parametrize(
    "header",
    [
        "@problemName Wave\n@timeStamps false\n@missing false\n@univariate false\n@dimensions 2\n"
        "@equalLength true\n@seriesLength 3\n@classLabel true B A\n@data\n",
        "# a comment\n\n% another\n@PROBLEMNAME Wave\n@CLASSLABEL TRUE B A\n\n@DATA\n# more\n",
        "\ufeff@classlabel true B A\r\n@data\r\n",
    ],
    ids=["full", "comments and capitals", "BOM and CRLF"],
)
def test_a_ts_file_gives_channels_and_classes_in_the_order_of_its_header(header: str) -> None:
    path = written("a_TRAIN.ts", header + "1,2,3:8.6E-4,5,6:A\n\n7,8,9:-1,-2,-3: B\n4,4,4:5,5,5:A")
    samples = read("ucr", path)
    assert samples.inputs.shape == (3, 3, 2)
    assert samples.inputs[0].tolist() == [[1, 8.6e-4], [2, 5], [3, 6]]
    assert samples.inputs[1, :, 1].tolist() == [-1, -2, -3]
    assert [samples.classes[label] for label in samples.targets] == ["A", "B", "A"]
    assert samples.classes == ("A", "B")  # B is the rarer one, so it is the positive one


def test_classes_keep_the_headers_order_where_there_are_more_than_two() -> None:
    content = "@classLabel true 2 10 1\n@data\n1,2:1\n1,3:2.0\n5,6:10\n"
    samples = read("ucr", written("a.ts", content))
    assert samples.classes == ("2", "10", "1")
    assert samples.targets.tolist() == [2, 0, 1]


def test_a_target_label_is_a_value_to_predict() -> None:
    samples = read("ucr", written("a.ts", "@targetLabel true\n@data\n1,2:0.5\n3,4:7\n"))
    assert samples.task == "regression"
    assert samples.targets[:, 0].tolist() == [0.5, 7]


def test_a_header_that_contradicts_the_lines_is_told() -> None:
    content = "@dimensions 3\n@seriesLength 9\n" + TS + "1,2:A\n3,4:B\n"
    notes = read("ucr", written("a.ts", content)).notes
    assert "a.ts says @dimensions 3, but its first series has 1; the lines decide" in notes
    assert "a.ts says @seriesLength 9, but its first series has 2; the lines decide" in notes


def test_of_several_forms_of_a_set_the_ts_is_read_and_told() -> None:
    wave("tsv")
    written("Wave/Wave_TRAIN.ts", TS + "1,2:A\n3,4:B\n")
    samples = read("ucr", "Wave")
    assert samples.input_shape == (2, 1)
    assert "Wave_TRAIN.ts is read; tsv files of it lie there too" in samples.notes


def test_of_several_sets_the_one_named_as_the_folder_is_read() -> None:
    wave()
    written("Wave/WaveDimension1_TRAIN.tsv", rows([5, 6, 7]))
    assert len(read("ucr", "Wave").inputs) == 10


GOOD = "1\t1\t2\t3\n2\t4\t5\t6\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.tsv", "", "a.tsv is empty (0 bytes)"),
        ("a.tsv", "\n\n", "a.tsv has 0 series; expected one a line, its label first"),
        ("a.tsv", "1\n2\n", "a.tsv line 1 has 1 field, '1'; expected a label and then the values"),
        ("a.tsv", GOOD + "1\t1\tNaN\t3\n", "a.tsv line 3: value 2 of 3 is missing, 1 in this line"),
        ("a.tsv", GOOD + "1\t\t2\t3\n", "a.tsv line 3: value 1 of 3 is missing"),
        ("a.tsv", GOOD + "1\tNaN\tNaN\tNaN\n", "a.tsv line 3 has no value; expected numbers"),
        ("a.tsv", GOOD + "1\t1\t2\tx\n", "a.tsv line 3: field 4 is 'x'; expected a number"),
        ("a.tsv", GOOD + "1\t1,5\t2\t3\n", "field 2 is '1,5'; expected a number; write 1.5"),
        (
            "a.tsv",
            GOOD + "1\t1\tinf\t3\n",
            "a.tsv line 3: field 3 is inf; expected a finite number",
        ),
        ("a.tsv", GOOD + "1\t1\t1e300\t3\n", "a.tsv line 3: field 3 is 1e300; expected a finite"),
        ("a.tsv", GOOD + "NaN\t1\t2\t3\n", "a.tsv line 3 has the label 'NaN', which is missing"),
        (
            "a.tsv",
            GOOD + "1\t1\t2\n",
            "a.tsv line 3 has 2 values, a.tsv line 1 has 3 (from 2 to 3 in all); expected one "
            "length. data.length=3 goes on with the last value of shorter ones, data.length=2 cuts",
        ),
        ("a.tsv", GOOD.encode("utf-16"), "a.tsv line 1 begins as UTF-16; expected UTF-8"),
        ("a.tsv", GOOD.encode() + b"\xfc\t1\t2\t3\n", "a.tsv line 3 has byte 0xFC at position 0"),
        ("a.tsv", GOOD.encode() + b"1\t1\0\t2\n", "a.tsv line 3 has a NUL byte at position 3"),
        ("a.tsv", "1\t1\t2\n1\t3\t4\n" * 3, "all 6 rows are of class '1'; expected at least 2"),
        ("a.ts", "1,2:A\n", "a.ts line 1 is '1,2:A' before @data; expected header lines such as"),
        ("a.ts", "@classLabel true A B\n", "a.ts has no @data line"),
        ("a.ts", TS, "a.ts has 0 series behind @data"),
        ("a.ts", "@timeStamps true\n" + TS, "a.ts says @timeStamps true; expected values alone"),
        (
            "a.ts",
            TS + "(0,1.5),(1,2):A\n",
            "a.ts line 3 has values with timestamps, '(time,value)'",
        ),
        (
            "a.ts",
            "@data\n1,2:A\n",
            "a.ts line 1: the header has neither @classLabel nor @targetLabe",
        ),
        ("a.ts", "@targetLable true\n@data\n1:2\n", "nor @targetLabel; '@targetlable' is neither."),
        ("a.ts", TS + "1,2\n", "a.ts line 3 has no ':'; expected values, ':' and the label"),
        ("a.ts", TS + "1,2:C\n", "a.ts line 3 has the label 'C', which @classLabel does not name"),
        ("a.ts", TS + "1,2:A\n1,?,3:B\n", "a.ts line 4: value 2 of 3 is missing"),
        ("a.ts", TS + "1,2:3,4:A\n1,2:B\n", "a.ts line 4 has 1 channels, a.ts line 3 has 2"),
        (
            "a.ts",
            TS + "1,2:3,4:A\n1,2:3:B\n",
            "a.ts line 4, channel 2 has 1 values, a.ts line 3 has",
        ),
        ("a.ts", TS + "1,2:3,b:A\n", "a.ts line 3, channel 2: field 2 is 'b'; expected a number"),
        (
            "a.ts",
            "@classLabel false\n@data\n1,2\n3,4\n",
            "a.ts line 4 has no label (@classLabel fal",
        ),
        (
            "a.ts",
            "@targetLabel true\n@data\n1,2:x\n",
            "a.ts line 3 has the label 'x'; expected a nu",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_by_its_line(
    name: str, content: str | bytes, problem: str
) -> None:
    path = written(name, content)
    with pytest.raises(DataError, match=re.escape(problem).replace("line\\ 4\\ has\\ no", ".*no")):
        prepared("ucr", path)


@pytest.mark.parametrize(
    ("files", "path", "problem"),
    [
        (["notes.md"], "set", "set has no file of series; expected NAME_TRAIN.tsv and NAME_TEST"),
        (["a_TEST.tsv"], "set/a_TEST.tsv", "a_TEST.tsv has the test alone; expected a_TRAIN.tsv"),
        (
            ["a_TRAIN.tsv", "b_TRAIN.ts"],
            "set",
            "set has several data sets: a_TRAIN.tsv, b_TRAIN.ts; say which: data.path=set/NAME",
        ),
    ],
)
def test_a_folder_without_one_training_file_is_refused(
    files: list[str], path: str, problem: str
) -> None:
    for name in files:
        written(f"set/{name}", rows([1, 2]))
    with pytest.raises(DataError, match=re.escape(problem)):
        read("ucr", path)


def test_an_unequal_length_between_the_files_names_both() -> None:
    written("a_TRAIN.tsv", "1\t1\t2\n2\t3\t4\n")
    path = written("a_TEST.tsv", "1\t1\t2\t3\n")
    with pytest.raises(
        DataError, match=r"a_TEST.tsv line 1 has 3 values, a_TRAIN.tsv line 1 has 2"
    ):
        read("ucr", path)
