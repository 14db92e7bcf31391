"""How long data are kept for later runs; `tests/study/test_worker.py` shows what is kept."""

from helpers.fixture_types import Patch

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.data.preparation.prepare import Prepared
from pipeline.running.datasets import Datasets


def test_oldest_data_are_dropped_beyond_the_limit(monkeypatch: Patch) -> None:
    datasets = Datasets(keeps=True)

    def prepared(*words: str) -> Prepared:
        return datasets.prepared(check(compose(["model=mlp", *words])))

    iris, wine = prepared("data=iris"), prepared("data=wine")
    assert prepared("data=iris", "data.batch_size=7", "seed=3") is iris
    first = datasets.baselines(iris)
    assert datasets.baselines(iris) is first
    monkeypatch.setattr("pipeline.running.datasets.KEPT_BYTES", 1)
    assert prepared("data=wine") is wine
    assert prepared("data=iris") is not iris
