"""Data that one run after another of a process asks for."""

import pytest

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import RunConfig
from pipeline.running import plan
from pipeline.running.plan import KeptDatasets


def options(*words: str) -> RunConfig:
    return check(compose(["model=mlp", *words]))


def test_equal_data_are_prepared_once_and_unequal_ones_apart() -> None:
    kept = KeptDatasets()
    iris = kept.prepared(options("data=iris"))
    assert kept.prepared(options("data=iris", "data.batch_size=7", "seed=3")) is iris
    assert kept.prepared(options("data=wine")) is not iris
    for word in ("data.split_seed=1", "data.scale=none"):
        assert kept.prepared(options("data=iris", word)) is not iris
    assert kept.prepared(options("data=iris")) is iris


def test_the_baselines_of_equal_data_are_fitted_once() -> None:
    kept = KeptDatasets()
    prepared = kept.prepared(options("data=iris"))
    first = kept.baselines(prepared)
    assert kept.baselines(prepared) is first
    assert [one.name for one in first] == ["majority class", "logistic regression"]


def test_the_oldest_data_go_where_there_is_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "KEPT_BYTES", 1)
    kept = KeptDatasets()
    iris, wine = kept.prepared(options("data=iris")), kept.prepared(options("data=wine"))
    assert kept.prepared(options("data=wine")) is wine
    assert kept.prepared(options("data=iris")) is not iris


def test_data_are_forgotten_once_somebody_has_written_into_a_view_of_them() -> None:
    kept = KeptDatasets()
    iris = kept.prepared(options("data=iris"))
    kept.forget_changed()
    assert kept.prepared(options("data=iris")) is iris
    iris.train.targets[3:5].zero_()
    kept.forget_changed()
    assert kept.prepared(options("data=iris")) is not iris
