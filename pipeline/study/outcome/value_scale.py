"""The places of a key's values along an axis of a study's pictures: numbers, words and `off`."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pipeline.pictures import style
from pipeline.pictures.style import label
from pipeline.study.outcome.summary import OFF

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Ratio of the largest to the smallest number above which numbers have a log scale.
LOG_RATIO = 10.0
#: Where numbers lie between 0 and 1: the place of `off`, and the ends of its band.
OFF_PLACE = -0.24
OFF_BAND = (-0.34, -0.14)
#: Free space beyond the ends.
MARGIN = 0.07
#: Least distance between two ticks.
TICK_DISTANCE = 0.12
#: Letters of all ticks of a horizontal axis above which they are turned.
MOST_TICK_LETTERS = 26
#: Most values that are ticks themselves, and most letters of each.
MOST_EXACT_TICKS = 5
MOST_EXACT_LETTERS = 5


class ValueScale:
    """Places of the values of one key along an axis: from 0 to 1, and `off` below these.

    Numbers have a linear or a log scale; words are evenly spaced.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        unique_texts = list(dict.fromkeys(texts))
        self.has_off = "null" in unique_texts
        if self.has_off:
            unique_texts.remove("null")
        self._numbers: dict[str, float] = {}
        for text in unique_texts:
            number = _number(text)
            if number is not None:
                self._numbers[text] = number
        is_numeric = len(self._numbers) == len(unique_texts) > 0
        if not is_numeric:
            unique_texts.sort(key=_numbers_in)
            self._numbers = {text: float(index) for index, text in enumerate(unique_texts)}
        values = sorted({*self._numbers.values()}) or [0.0]
        self._is_log = values[0] > 0 and values[-1] >= LOG_RATIO * values[0]
        self._low = self._on_axis(values[0])
        self._high = self._on_axis(values[-1])
        self._ticks: list[tuple[str, float]] = []
        if is_numeric:
            for value in self._tick_values(values):
                self._ticks.append((_tick_name(value), self._place(value)))
        else:
            for text in self._numbers:
                self._ticks.append((label(text, 14), self(text)))

    def __call__(self, text: str) -> float:
        """Return the place of a value."""
        return OFF_PLACE if text == "null" else self._place(self._numbers[text])

    @property
    def start(self) -> float:
        """Where the axis starts: below the band of `off`, if there is one."""
        return OFF_BAND[0] if self.has_off else -MARGIN

    def _place(self, value: float) -> float:
        if self._high <= self._low:
            return 0.5
        return (self._on_axis(value) - self._low) / (self._high - self._low)

    def _on_axis(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def _tick_values(self, values: Sequence[float]) -> Sequence[float]:
        """Return round numbers between many or long values, and few short values themselves."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        low = values[0]
        high = values[-1]
        longest = max(len(f"{value:g}") for value in values)
        if len(values) <= MOST_EXACT_TICKS and longest <= MOST_EXACT_LETTERS:
            return values
        are_whole = all(value.is_integer() for value in values)
        for digits in ((1.0,), (1.0, 2.0, 5.0)):
            locator = LogLocator(subs=digits) if self._is_log else MaxNLocator(4, integer=are_whole)
            ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
            if len(ticks) > 1:
                return ticks
        return values

    def ticks(self, distance: float) -> tuple[Sequence[float], Sequence[str]]:
        """Return places and names of ticks that are at least `distance` apart."""
        names = {OFF_PLACE: OFF} if self.has_off else {}
        for name, place in self._ticks:
            if place - max(names, default=-1.0) >= distance:
                names[place] = name
        return list(names), list(names.values())

    def show(self, axes: "Axes", axis: Literal["x", "y"], distance: float = TICK_DISTANCE) -> None:
        """Put the ticks on an axis, at least `distance` apart, and shade the band of `off`."""
        places, names = self.ticks(distance)
        getattr(axes, f"set_{axis}ticks")(places, names, fontsize=8)
        getattr(axes, f"set_{axis}lim")(self.start, 1 + MARGIN)
        if self.has_off:
            shade = axes.axvspan if axis == "x" else axes.axhspan
            shade(*OFF_BAND, color=style.QUIET, alpha=style.SHADE, linewidth=0)
        if axis == "x" and sum(map(len, names)) > MOST_TICK_LETTERS:
            axes.tick_params(axis="x", rotation=30)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _numbers_in(text: str) -> list[int]:
    """Return the numbers in a text, so that [8] is sorted before [32,16]."""
    return list(map(int, re.findall(r"\d+", text)))


def _tick_name(value: float) -> str:
    is_short = value.is_integer() and abs(value) < 1e7
    return f"{value:.0f}" if is_short else f"{value:.4g}"
