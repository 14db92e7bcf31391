"""Which model a person means by `model_from=RUN`."""

from pathlib import Path

import pytest

from pipeline.config.options import TrackingOptions
from pipeline.errors import ConfigError
from pipeline.running.command_line import found_model

NOWHERE = TrackingOptions(kind="none", uri=None, required=True, experiment="pipeline")


def test_a_folder_that_holds_no_model_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(ConfigError, match="letters' holds no model; expected the folder of a run"):
        found_model(str(tmp_path / "letters"), tmp_path / "runs", NOWHERE)


def test_what_is_no_folder_is_told_as_an_unknown_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run 'nobody' is unknown below output="):
        found_model("nobody", tmp_path / "runs", NOWHERE)
