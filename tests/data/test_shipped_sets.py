"""The data sets that ship: as published, drawn by their formulas, cached and read the same."""

import hashlib
import inspect
import io
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.case_tables import refusals
from helpers.refused_calls import refusal
from helpers.sample_data import (
    Shipped,
    array_of,
    inputs_of,
    names,
    parts_of,
    shipped,
    shipped_samples,
    shipped_series,
)

from pipeline.data.airline import Airline
from pipeline.data.co2 import CO2
from pipeline.data.mnist1d import MNIST1D
from pipeline.data.shipped import cached
from pipeline.data.source import Array, Source
from pipeline.data.synthetic_control import STEPS, draw

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
def test_shipped_set_is_reproducible_finite_and_split(name: str) -> None:
    """Each key of its source has an annotation, and its default stands in the YAML file."""
    source = Shipped(name).source()
    assert isinstance(source, Source)
    for parameter in inspect.signature(type(source)).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is parameter.empty  # the YAML has it
        assert parameter.annotation is not parameter.empty
    prepared = shipped(name)
    assert prepared.content_hash == shipped(name).content_hash
    schema = prepared.schema
    parts = parts_of(prepared)
    rows = np.concatenate([part.rows for part in parts])
    assert len(set(rows.tolist())) == len(rows)
    for part in parts:
        inputs = inputs_of(part)
        assert inputs.dtype == torch.float32
        assert inputs.shape == (len(part), *schema.input_shape)
        assert inputs.isfinite().all()
        assert part.targets.isfinite().all()
    found = (schema.task, schema.input_shape, schema.outputs, len(rows))
    assert SHAPES.get(name, found) == found


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "diabetes"])
def test_scikit_learn_tables_are_unchanged(name: str) -> None:
    from sklearn import datasets

    oracle = getattr(datasets, f"load_{name}")()
    samples = shipped_samples(name)
    inputs = array_of(samples).reshape(len(samples.inputs), -1)
    np.testing.assert_allclose(inputs * (16 if name == "digits" else 1), oracle.data)
    if name == "diabetes":
        assert samples.targets.tolist() == oracle.target.tolist()
    else:
        found = [samples.classes[label] for label in samples.targets]
        assert found == [str(name) for name in np.array(oracle.target_names)[oracle.target]]


def test_published_series_have_their_published_parts() -> None:
    sunspots, airline, co2 = (shipped_series(name) for name in ("sunspots", "airline", "co2"))
    assert (len(sunspots.values), sunspots.test_from) == (288, 221)
    assert (sunspots.times[0], sunspots.times[221], sunspots.times[-1]) == ("1700", "1921", "1987")
    assert (len(airline.values), airline.test_from) == (144, 96)
    assert airline.values[:3, 0].tolist() == [112, 118, 132]
    assert (len(co2.values), co2.times[0], co2.times[-1]) == (2284, "1958-03-29", "2001-12-29")
    at = co2.times.index("1958-05-10")
    assert co2.values[at - 1 : at + 2, 0].tolist() == [316.9, 316.9, 317.5]
    assert co2.notes == ("59 missing weeks are filled with the previous week",)
    assert set(np.diff(np.array(co2.times, dtype="datetime64[D]")).astype(int)) == {7}


OUTSIDE = """
1948-01 1960-12 1957-01
- data.start=1948-01 is not a time of this series; expected one from 1949-01 to 1960-12

1949-01 1960-12 1957
- data.test_from=1957 is not a time of this series; expected one from 1949-01 to 1960-12

1959-01 1950-12 1957-01
- expected start before end
"""


@pytest.mark.parametrize(("times", "problem"), refusals(OUTSIDE))
def test_time_outside_the_file_is_refused(times: str, problem: str) -> None:
    first, last, test_from = times.split()
    source = Airline(start=first, end=last, test_from=test_from)
    assert problem in refusal(source.read)


def test_unknown_positive_class_suggests_the_nearest() -> None:
    assert refusal(shipped, "breast_cancer", positive="malign") == (
        "data.positive='malign' is not a class of this data; expected 'malignant' or 'benign'. "
        "Did you mean 'malignant'?"
    )


def test_patches_equal_handmade_ones() -> None:
    """The test patches lie to the right of all others."""
    from sklearn.datasets import load_sample_image

    samples = shipped_samples("rgb_patches", positive="flower", test_from=480)
    flower = load_sample_image("flower.jpg")
    first = array_of(samples)[samples.targets == 1]
    assert (first[0] == flower[:16, :16].transpose(2, 0, 1)).all()
    assert (first[40 * 3 + 7] == flower[48:64, 112:128].transpose(2, 0, 1)).all()
    assert samples.test is not None
    assert samples.groups is not None
    others = np.setdiff1d(np.arange(len(samples.inputs)), samples.test)
    assert samples.groups[samples.test].min() >= samples.groups[others].max() + 16
    assert set(samples.targets[samples.test]) == {0, 1}
    groups = [set(samples.groups[part.rows]) for part in parts_of(shipped("rgb_patches"))]
    assert sum(map(len, groups)) == 40  # none in two parts


def test_control_charts_follow_their_published_formulas() -> None:
    time = np.arange(1, STEPS + 1)
    normal, cyclic, rising, falling, up, down = (draw(np.full(300, n), seed=0) for n in range(6))
    assert abs(normal - 30).max() <= 6
    assert normal.mean() == pytest.approx(30, abs=0.1)
    assert normal.std() == pytest.approx(2 * 6 / np.sqrt(12), abs=0.05)
    for trend in (rising - 30, 30 - falling):
        assert (trend >= 0.2 * time - 6).all()
        assert (trend <= 0.5 * time + 6).all()
    for shift in (up - 30, 30 - down):
        assert abs(shift[:, :19]).max() <= 6
        assert shift[:, 40:].min() >= 7.5 - 6
        assert shift[:, 40:].max() <= 20 + 6
    spectrum = abs(np.fft.rfft(cyclic - 30, n=600, axis=1))
    period = 600 / spectrum.argmax(axis=1)
    assert period.min() >= 9.5
    assert period.max() <= 15.8


def test_mnist1d_equals_the_published_set() -> None:
    samples = shipped_samples("mnist1d")
    assert samples.test is not None
    train = np.setdiff1d(np.arange(5000), samples.test)
    counts = np.bincount(samples.targets[train])
    values = array_of(samples)[train]
    assert values.shape == (4000, 40, 1)
    assert (counts.min(), counts.max()) == (394, 411)
    assert values.mean() == pytest.approx(-0.0003, abs=5e-5)
    assert values.std() == pytest.approx(0.998, abs=5e-4)


def test_global_generators_are_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    MNIST1D(shuffled_positions=False).read()
    assert random.getstate() == python
    assert str(np.random.get_state()) == str(numpy)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_shuffled_positions_permute_all_rows_alike() -> None:
    before, after = (
        array_of(shipped_samples("mnist1d", shuffled_positions=shuffled))[:, :, 0]
        for shuffled in (False, True)
    )
    order = [int(np.flatnonzero((before == column[:, None]).all(0))[0]) for column in after.T]
    assert sorted(order) == list(range(40))
    assert order != list(range(40))


def test_warm_cache_needs_no_generating_library() -> None:
    shipped("mnist1d")
    script = (
        "import sys; from pipeline.data.mnist1d import MNIST1D; "
        "MNIST1D(shuffled_positions=False).read(); sys.exit('mnist1d' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_leading_empty_co2_week_stays_empty() -> None:
    last, test_from = "2001-12-29", "1994-01-01"
    values = CO2(start="1958-05-10", end=last, test_from=test_from).read().values[:, 0]
    assert np.isnan(values[0])
    assert values[1] == 317.5
    series = CO2(start="1986-01-04", end=last, test_from=test_from).read()
    assert series.notes == ()
    assert series.values[0] == [346.4]
    prepared = shipped("co2")
    assert (prepared.schema.units, len(prepared.test)) == ("ppm", 418)


def test_recall_answer_is_the_first_token() -> None:
    """The other tokens are independent of it."""

    samples = shipped_samples("recall", steps=4, tokens=4, rows=4000)
    inputs = array_of(samples)
    assert inputs.shape == (4000, 4, 4)
    assert set(np.unique(inputs)) == {0.0, 1.0}
    assert (inputs.sum(axis=2) == 1).all()
    assert samples.targets.tolist() == inputs[:, 0].argmax(axis=1).tolist()
    assert np.bincount(samples.targets).tolist() == [1000] * 4
    table = np.histogram2d(samples.targets, inputs[:, 1].argmax(axis=1), bins=4)[0]
    np.testing.assert_allclose(table, 250, atol=5 * np.sqrt(250))
    usual, other = (array_of(shipped_samples("recall", process_seed=seed)) for seed in (0, 1))
    assert (usual != other).any()
    schema = shipped("recall", steps=1, tokens=2, rows=40).schema
    assert (schema.task, schema.input_shape, schema.positive) == ("binary", (1, 2), "1")


def test_control_charts_of_parts_are_independent() -> None:
    """Normalised charts keep their shape."""
    samples = shipped_samples("synthetic_control", normalise_each=False)
    raw = array_of(samples)[:, :, 0]
    assert not np.isin(raw[samples.test], raw[:300]).any()
    assert np.bincount(samples.targets).tolist() == [100] * 6
    normalised = array_of(shipped_samples("synthetic_control", normalise_each=True))[:, :, 0]
    np.testing.assert_allclose(normalised.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(normalised.std(1), 1)
    forms = [np.corrcoef(a, b)[0, 1] for a, b in zip(raw, normalised, strict=True)]
    np.testing.assert_allclose(forms, 1)
    assert raw.mean() > 20


CONTENT: dict[str, Array] = {"inputs": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"])}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "pipeline"


def times_made(asked: int = 1) -> int:
    """Ask for the same arrays so often; return how often they were made."""
    made: list[bool] = []

    def make() -> dict[str, Array]:
        made.append(True)
        return CONTENT

    for _ in range(asked):
        arrays = cached("x", make, made_by="numpy")
        assert arrays.keys() == CONTENT.keys()
        for name, array in CONTENT.items():
            np.testing.assert_array_equal(arrays[name], array)
    return len(made)


def test_damaged_cache_file_is_made_again(own_cache: Path) -> None:
    assert times_made(3) == 1
    (file,) = own_cache.iterdir()
    whole = file.read_bytes()
    spoilt = [whole[:kept] for kept in (0, 1, 31, 32, 33, 200)]
    for position in [*range(0, len(whole), 37), len(whole) - 1]:
        flipped = bytes([whole[position] ^ 1])
        spoilt.append(whole[:position] + flipped + whole[position + 1 :])
    for content in spoilt:
        file.write_bytes(content)
        assert times_made() == 1
        assert file.read_bytes() == whole


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.path, "sprung"))


def test_cached_pickle_is_never_loaded(own_cache: Path) -> None:
    times_made()
    (file,) = own_cache.iterdir()
    sprung, buffer = own_cache / "sprung", io.BytesIO()
    np.savez(buffer, inputs=np.array([Trap(sprung)], dtype=object))
    archive = buffer.getvalue()
    file.write_bytes(archive + hashlib.sha256(archive).digest())
    assert times_made() == 1
    assert not sprung.exists()


def test_unwritable_cache_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert times_made(2) == 2


def _sum_of_cached(_: int) -> float:
    arrays = cached("large", lambda: {"x": np.arange(200_000.0)}, made_by="numpy")
    return float(arrays["x"].sum())


def test_concurrent_processes_fill_the_cache_correctly(own_cache: Path) -> None:
    with multiprocessing.get_context("fork").Pool(6) as pool:
        sums = pool.map(_sum_of_cached, range(24), chunksize=1)
    assert set(sums) == {float(sum(range(200_000)))}
    assert [file.suffix for file in own_cache.iterdir()] == [".npz"]
