"""What a picture is, and the common style of all: colours, sizes, axes, names of any script."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, chop_cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# After Okabe and Ito, for colour-blind people; readable on a white and on a black background.
TRAIN = "#0072b2"
VALIDATION = "#d55e00"
NETWORK = "#009e73"
NAIVE = "#8a8a8a"
LINEAR = "#b8568f"
DEAD = "#d55e00"
SATURATED = "#b8568f"
#: Look of a line of training values and of one of validation values, in every picture.
PARTS = {
    "train": {"color": TRAIN, "linestyle": "-", "label": "training"},
    "val": {"color": VALIDATION, "linestyle": "--", "label": "validation"},
}
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#b8568f", "#c79100", "#3d9fd6")
#: Six colours with three line styles each distinguish 18 classes.
LINES = ("-", "--", ":")
#: Colour of what is there for comparison only.
QUIET = "#9a9a9a"
#: Opacity of a band behind lines, visible on a white and on a black background.
SHADE = 0.13
#: Colour map of shares from 0 to 1.
SHARES = "cividis"
#: Text on a coloured cell.
DARK = "#0b0b0b"
BRIGHT = "#fafafa"

#: Width of a figure in inches, at which text of ten points is readable on a phone.
WIDTH = 6.0
#: Height of a single set of axes in inches.
HEIGHT = 3.4
#: Ratio of the largest to the smallest value above which a loss or a learning rate has a log axis.
LOG_RATIO = 50.0
#: Most points of a line for which each has a marker.
FEW = 40
#: Longest name in columns; a Chinese character or an emoji takes two.
LONGEST = 24
_SELECTORS = {"\ufe0e", "\ufe0f"}  # variants of an emoji, which no font for drawing has


class NotDrawnError(Exception):
    """Raised if a picture can't be drawn; its message is shown in place of the picture."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that can be drawn.

    Args:
        name: Folder and file name without its ending, such as `curves/loss`.
        title: Title in a few words.
        alt: What the picture shows, with its numbers, in a sentence or two.
        draw: Draws the picture; raises NotDrawnError if that is not possible.
    """

    name: str
    title: str
    alt: str
    draw: "Callable[[], Figure]"


def panels(
    count: int = 1, columns: int = 1, *, height: float = HEIGHT, **options: Any
) -> "tuple[Figure, NDArray[Any]]":
    """Return a figure and its axes (rows, columns), each row `height` inches high.

    Axes after the first `count` are removed. `options` go to `pyplot.subplots`.
    """
    from matplotlib import pyplot

    rows = -(-count // columns)
    size = {"figsize": (WIDTH, height * rows), "squeeze": False, "layout": "constrained"}
    figure, axes = pyplot.subplots(rows, columns, **{**size, **options})
    for panel in axes.flat[count:]:
        panel.remove()
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(visible=True, alpha=0.3, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.title.set_fontsize(10)
    return figure, axes


def foreground() -> str:
    """Return the colour of text, also used for true values, means and totals."""
    import matplotlib as mpl

    return str(mpl.rcParams["text.color"])


def mark(points: int) -> str:
    """Return the marker of a line's points: none if there are many."""
    return "o" if points <= FEW else ""


def line_of(index: int) -> dict[str, str]:
    """Return the colour and line style of one of several classes or channels."""
    return {
        "color": CYCLE[index % len(CYCLE)],
        "linestyle": LINES[index // len(CYCLE) % len(LINES)],
    }


def below(figure: "Figure", *panels: "Axes", columns: int) -> None:
    """Put one legend of all labelled lines below the figure, with each label once."""
    lines: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        lines |= dict(zip(labels, handles, strict=True))
    if lines:
        look: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "fontsize": 9}
        figure.legend(lines.values(), lines.keys(), ncols=min(columns, len(lines)), **look)


def whole_numbers(axes: "Axes", *, most: int) -> None:
    """Put ticks at whole numbers along the x axis, at least one."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))


def epochs_across(axes: "Axes", epochs: Sequence[int]) -> None:
    """Set up the x axis to show epochs."""
    whole_numbers(axes, most=8)
    room = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - room, max(epochs) + room)
    axes.set_xlabel("epoch")


def log_scale_if_wide(axes: "Axes", values: NDArray[Any]) -> bool:
    """Make the y axis logarithmic if all values are above 0 and span more than `LOG_RATIO`.

    Returns:
        Whether the axis is logarithmic.
    """
    finite = values[np.isfinite(values)]
    is_wide = bool(len(finite) and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min())
    if is_wide:
        axes.set_yscale("log")
    return is_wide


def only_finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values as float64, with NaN in place of infinity."""
    return np.where(np.isfinite(values), np.asarray(values, dtype=np.float64), np.nan)


def panel_grid(
    title: str,
    shape: tuple[int, int],
    *,
    size: tuple[float, float],
    titles: Iterable[str] = (),
    rows: Iterable[str] = (),
    gap: float = 0.04,
    **options: Any,
) -> "tuple[Figure, NDArray[Any]]":
    """Return a figure with a grid of axes, (rows, columns).

    Args:
        title: Title of the figure.
        shape: Number of rows and columns.
        size: Width and height in inches.
        titles: Titles of the axes, row by row; there may be fewer titles.
        rows: Names to the left of the rows; there may be fewer names.
        gap: Gap around each of the axes in inches.
        options: Arguments of `pyplot.subplots`.
    """
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap)
    figure, grid = pyplot.subplots(*shape, figsize=size, squeeze=False, layout=layout, **options)
    figure.suptitle(title, fontsize=10)
    for axes, name in zip(grid.flat, titles, strict=False):
        axes.set_title(name, fontsize=8)
    for axes, name in zip(grid[:, 0], rows, strict=False):
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure, np.asarray(grid)


def add_scale(
    figure: "Figure", image: "AxesImage", axes: Any, *, below: bool = False, text: str = ""
) -> None:
    """Draw the colour scale of an image to the right of the axes that share it.

    With `below` it is horizontal and fills the axes. A scale around zero has pointed ends, since
    values may lie beyond. `text` says what the numbers are.
    """
    least, most = image.get_clim()
    signed = least < 0 < most
    extend: Literal["both", "neither"] = "both" if signed else "neither"
    position: dict[str, Any] = {"cax": axes, "orientation": "horizontal"}
    if not below:
        aspect = 30 if np.ndim(axes) == 2 and len(axes) > 1 else 14
        position = {"ax": axes, "fraction": 0.06, "pad": 0.015, "aspect": aspect}
    bar = figure.colorbar(image, extend=extend, **position)
    ticks = [least, 0.0 if signed else (least + most) / 2, most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_visible(False)
    if text:
        bar.set_label(text, fontsize=8)


def heat_maps(
    panels: Iterable["Axes"],
    images: Iterable[NDArray[Any]],
    ends: tuple[float, float],
    colours: str,
    **options: Any,
) -> "AxesImage":
    """Draw an image (rows, columns) in each of the axes, all on one scale, and return the last one.

    The axes are filled, unless `options`, which go to `imshow`, have another aspect. Values beyond
    the ends of the scale have the colours of the ends.
    """
    low, high = ends
    look = {"cmap": colours, "vmin": low, "vmax": high, "aspect": "auto", **options}
    for axes, values in zip(panels, images, strict=False):
        image = axes.imshow(values, **look)
    return image


def limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest of all finite values, never equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low = float(finite.min())
    high = float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def around_zero(values: NDArray[Any]) -> tuple[float, float]:
    """Return the ends of a scale around zero; the largest 1 % of the values may lie beyond."""
    finite = np.abs(values[np.isfinite(values)])
    if not finite.any():
        return -1.0, 1.0
    high = float(np.quantile(finite, 0.99) or finite.max())
    return -high, high


def short(name: str, most: int = LONGEST) -> str:
    """Return a name on one line, cut in its middle if it is longer than `most` columns."""
    text = ""
    for character in " ".join(name.split()):
        is_control = unicodedata.category(character).startswith("C")
        if not is_control and character not in _SELECTORS:
            text += character
    if not text:
        return "''"
    if cell_len(text) <= most:
        return text
    tail = chop_cells(text[::-1], (most - 1) // 2)[0][::-1]
    head = chop_cells(text, most - 1 - cell_len(tail))[0]
    return f"{head}…{tail}"


def label(name: str, most: int = LONGEST) -> str:
    """Return a name for Matplotlib: `$` starts no formula, `_` hides no legend entry."""
    text = short(name, most).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def layer_name(name: str, most: int = 28) -> str:
    """Return the name of a layer without the common prefix `layers.`."""
    return short(name.removeprefix("layers."), most)
