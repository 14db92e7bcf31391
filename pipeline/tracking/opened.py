"""A store as a command opens it: what is wrong with it ends the command with one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.config.options import TrackingOptions
from pipeline.tracking.faults import StoreError, as_error
from pipeline.tracking.quiet import quiet_mlflow
from pipeline.tracking.uri import tracking_uri

if TYPE_CHECKING:
    from pipeline.tracking.store import Store
    from pipeline.tracking.sync import StoreInForce


@contextmanager
def opened_store(options: TrackingOptions) -> "Iterator[Store]":
    """Open the store that the options name; MLflow is imported now.

    Raises:
        EnvironmentFaultError: A call to it fails.
        ConfigError: It is no database.
    """
    with opened_store_at(tracking_uri(options)) as store:
        yield store


@contextmanager
def opened_store_at(uri: str) -> "Iterator[Store]":
    """Open the store at an absolute address; MLflow is imported now.

    Raises:
        EnvironmentFaultError: A call to it fails.
        ConfigError: It is no database.
    """
    quiet_mlflow()
    from pipeline.tracking.store import Store

    with _told_faults():
        yield Store(uri)


@contextmanager
def opened_for_records(options: TrackingOptions) -> "Iterator[StoreInForce]":
    """Give the store that the options name, for the runs that are recorded there."""
    uri = tracking_uri(options)
    quiet_mlflow()
    from pipeline.tracking.sync import StoreInForce

    with _told_faults():
        yield StoreInForce(uri)


@contextmanager
def _told_faults() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise as_error(error.kind, error.line) from error
