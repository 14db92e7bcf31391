"""The map of learning rate and clipping threshold, with a band of its own for no clipping."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.wording import OFF
from pipeline.study.trial_end import RETRIED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

LR = "optimizer.lr"
CLIP = "trainer.gradient_clip_val"
ALGORITHM = "trainer.gradient_clip_algorithm"
GOLDEN = 0.618034
"""Multiples of it fill a band evenly, so that trials do not lie on each other."""

UNITS = {"norm": "largest norm of all gradients", "value": "largest size of each gradient"}
ENDS: dict[str, dict[str, Any]] = {
    "pruned": {"marker": "o", "facecolors": "none", "edgecolors": "0.6"},
    "diverged": {"marker": "x", "color": "tab:orange"},
    "failed": {"marker": "+", "color": "0.35"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A trial on the map; `clip` is `None` where the gradients were left alone."""

    number: int
    lr: float
    clip: float | None
    algorithm: str
    end: str
    value: float | None


def has_map(rows: Sequence[Row]) -> bool:
    """Tell whether a complete trial varies both the learning rate and the clipping."""
    return any(
        row.state == "complete" and LR in row.overrides and CLIP in row.overrides for row in rows
    )


def clip_map(rows: Sequence[Row], *, objective: str, minimise: bool, algorithm: str) -> "Figure":
    """Draw each trial at its learning rate and threshold, coloured by what it came to.

    Args:
        rows: The trials; `has_map` holds for them.
        objective: Name of the value.
        minimise: Less of it is better.
        algorithm: `norm` or `value`: that of trials that do not vary it; a panel each.
    """
    from matplotlib import pyplot
    from matplotlib.colors import Normalize

    points = [point for row in rows if (point := _point(row, algorithm)) is not None]
    values = [point.value for point in points if point.value is not None]
    panels = sorted({point.algorithm for point in points})
    norm = Normalize(min(values), max(values))
    figure = pyplot.figure(figsize=(1.2 + 5.2 * len(panels), 5.4), layout="constrained")
    grid = figure.add_gridspec(2, len(panels), height_ratios=(1.2, 7), hspace=0.02)
    best = _best(points, minimise=minimise)
    axes: list[Axes] = []
    for column, name in enumerate(panels):
        band = figure.add_subplot(grid[0, column], sharex=axes[0] if axes else None)
        field = figure.add_subplot(grid[1, column], sharex=band)
        own = [point for point in points if point.algorithm == name]
        _draw_panel(band, field, own, norm=norm, best=best, minimise=minimise)
        band.set_title(f"clipping by {name}")
        field.set_ylabel(f"{CLIP}\n({UNITS.get(name, name)})")
        axes += [band, field]
    _finish(figure, axes, norm, objective, minimise=minimise)
    return figure


def _point(row: Row, algorithm: str) -> _Point | None:
    lr, clip = row.overrides.get(LR), row.overrides.get(CLIP)
    end = "diverged" if row.reason == "diverged" else str(row.state)
    if lr is None or clip is None or end not in ("complete", *ENDS) or row.reason in RETRIED:
        return None
    return _Point(
        number=row.number,
        lr=float(lr),
        clip=None if clip == "null" else float(clip),
        algorithm=row.overrides.get(ALGORITHM, algorithm),
        end=end,
        value=row.values[0] if end == "complete" else None,
    )


def _best(points: Sequence[_Point], *, minimise: bool) -> _Point:
    found = [(point.value, point) for point in points if point.value is not None]
    return (min if minimise else max)(found, key=lambda pair: pair[0])[1]


def _draw_panel(
    band: "Axes",
    field: "Axes",
    points: Sequence[_Point],
    *,
    norm: "Normalize",
    best: _Point,
    minimise: bool,
) -> None:
    field.set_xscale("log")
    field.set_yscale("log")
    field.set_xlabel(f"{LR} (learning rate)")
    field.grid(visible=True, which="major", alpha=0.3)
    band.set_ylim(-1.2, 1.2)
    band.set_yticks([0], [OFF])
    band.tick_params(labelbottom=False)
    band.set_facecolor("0.96")
    for axes, held in (
        (field, [point for point in points if point.clip is not None]),
        (band, [point for point in points if point.clip is None]),
    ):
        _draw_points(axes, held, norm=norm, minimise=minimise)
        if best in held:
            axes.scatter(
                best.lr, _height(best), s=230, marker="*", c="none", edgecolors="red", zorder=4
            )


def _draw_points(
    axes: "Axes", points: Sequence[_Point], *, norm: "Normalize", minimise: bool
) -> None:
    for end, look in ENDS.items():
        ended = [point for point in points if point.end == end]
        lr, heights = _places(ended)
        axes.scatter(lr, heights, s=34, linewidths=1.2, zorder=2, **look)
    complete = [point for point in points if point.value is not None]
    lr, heights = _places(complete)
    axes.scatter(
        lr,
        heights,
        c=[point.value for point in complete if point.value is not None],
        norm=norm,
        cmap=_colours(minimise=minimise),
        s=46,
        edgecolors="0.25",
        linewidths=0.5,
        zorder=3,
    )


def _places(points: Sequence[_Point]) -> tuple[list[float], list[float]]:
    return [point.lr for point in points], [_height(point) for point in points]


def _height(point: _Point) -> float:
    """Return the threshold; in the band a place of its own."""
    if point.clip is not None:
        return point.clip
    return 1.2 * ((point.number * GOLDEN) % 1 - 0.5)


def _colours(*, minimise: bool) -> str:
    return "viridis_r" if minimise else "viridis"


def _finish(
    figure: "Figure", axes: Sequence["Axes"], norm: "Normalize", objective: str, *, minimise: bool
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    coloured = ScalarMappable(norm=norm, cmap=_colours(minimise=minimise))
    figure.colorbar(coloured, ax=list(axes), label=objective)
    entries = [
        Line2D([], [], ls="", marker="*", mfc="none", mec="red", ms=14, label="best"),
        Line2D([], [], ls="", marker="o", mfc="none", mec="0.6", label="pruned"),
        Line2D([], [], ls="", marker="x", color="tab:orange", label="diverged"),
        Line2D([], [], ls="", marker="+", color="0.35", label="failed"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)
