"""An empty database of studies."""

from pathlib import Path

import pytest
from ledgers import database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty `optuna.db` in a folder of its own."""
    return database(tmp_path)
