"""Sets up MLflow, before its import, so that an outage costs seconds and nothing is sent home."""

import os
from collections.abc import MutableMapping

REQUEST_SECONDS = 5
"""Longest wait for one answer of a tracking server, unless the user's environment says another."""


def quiet_mlflow(environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound MLflow's calls: by default one that fails is tried for four minutes."""
    environment.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # a journal is sent again anyway
    environment["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "0"
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    environment["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"
    environment["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"  # leaves no half-closed database
    environment.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its lines are not ours to show
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    environment["MLFLOW_UV_AUTO_DETECT"] = "false"  # a model takes no file of the current folder
    environment["GIT_PYTHON_REFRESH"] = "quiet"
