"""A config as plain values: stored without secrets, compared, told apart."""

import json
from typing import Any

import pytest

from pipeline.config.compose import compose
from pipeline.config.plain import data_fingerprint, differences, flatten, plain, resume_problems


def test_environment_variable_is_stored_as_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "c4nary")
    words = ["tracking.uri=${oc.env:CANARY}", "tags={a: '${tracking.uri}'}", "trust=[my_net]"]
    config = compose(words)
    stored = plain(config)
    assert "c4nary" not in json.dumps(stored)
    assert stored["tracking"]["uri"] == stored["tags"]["a"] == "${oc.env:CANARY}"
    assert config.tracking.uri == "c4nary"
    assert "trust" not in stored  # which only a command line may give


def test_flat_config_has_dotted_keys_and_scalars() -> None:
    flat = flatten({"a": {"b": [1, "数"], "c": {}}, "d": None, "e": True})
    assert flat == {"a.b": '[1, "数"]', "a.c": "{}", "d": None, "e": True}


def resumed(*overrides: str, base: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    return resume_problems(plain(compose(base)), plain(compose([*base, *overrides])))


def test_options_that_affect_no_weight_may_change() -> None:
    """They may differ when a run is resumed."""
    free = (
        *("verbose=0", "tracking=none", "output=elsewhere", "data.num_workers=2", "name=other"),
        *("trainer.devices=2", "+tags.a=b", "traceback=true", "trust=[my_net]", "resume=last"),
    )
    assert resumed(*free, "resume_allow_change=true") == ([], [])


def test_another_fold_is_not_resumed() -> None:
    problem = "data.fold was 0 and is 1 now; another model or data set needs a new run."
    assert resumed("data.fold=1", base=("data=iris", "data.folds=3")) == ([problem], [])


def test_more_epochs_are_free_without_epoch_schedule() -> None:
    longer = "trainer.max_epochs=30"
    assert resumed(longer, base=("scheduler=none",)) == ([], [])
    assert [line.split(" ")[0] for line in resumed(longer)[1]] == ["scheduler.T_max"]
    assert resumed(longer, base=("scheduler=onecycle",))[1]
    assert resumed("trainer.max_epochs=10", base=("scheduler=none",))[1]


def test_configs_of_same_data_share_a_fingerprint() -> None:
    base: dict[str, Any] = plain(compose())
    same = plain(compose(["seed=1", "model=mlp", "data.num_workers=2"]))
    assert data_fingerprint(base) == data_fingerprint(same)
    assert data_fingerprint(base) != data_fingerprint(plain(compose(["data.split_seed=1"])))


def test_removed_or_new_null_keys_make_no_difference() -> None:
    new = plain(compose(["data=iris"]))
    gone = {"limit_predict_batches": None, "model_registry": "shelf"}
    assert differences({**new, "trainer": {**new["trainer"], **gone}}, new) == []
    old = {**new, "data": {key: value for key, value in new["data"].items() if key != "permute"}}
    assert new["data"]["permute"] is None
    assert resume_problems(old, new) == ([], [])
