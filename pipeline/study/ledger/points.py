"""What a ledger needs of a space."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Varies(Protocol):
    """One parameter of a space."""

    @property
    def key(self) -> str:
        """Config key or group."""

    @property
    def when(self) -> object | None:
        """What must hold for it to be varied."""

    @property
    def off(self) -> bool:
        """Whether it may be off."""


class Points(Protocol):
    """A space of points; `Space` is one."""

    @property
    def parameters(self) -> Sequence[Varies]:
        """What is varied."""

    def suggest(self, trial: Any) -> dict[str, str]:
        """Ask Optuna's trial for a point and return it as Hydra's texts."""

    def overrides(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return a point of Optuna's as Hydra's texts."""

    def params(self, point: Mapping[str, object], *, place: str = ...) -> dict[str, object]:
        """Return values by config key as a point of Optuna's."""

    def points(self) -> list[dict[str, object]]:
        """Return every point of a grid."""

    def plain(self) -> dict[str, object]:
        """Return the space as JSON can hold it."""

    def differences(self, stored: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return lines for what has changed, and for kinds that have."""
