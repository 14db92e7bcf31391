"""The tree for notebooks and tests."""

import pytest
from hydra.core.global_hydra import GlobalHydra

from pipeline.config.compose import compose
from pipeline.errors import ConfigError


def test_the_tree_holds_the_public_keys_and_nothing_of_hydras() -> None:
    from pipeline.config.options import RunConfig

    assert set(compose()) == set(RunConfig.model_fields)


def test_wrong_names_are_told_as_on_the_command_line() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["modle=gru", "trainer.epoch=3"])

    assert len(caught.value.problems) == 2


def test_composing_leaves_nothing_of_hydra_behind() -> None:
    compose()

    assert not GlobalHydra.instance().is_initialized()


def test_composing_twice_gives_the_same_tree() -> None:
    assert compose(["model=gru"]) == compose(["model=gru"])
