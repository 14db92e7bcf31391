"""Databases of studies and of MLflow, and a study in them."""

from pathlib import Path

import pytest
from study.ledgers import database, open_ledger
from study.recorded_trials import STUDY, database_in

from pipeline.study.ledger.ledger import Ledger
from pipeline.tracking.ownership import adopt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty `optuna.db` in a folder of its own."""
    return database(tmp_path)


@pytest.fixture
def uri(own_folder: Path, empty_database: Path) -> str:
    """The address of `mlflow.db` in the current folder."""
    return database_in(own_folder, empty_database)


@pytest.fixture
def ledger(own_folder: Path) -> Ledger:
    """A study in `optuna.db` in the current folder, with a folder that is the user's own."""
    study = Path("runs", STUDY)
    study.mkdir(parents=True)
    adopt(study)
    return open_ledger(own_folder / "optuna.db", name=STUDY, n_trials=10)
