"""What a ledger needs of a database, be it a file or on a server."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

Result = TypeVar("Result")
Lock = AbstractContextManager[object]


def as_template(url: str) -> str:
    """Return an address as Optuna's storage takes it: a template, where braces are doubled."""
    return url.replace("{", "{{").replace("}", "}}")


class Store(ABC):
    """An open database of studies.

    Args:
        storage: Optuna's door to it, which remembers trials that have ended.
        url: Its address.
    """

    def __init__(self, storage: "BaseStorage", url: str) -> None:
        self.storage = storage
        self.url = url

    @abstractmethod
    def work(self, call: Callable[[], Result]) -> Result:
        """Return what a call that uses the storage returns; it fails with one line for people.

        On a server the call is one transaction, and is repeated where the server cut it short
        without a word on whether it was written: so the call first looks whether it was.

        Raises:
            EnvironmentFaultError: The database is locked, gone, replaced, full or down.
            ConfigError: Its file is no database any more.
        """

    @abstractmethod
    def lock(self, study: str) -> Lock:
        """Return what lets one process at a time take, end or give up trials of a study.

        It is to be entered within `work`, where it may be entered again.
        """

    @abstractmethod
    def require_writable(self) -> None:
        """Wait for whoever writes, where Optuna would wait much longer."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
