import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_pages import Pages
from real_browser import browser, mlflow_ui
from trained_runs import Trained, train_all

SHOTS = "PIPELINE_SCREENSHOTS"
"""Names a folder that keeps the pictures of all pages."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A CNN, a study, and a table whose classes have nasty names."""
    folder = tmp_path_factory.mktemp("browser")
    train_all(folder)
    return Trained(folder)


@pytest.fixture(scope="module")
def pages(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """MLflow's pages of what was trained, in a browser."""
    shots = [tmp_path_factory.mktemp("screenshots")]
    if os.environ.get(SHOTS):
        shots.append(Path(os.environ[SHOTS]).absolute())
    profile = tmp_path_factory.mktemp("profile")
    with mlflow_ui(trained.folder) as address, browser(profile) as driver:
        yield Pages(driver, address, shots)
