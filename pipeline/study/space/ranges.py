"""A range of values: what it holds, how many values it has, how it is written."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Literal

from pipeline.study.space.texts import text_of

Kind = Literal["float", "int", "choice"]
Number = int | float
OFF = "null"
"""What a parameter is given where it is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The values that a parameter may take.

    Args:
        kind: Numbers between two ends, whole or not, or one of several texts.
        low: Least number.
        high: Greatest number, itself included.
        step: Distance between numbers; `None` = any number, or any whole one.
        log: Powers are as likely as each other, not values.
        choices: Hydra's texts; of a number, none.
        off: Null is a value too, beside the numbers.
    """

    kind: Kind
    low: Number = 0
    high: Number = 0
    step: Number | None = None
    log: bool = False
    choices: tuple[str, ...] = ()
    off: bool = False

    def count(self) -> int | None:
        """Return how many values there are; `None` = any number between the ends."""
        if self.kind == "choice":
            return len(self.choices)
        step = 1 if self.kind == "int" and self.step is None else self.step
        if step is None:
            return None
        return int((exact(self.high) - exact(self.low)) / exact(step)) + 1 + self.off

    def texts(self) -> Iterator[str]:
        """Yield every value, in order.

        Raises:
            ValueError: There are infinitely many.
        """
        count = self.count()
        if count is None:
            raise ValueError("a continuous range can't be counted")
        if self.kind == "choice":
            yield from self.choices
            return
        if self.off:
            yield OFF
        for index in range(count - self.off):
            yield self._text_at(index)

    def text(self, number: Number) -> str:
        """Return a number of this range as Hydra's text, on the step where there is one."""
        if self.kind == "int":
            return str(int(number))
        if self.step is not None:
            return self._text_at(round((number - self.low) / self.step))
        return repr(float(number))

    def _text_at(self, index: int) -> str:
        number = exact(self.low) + index * exact(self.step or 1)
        return str(int(number)) if self.kind == "int" else repr(float(number))

    def holds(self, value: object) -> bool:
        """Say whether a value, as it stands in a config, lies within."""
        if self.kind == "choice":
            return text_of(value) in self.choices
        if value is None:
            return self.off
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return False
        if self.kind == "int" and not isinstance(value, int):
            return False
        return self.low <= value <= self.high and self._on_step(value)

    def _on_step(self, value: Number) -> bool:
        if self.step is None:
            return True
        return bool((exact(value) - exact(self.low)) % exact(self.step) == 0)

    def __str__(self) -> str:
        if self.kind == "choice":
            values = ", ".join(self.choices)
            return values if OFF in self.choices else f"choice({values})"
        text = self._interval() if self.step is None else self._steps(self.step)
        tags = [tag for tag in ("off", "log") if getattr(self, tag)]
        return f"tag({', '.join([*tags, text])})" if tags else text

    def _interval(self) -> str:
        text = f"interval({shown_number(self.low)}, {shown_number(self.high)})"
        return f"int({text})" if self.kind == "int" else text

    def _steps(self, step: Number) -> str:
        stop = exact(self.high) + exact(step)
        if self.kind == "float":
            return f"range({self.low!r}, {float(stop)!r}, {step!r})"
        return f"range({self.low}, {stop}{'' if step == 1 else f', {step}'})"


def shown_number(number: Number) -> str:
    """Return a number as a person writes it: 10, 0.1, 1e-05."""
    return repr(number).removesuffix(".0")


def exact(number: Number) -> Decimal:
    """Return a number as it is written in decimals, without the rest that binary leaves."""
    return Decimal(repr(number))
