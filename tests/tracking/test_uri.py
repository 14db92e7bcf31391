from pathlib import Path

import pytest
from helpers.fixture_types import Patch

from pipeline.base.errors import ConfigError
from pipeline.config.options import TrackingOptions
from pipeline.tracking.uri import sqlite_path, sqlite_uri, tracking_uri, ui_command, where_to_look


def options(uri: str | None = None, kind: str = "local") -> TrackingOptions:
    given = {"kind": kind, "uri": uri, "required": True, "experiment": "pipeline"}
    return TrackingOptions.model_validate({**given, "system_metrics": False})


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_tracking_option_overrides_environment_and_default(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    assert tracking_uri(options()) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://one:5000")
    assert tracking_uri(options()) == "http://one:5000"
    assert tracking_uri(options("http://two:5000")) == "http://two:5000"
    assert tracking_uri(options("sqlite:///a.db")) == f"sqlite:///{tmp_path}/a.db"


@pytest.mark.parametrize("name", ["a b", "100%", "中文", "a?b#c", "%20"])
def test_database_address_converts_back_to_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mlflow.db"
    assert sqlite_path(sqlite_uri(path)) == path


@pytest.mark.parametrize(
    ("uri", "kind", "line"),
    [
        ("file:./mlruns", "local", r"tracking.uri='.*mlruns' is a folder, .* expected http"),
        ("./mlruns", "local", r"tracking.uri='.*mlruns' is a folder, .* expected http"),
        ("sqlit:///x", "local", r"'sqlit:///x' has the unknown .* you mean 'sqlite'\?"),
        (None, "server", r"tracking=server needs tracking"),
    ],
)
def test_address_unusable_for_mlflow_is_refused(uri: str | None, kind: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        tracking_uri(options(uri, kind))


def test_default_location_needs_only_mlflow_ui(tmp_path: Path) -> None:
    """An old `mlruns` folder makes the full command necessary."""
    assert ui_command(tracking_uri(options())) == "mlflow ui"
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()
    expected = f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    assert ui_command(tracking_uri(options())) == expected


def test_ui_command_shows_no_password() -> None:
    assert "canary" not in " ".join(where_to_look("http://me:canary@host", "1"))
    assert "canary" not in ui_command("postgresql://me:canary@host/db")
