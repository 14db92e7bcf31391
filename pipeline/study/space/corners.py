"""Few points of a space in which each end of a range and each choice occurs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from pipeline.study.space.space import Space

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

MOST = 20
"""Points of one space; a list of choices that is longer is not tried to its end."""

Value = TypeVar("Value")


def corners(space: Space) -> list[dict[str, str]]:
    """Return points as Hydra's texts by key or group, so that each end and choice is in one.

    Args:
        space: The space; ranges that depend on others are asked for where they hold.
    """
    answers = Answers()
    points: list[dict[str, str]] = []
    while (not points or answers.are_left()) and len(points) < MOST:
        points.append(space.suggest(cast("BaseTrial", answers)))
    return points


class Answers:
    """Stands in for a trial of Optuna's; each answer is the next end or choice of its range."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._there_are: dict[str, int] = {}

    def are_left(self) -> bool:
        """Tell whether a range that was asked for has an end or a choice that was not given."""
        return any(self._given[name] < count for name, count in self._there_are.items())

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Give the next choice."""
        return self._next(name, choices)

    def suggest_int(self, name: str, low: int, high: int, **_: object) -> int:
        """Give the lower end, then the upper one."""
        return self._next(name, (low, high))

    def suggest_float(self, name: str, low: float, high: float, **_: object) -> float:
        """Give the lower end, then the upper one."""
        return self._next(name, (low, high))

    def _next(self, name: str, values: Sequence[Value]) -> Value:
        number = self._given.get(name, 0)
        self._given[name], self._there_are[name] = number + 1, len(values)
        return values[number % len(values)]
