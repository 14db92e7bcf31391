"""Columns of pixels that become images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.tables.given_tables import prepared, text
from fixture_types import Capture
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from pipeline.baselines import Limits, linear
from pipeline.data.reader import Rules, reader_of
from pipeline.errors import DataError

DIGITS = load_digits()
KEYS = {"target": "digit", "image_shape": (8, 8), "validation": 0.0}


def pixels(rows: int = 300) -> list[list[str]]:
    """Pixels of handwritten digits, 8×8, with a column `digit` before them."""
    cells = np.column_stack([DIGITS.target, DIGITS.data])[:rows].astype(int)
    return [["digit", *DIGITS.feature_names], *(list(map(str, row)) for row in cells)]


def test_pixels_are_scaled_together_and_read_alike_from_a_file_and_a_frame(
    own_folder: Path,
) -> None:
    content = text(pixels())
    found = prepared(content, **KEYS)
    train, images = found.train.rows, DIGITS.images[:300, None]
    mean, deviation = images[train].mean(), images[train].std()
    expected = (images - mean) / deviation
    np.testing.assert_allclose(found.train.inputs, expected[train], rtol=1e-5)

    reader = reader_of(found.schema)
    mixed = [[row[column] for column in (*range(64, -1, -1),)] for row in pixels()]
    Path("new.csv").write_text(text(mixed), encoding="utf-8")  # other order, with the target
    (block,) = reader.open(Path("new.csv"), Rules(), size=1000).blocks
    frame = pd.DataFrame(pixels()[1:], columns=pixels()[0]).drop(columns="digit")
    for raw in (block.raw, reader.apply(frame, what="the input").raw):
        np.testing.assert_array_equal(raw, images)
    np.testing.assert_array_equal(
        reader.apply(pd.DataFrame(found.example), what="the example").raw, images[train[:3]]
    )


def test_the_linear_baseline_of_pixels_in_a_table_is_that_of_images(own_folder: Path) -> None:
    found = prepared(text(pixels()), **KEYS)
    baseline = linear(found, limits=Limits(rows=10_000, seconds=5))
    assert baseline is not None
    flat = DIGITS.data[:300]
    mean, deviation = flat[found.train.rows].mean(), flat[found.train.rows].std()
    oracle = LogisticRegression(max_iter=1000).fit(
        (flat[found.train.rows] - mean) / deviation, DIGITS.target[found.train.rows]
    )
    expected = oracle.predict_proba((flat[found.test.rows] - mean) / deviation)
    np.testing.assert_allclose(baseline.outputs, expected, atol=1e-3)


def test_columns_that_look_like_pixels_are_told_with_the_key(own_folder: Path) -> None:
    told = "the 64 columns look like pixels, and each is scaled by itself; data.image_shape=[8,8] "
    head, *rows = pixels()
    found = prepared(text([head, *rows]), target="digit")
    assert any(note.startswith(told) for note in found.notes)
    for other in (
        [head[:-1], *(row[:-1] for row in rows)],
        [head, *([*r[:-1], "0.5"] for r in rows)],
    ):
        assert not any("pixels" in note for note in prepared(text(other), target="digit").notes)


def test_three_lengths_are_channels_first(own_folder: Path) -> None:
    found = prepared(text(pixels()), **KEYS | {"image_shape": (4, 4, 4)}, scale="none")
    expected = DIGITS.data[:300].reshape(300, 4, 4, 4)[found.test.rows]
    np.testing.assert_array_equal(found.test.inputs, expected)


def test_a_network_of_images_names_the_key(
    own_folder: Path, train: Callable[..., int], capsys: Capture
) -> None:
    Path("digits.csv").write_text(text(pixels()), encoding="utf-8")
    words = ("model=cnn2d", "data=table", "data.path=digits.csv", "data.target=digit")
    assert train(*words, "verbose=0") == 2
    assert capsys.readouterr().err.endswith(
        "models that read them: cnn1d, mlp; columns of pixels become images with "
        "data.image_shape=[8,8]\n"
    )


@pytest.mark.parametrize(
    ("header", "cell", "told"),
    [
        ("more", "1", "is 64 pixels, and patients.csv has 65 columns of features; expected"),
        ("more", "x", "has 65 columns of features; column 'more' holds words; expected a column"),
    ],
)
def test_other_columns_are_refused(own_folder: Path, header: str, cell: str, told: str) -> None:
    head, *rows = pixels()
    content = text([[header, *head], *([cell, *row] for row in rows)])
    with pytest.raises(DataError) as caught:
        prepared(content, **KEYS)
    assert str(caught.value).startswith("data.image_shape=[8, 8] ")
    assert told in str(caught.value)
