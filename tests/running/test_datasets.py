"""How long data are kept for later runs; `tests/study/test_worker.py` shows what is kept."""

import torch
from helpers.fixture_types import Patch

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import RunConfig
from pipeline.data.preparation.prepare import Prepared
from pipeline.running.datasets import Datasets


def test_oldest_data_are_dropped_beyond_the_limit(monkeypatch: Patch) -> None:
    datasets = Datasets(keeps=True)

    def options(*words: str) -> RunConfig:
        return check(compose(["model=mlp", *words]))

    def prepared(*words: str) -> Prepared:
        return datasets.prepared(options(*words))

    iris, wine = prepared("data=iris"), prepared("data=wine")
    assert prepared("data=iris", "data.batch_size=7", "seed=3") is iris
    first = datasets.baselines(iris, options("data=iris"))
    assert datasets.baselines(iris, options("data=iris")) is first
    weighted = datasets.baselines(iris, options("data=iris", "loss.class_weights=[1,9,9]"))
    linear, weighted_linear = first["linear"].outputs, weighted["linear"].outputs
    assert linear is not None
    assert weighted_linear is not None
    assert not torch.equal(weighted_linear, linear)
    monkeypatch.setattr("pipeline.running.datasets.KEPT_BYTES", 1)
    assert prepared("data=wine") is wine
    assert prepared("data=iris") is not iris
