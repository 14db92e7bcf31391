"""How all pictures of a run look: colours, sizes, and what every set of axes has."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# After Okabe and Ito, told apart by colour-blind people; dark enough for a white ground and bright
# enough for a black one.
TRAIN, VALIDATION = "#0072b2", "#d55e00"
NETWORK, NAIVE, LINEAR = "#009e73", "#8a8a8a", "#b8568f"
DEAD, SATURATED = "#d55e00", "#b8568f"
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#b8568f", "#c79100", "#3d9fd6")
LINES = ("-", "--", ":")
"""Eighteen classes are told apart: six colours, each with three kinds of line."""
QUIET = "#9a9a9a"
"""What is there for comparison alone."""
SHADE = 0.13
"""Opacity of a band behind lines, seen on a white and on a black ground."""
SHARES = "cividis"
"""Colours of shares from 0 to 1."""
DARK, BRIGHT = "#0b0b0b", "#fafafa"
"""Of text on a coloured cell. They are not quite black and white, which a page may change."""

WIDTH = 6.0
"""Inches. At this width text of ten points is still read on a phone."""
HEIGHT = 3.4
"""Inches of a single set of axes."""
FEW = 40
"""Points up to which each has a mark of its own."""


def panels(
    rows: int = 1, columns: int = 1, *, height: float = HEIGHT, **more: Any
) -> "tuple[Figure, NDArray[Any]]":
    """Return a figure and its axes (rows, columns).

    Args:
        rows: Of axes.
        columns: Of axes.
        height: Inches of a row.
        more: Goes to `pyplot.subplots`.
    """
    from matplotlib import pyplot

    size = {"figsize": (WIDTH, height * rows), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(rows, columns, **{**size, **more})
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(visible=True, alpha=0.3, linewidth=0.6)
        one.set_axisbelow(True)
        one.title.set_fontsize(10)
    return figure, axes


def foreground() -> str:
    """Return the colour of text: that of what is true, of means and of totals."""
    import matplotlib as mpl

    return str(mpl.rcParams["text.color"])


def mark(points: int) -> str:
    """Return the mark of a line's points: none where they are many."""
    return "o" if points <= FEW else ""


def line_of(index: int) -> dict[str, str]:
    """Return colour and kind of line of one of several classes or channels."""
    return {
        "color": CYCLE[index % len(CYCLE)],
        "linestyle": LINES[index // len(CYCLE) % len(LINES)],
    }


def below(figure: "Figure", axes: "Axes", *, columns: int) -> None:
    """Put the legend of axes below the figure, where it hides nothing; none where all is clear."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(columns, len(handles)),
            frameon=False,
            fontsize=9,
        )


def whole_numbers(axes: "Axes", *, most: int) -> None:
    """Count in whole numbers along an axis, a single one among them."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))


def epochs_across(axes: "Axes", epochs: Sequence[int]) -> None:
    """Let the epochs lie across, all of them inside."""
    whole_numbers(axes, most=8)
    room = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - room, max(epochs) + room)
    axes.set_xlabel("epoch")


def spans_decades(values: NDArray[Any], *, ratio: float) -> bool:
    """Tell whether finite values are all positive and the largest is `ratio` times the smallest."""
    finite = values[np.isfinite(values)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > ratio * finite.min())


def only_finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values with a gap, NaN, where one is infinite."""
    numbers: NDArray[np.float64] = np.asarray(values, dtype=np.float64).copy()
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers
