"""What runs are made from: data that one after another asks for, and models by name."""

from pathlib import Path

import pytest
from fixture_types import Patch

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.data.prepare import Prepared
from pipeline.errors import ConfigError
from pipeline.running import plan
from pipeline.running.command_line import found_model
from pipeline.running.plan import Datasets


def prepared(kept: Datasets, *words: str) -> Prepared:
    return kept.prepared(check(compose(["model=mlp", *words])))


def test_equal_data_are_prepared_once_and_unequal_ones_apart(monkeypatch: Patch) -> None:
    kept = Datasets(keeps=True)
    iris = prepared(kept, "data=iris")
    assert prepared(kept, "data=iris", "data.batch_size=7", "seed=3") is iris
    for words in (
        ["data=wine"],
        ["data=iris", "data.split_seed=1"],
        ["data=iris", "data.scale=none"],
    ):
        assert prepared(kept, *words) is not iris
    assert prepared(kept, "data=iris") is iris
    first = kept.baselines(iris)
    assert kept.baselines(iris) is first
    assert [one.name for one in first] == ["majority class", "logistic regression"]
    # The oldest data go where there is no room for all.
    monkeypatch.setattr(plan, "KEPT_BYTES", 1)
    wine = prepared(kept, "data=wine")
    assert prepared(kept, "data=wine") is wine
    assert prepared(kept, "data=iris") is not iris


def test_data_are_forgotten_once_somebody_has_written_into_a_view_of_them() -> None:
    kept = Datasets(keeps=True)
    iris = prepared(kept, "data=iris")
    kept.forget_changed()
    assert prepared(kept, "data=iris") is iris
    iris.train.targets[3:5].zero_()
    kept.forget_changed()
    assert prepared(kept, "data=iris") is not iris


def test_what_is_neither_a_run_nor_a_folder_with_a_model_is_told_as_what_it_is(
    tmp_path: Path,
) -> None:
    nowhere = check(compose(["tracking=none"])).tracking
    (tmp_path / "letters").mkdir()
    with pytest.raises(ConfigError, match="letters' has no model; expected the folder of a run"):
        found_model(str(tmp_path / "letters"), tmp_path / "runs", nowhere)
    with pytest.raises(ConfigError, match="run 'nobody' is unknown below output="):
        found_model("nobody", tmp_path / "runs", nowhere)
