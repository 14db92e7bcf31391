"""A space in which nothing varies, for those who only read a study."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.study.ledger.points import Varies


class Unvaried:
    """Has one point, which says nothing."""

    @property
    def parameters(self) -> Sequence[Varies]:
        """Nothing is varied."""
        return ()

    def suggest(self, trial: Any) -> dict[str, str]:
        """Ask for nothing."""
        del trial
        return {}

    def overrides(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return no text for any point."""
        del params
        return {}

    def params(self, point: Mapping[str, object], *, place: str = "") -> dict[str, object]:
        """Return the one point."""
        del point, place
        return {}

    def points(self) -> list[dict[str, object]]:
        """Return the one point."""
        return [{}]

    def plain(self) -> dict[str, object]:
        """Return an empty space."""
        return {}

    def differences(self, stored: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Find no difference from any other space."""
        del stored
        return [], []
