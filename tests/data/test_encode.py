"""Holes and categories of a table: what the training rows teach, and what others then become."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from pipeline.data.scale import UNKNOWN, Encoder, fit_encoder
from pipeline.data.source import Column

COLOURS = tuple(f"colour {index}" for index in range(26))


@pytest.fixture
def raw() -> np.ndarray:
    """Return (300 rows, 2 columns): a length with holes, a colour with holes and rare levels."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, len(COLOURS) + 1)
    cells = np.column_stack(
        [
            generator.normal(5, 2, 300),
            generator.choice(len(COLOURS), 300, p=shares / shares.sum()).astype(float),
        ]
    )
    cells[generator.random(300) < 0.1, 0] = np.nan
    cells[generator.random(300) < 0.1, 1] = np.nan
    return cells


@pytest.fixture
def fitted(raw: np.ndarray) -> Encoder:
    """Return what the first 200 rows teach."""
    return fit_encoder(raw, (Column(name="length"), Column(name="colour", levels=COLOURS)), TRAIN)


TRAIN = np.arange(200)


def test_a_missing_number_becomes_the_mean_of_the_training_rows(
    raw: np.ndarray, fitted: Encoder
) -> None:
    expected = SimpleImputer().fit(raw[TRAIN, :1]).transform(raw[:, :1])
    np.testing.assert_allclose(fitted.encoded(raw)[:, :1], expected, rtol=1e-12)


def test_categories_are_those_of_scikit_learn_with_the_twenty_most_frequent_kept(
    raw: np.ndarray, fitted: Encoder
) -> None:
    filled = SimpleImputer(strategy="most_frequent").fit(raw[TRAIN, 1:]).transform(raw[:, 1:])
    seen, counts = np.unique(filled[TRAIN], return_counts=True)
    assert len(seen) > 20
    oracle = OneHotEncoder(
        max_categories=21, handle_unknown="infrequent_if_exist", sparse_output=False
    ).fit(filled[TRAIN])
    ours, theirs = fitted.encoded(raw)[:, 1:], oracle.transform(filled)
    assert ours.shape == theirs.shape == (300, 21)
    assert (ours.sum(1) == 1).all()
    # Equally frequent levels at the border may be kept by either, so columns are matched by name.
    names = {f"colour={COLOURS[int(level)]}": n for n, level in enumerate(oracle.categories_[0])}
    kept = [name for name in fitted.features[1:-1] if counts[names[name]] > counts.min() + 1]
    assert len(kept) > 10
    columns = {name: n for n, name in enumerate(oracle.get_feature_names_out(["colour"]))}
    for name in kept:
        level = float(COLOURS.index(name.removeprefix("colour=")))
        theirs_of = theirs[:, columns[f"colour_{level}"]]
        np.testing.assert_array_equal(ours[:, fitted.features.index(name) - 1], theirs_of)


def test_a_category_that_training_never_saw_counts_as_other(fitted: Encoder) -> None:
    (row,) = fitted.encoded(np.array([[5.0, UNKNOWN]]))
    assert dict(zip(fitted.features, row, strict=True))["colour=other"] == 1
    assert row[1:].sum() == 1


def test_without_rare_levels_an_unknown_category_is_none_of_those_there_are() -> None:
    columns = (Column(name="sex", levels=("f", "m")),)
    encoder = fit_encoder(np.array([[0.0], [1.0], [1.0]]), columns, np.arange(3))
    assert encoder.features == ("sex=m", "sex=f")
    np.testing.assert_array_equal(encoder.encoded(np.array([[UNKNOWN], [0.0]])), [[0, 0], [0, 1]])


def test_rows_outside_the_training_part_teach_nothing(raw: np.ndarray, fitted: Encoder) -> None:
    changed = raw.copy()
    changed[200:, 0], changed[200:, 1] = 1e6, 25.0
    columns = (Column(name="length"), Column(name="colour", levels=COLOURS))
    assert fit_encoder(changed, columns, TRAIN) == fitted


def test_an_encoder_comes_back_from_plain_values(fitted: Encoder) -> None:
    plain = {"codes": [{**_plain(code), "kept": list(code.kept)} for code in fitted.codes]}
    assert Encoder.from_dict(plain) == fitted


def _plain(code: object) -> dict[str, object]:
    names = ("name", "levels", "kept", "other", "fill", "has_holes")
    return {
        name: list(value) if isinstance(value := getattr(code, name), tuple) else value
        for name in names
    }
