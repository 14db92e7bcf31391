import inspect

import numpy as np
import pytest
import torch
from given_data import Shipped, names, shipped

from pipeline.data.airline import Airline
from pipeline.data.rgb_patches import RGBPatches
from pipeline.data.source import Samples, Series, Source
from pipeline.data.synthetic_control import STEPS, draw
from pipeline.errors import ConfigError

SHAPES = {
    "mnist1d": ("multiclass", (40, 1), 10, 5000),
    "digits": ("multiclass", (1, 8, 8), 10, 1797),
    "rgb_patches": ("binary", (3, 16, 16), 1, 2080),
    "breast_cancer": ("binary", (30,), 1, 569),
    "wine": ("multiclass", (13,), 3, 178),
    "iris": ("multiclass", (4,), 3, 150),
    "diabetes": ("regression", (10,), 1, 442),
    "sunspots": ("regression", (9, 1), 1, 288 - 9),
    "airline": ("regression", (12, 1), 1, 144 - 24),
    "synthetic_control": ("multiclass", (60, 1), 6, 600),
}


@pytest.mark.parametrize("name", names())
def test_every_data_set_of_the_folder_comes_out_scaled_split_and_finite(name: str) -> None:
    prepared = shipped(name)
    parts = [prepared.train, prepared.validation, prepared.test]
    rows = np.concatenate([part.rows for part in parts])
    assert len(set(rows.tolist())) == len(rows)
    for part in parts:
        assert part.inputs.dtype == torch.float32
        assert part.inputs.shape == (len(part), *prepared.schema.input_shape)
        assert torch.isfinite(part.inputs).all()
        assert torch.isfinite(part.targets).all()


@pytest.mark.parametrize("name", names())
def test_every_data_set_of_the_folder_reads_the_same_twice(name: str) -> None:
    assert shipped(name).content_hash == shipped(name).content_hash


@pytest.mark.parametrize("name", names())
def test_a_source_states_every_key_and_leaves_its_default_to_the_yaml(name: str) -> None:
    source = Shipped(name).source()
    assert isinstance(source, Source)
    for parameter in inspect.signature(type(source)).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is parameter.empty
        assert parameter.annotation is not parameter.empty


@pytest.mark.parametrize("name", SHAPES)
def test_a_shipped_set_has_its_published_task_shape_and_rows(name: str) -> None:
    prepared = shipped(name)
    task, shape, outputs, rows = SHAPES[name]
    parts = (prepared.train, prepared.validation, prepared.test)
    assert prepared.schema.task == task
    assert prepared.schema.input_shape == shape
    assert prepared.schema.outputs == outputs
    assert sum(len(part) for part in parts) == rows


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "diabetes"])
def test_a_table_of_scikit_learn_is_unchanged(name: str) -> None:
    from sklearn import datasets

    oracle = getattr(datasets, f"load_{name}")()
    samples = Shipped(name).source().read()
    inputs = samples.inputs.reshape(len(samples.inputs), -1)
    np.testing.assert_allclose(inputs * (16 if name == "digits" else 1), oracle.data)
    if name == "diabetes":
        assert samples.targets.tolist() == oracle.target.tolist()
    else:
        found = [samples.classes[label] for label in samples.targets]
        assert found == [str(oracle.target_names[label]) for label in oracle.target]


def test_the_published_parts_of_sunspots_and_airline_come_out() -> None:
    sunspots, airline = (Shipped(name).source().read() for name in ("sunspots", "airline"))
    assert (len(sunspots.values), sunspots.test_from) == (288, 221)
    assert (sunspots.times[0], sunspots.times[221], sunspots.times[-1]) == ("1700", "1921", "1987")
    assert (len(airline.values), airline.test_from) == (144, 96)
    assert airline.values[:3, 0].tolist() == [112, 118, 132]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("1948-01", "1960-12", "1957-01"), r"data.first=1948-01 is no time .* from 1949-01 to"),
        (("1949-01", "1960-12", "1957"), r"data.test_from=1957 is no time .* to 1960-12"),
        (
            ("1959-01", "1950-12", "1957-01"),
            r"data.test_from=1957-01 .* expected first before last",
        ),
    ],
)
def test_a_time_outside_the_file_is_refused(keys: tuple[str, str, str], message: str) -> None:
    first, last, test_from = keys
    with pytest.raises(ConfigError, match=message):
        Airline(first=first, last=last, test_from=test_from).read()


def test_an_unknown_positive_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        ConfigError,
        match=r"data.positive='malign' is no class of this data; expected 'malignant' or "
        r"'benign'\. Did you mean 'malignant'\?",
    ):
        shipped("breast_cancer", positive="malign")


def patches() -> Samples:
    return RGBPatches(positive="flower", test_from=480).read()


def test_patches_are_those_cut_from_the_photograph_by_hand() -> None:
    from sklearn.datasets import load_sample_image

    samples = patches()
    flower = load_sample_image("flower.jpg")
    first = samples.inputs[samples.targets == 1]
    assert (first[0] == flower[:16, :16].transpose(2, 0, 1)).all()
    assert (first[40 * 3 + 7] == flower[48:64, 112:128].transpose(2, 0, 1)).all()


def test_tested_patches_lie_right_of_all_others_in_both_photographs() -> None:
    samples = patches()
    others = np.setdiff1d(np.arange(len(samples.inputs)), samples.test)
    assert samples.groups[samples.test].min() >= samples.groups[others].max() + 16
    assert set(samples.targets[samples.test]) == {0, 1}


def test_no_column_of_patches_is_in_two_parts() -> None:
    prepared = shipped("rgb_patches")
    columns = [
        set(patches().groups[part.rows])
        for part in (prepared.train, prepared.validation, prepared.test)
    ]
    assert sum(map(len, columns)) == 40


def control(label: int) -> np.ndarray:
    return draw(np.full(300, label), seed=0)


def test_normal_control_charts_stay_within_six_of_thirty() -> None:
    normal = control(0)
    assert abs(normal - 30).max() <= 6
    assert normal.mean() == pytest.approx(30, abs=0.1)
    assert normal.std() == pytest.approx(2 * 6 / np.sqrt(12), abs=0.05)


def test_each_kind_of_control_chart_is_its_published_formula_within_the_noise() -> None:
    time = np.arange(1, STEPS + 1)
    rising, falling = control(2) - 30, control(3) - 30
    assert (rising >= 0.2 * time - 6).all()
    assert (rising <= 0.5 * time + 6).all()
    assert (-falling >= 0.2 * time - 6).all()
    assert (-falling <= 0.5 * time + 6).all()
    up, down = control(4) - 30, control(5) - 30
    assert abs(up[:, :19]).max() <= 6
    assert abs(down[:, :19]).max() <= 6
    assert up[:, 40:].min() >= 7.5 - 6
    assert down[:, 40:].max() <= -7.5 + 6
    assert up[:, 40:].max() <= 20 + 6


def test_cyclic_control_charts_have_a_period_of_ten_to_fifteen_steps() -> None:
    spectrum = abs(np.fft.rfft(control(1) - 30, n=600, axis=1))
    period = 600 / spectrum.argmax(axis=1)
    assert period.min() >= 9.5
    assert period.max() <= 15.8


def test_training_and_test_charts_are_drawn_apart() -> None:
    samples = Shipped("synthetic_control").source().read()
    assert not np.isin(samples.inputs[samples.test], samples.inputs[:300]).any()
    assert np.bincount(samples.targets).tolist() == [100] * 6


def test_a_series_and_rows_are_what_sources_give() -> None:
    kinds = {name: type(Shipped(name).source().read()) for name in SHAPES}
    assert {name for name, kind in kinds.items() if kind is Series} == {"sunspots", "airline"}
