"""A database with MLflow's tables and nothing in them; making one takes seconds."""

import os
from pathlib import Path

from pipeline.tracking.uri import sqlite_uri


def make_database(path: Path) -> None:
    """Make it, in an environment that stays as it was."""
    from pipeline.tracking.uri import quiet_mlflow

    before = dict(os.environ)
    try:
        quiet_mlflow()
        from pipeline.tracking.store import Store

        Store(sqlite_uri(path))
    finally:
        os.environ.clear()
        os.environ.update(before)
