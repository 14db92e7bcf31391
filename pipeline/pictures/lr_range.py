"""The curve of a range test: the loss over the learning rate, the suggested rate marked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
BLUE, ORANGE = "#0072b2", "#d55e00"
"""Okabe and Ito's, which the colour-blind tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The rates worth a mark; `None` = there is no such rate.

    Args:
        suggestion: The rate that is suggested.
        steepest: Where the smoothed loss falls fastest.
        lowest: Where it is lowest.
        blown_up: From where on it is worse than at the start, or no number.
    """

    suggestion: float | None
    steepest: float | None
    lowest: float | None
    blown_up: float | None


def lr_range(rates: Floats, losses: Floats, smoothed: Floats, marks: Marks) -> "Figure":
    """Draw the losses over the rates, on a logarithmic axis.

    Args:
        rates: Learning rate of each step, (steps,); it may be empty.
        losses: Loss of each step's batch, (steps,).
        smoothed: The same, smoothed, (steps,), or empty.
        marks: The rates to mark.
    """
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    axes.set_xscale("log")
    axes.set_xlabel("optimizer.lr (learning rate of the step)")
    axes.set_ylabel("train/loss")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.scatter(rates, losses, s=12, c="0.6", label="loss of a batch", zorder=2)
    if len(smoothed):
        axes.plot(rates, smoothed, color=BLUE, lw=2, label="smoothed", zorder=3)
        _limit(axes, losses, smoothed)
    if marks.suggestion is not None:
        _mark(axes, rates, smoothed, marks)
    if not len(rates):
        axes.text(0.5, 0.5, "no loss is a number", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    elif marks.blown_up is not None:
        end = 1.5 * max([marks.blown_up, *rates[-1:].tolist()])
        label = f"blows up at {marks.blown_up:.3g}"
        axes.axvspan(marks.blown_up, end, color="0.9", zorder=0, label=label)
        axes.set_xlim(right=end)
    axes.set_title(_title(marks.suggestion), loc="left")
    axes.legend(framealpha=0.9)
    return figure


def _title(suggestion: float | None) -> str:
    return (
        "no rate is suggested" if suggestion is None else f"suggested: optimizer.lr={suggestion:g}"
    )


def _mark(axes: "Axes", rates: Floats, smoothed: Floats, marks: Marks) -> None:
    for rate, marker, words in (
        (marks.steepest, "v", "falls fastest"),
        (marks.suggestion, "o", "suggested"),
        (marks.lowest, "s", "lowest"),
    ):
        assert rate is not None
        height = float(np.interp(np.log(rate), np.log(rates), smoothed))
        colour, size = (ORANGE, 10) if marker == "o" else (BLUE, 7)
        look = {"marker": marker, "color": colour, "mec": "white", "ls": "", "zorder": 4}
        axes.plot([rate], [height], ms=size, label=f"{words}: {rate:.2g}", **look)  # type: ignore[arg-type] # of many kinds
        if marker == "o":
            axes.axvline(rate, color=colour, lw=1.2, ls="--", zorder=2)


def _limit(axes: "Axes", losses: Floats, smoothed: Floats) -> None:
    """Leave out of sight what lies far above the start: beyond it nothing is to be learned."""
    low, start = float(smoothed.min()), float(smoothed[0])
    noise = float((losses - smoothed)[: max(3, len(losses) // 10)].std())
    height = max(start - low, 6 * noise)
    if height > 0:
        axes.set_ylim(low - 0.4 * height, start + 0.6 * height)
