"""Pictures of a study: its trials, its parameters, learning rate and clipping."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.ends import End
from pipeline.gallery import drawing, write
from pipeline.pictures import style
from pipeline.pictures.style import NotDrawnError, Picture, label
from pipeline.study.ledger.rows import Row, pareto
from pipeline.study.outcome.summary import (
    FRONT,
    OFF,
    PICTURES,
    StudySummary,
    point_words,
    short_names,
    swept_keys,
    value_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from pipeline.study.ledger.rows import Importances

#: Heights of a bar and a slice, and width of a parallel axis, in inches.
BAR, SLICE, PER_AXIS = 0.36, 2.4, 1.3
#: Slices beside each other.
COLUMNS = 3
#: Ratio of the largest to the smallest number above which a parameter has a log scale.
LOG_RATIO = 10.0
#: Where numbers lie between 0 and 1: the place of `off`, and the ends of its band.
OFF_PLACE, BAND = -0.24, (-0.34, -0.14)
#: Least distance between two ticks, and between those across a third of a figure.
CLOSE, NARROW = 0.12, 0.22
#: Free space beyond the ends, and letters of ticks above which they are turned.
MARGIN, LONG = 0.07, 26
#: Most names or trials in a caption, and most values, and letters of each, that are ticks.
MOST_TOLD = 5
LR = "optimizer.lr"
CLIP = "trainer.gradient_clip_val"
ALGORITHM = "trainer.gradient_clip_algorithm"
#: Multiples of it modulo 1 fill a band evenly, so that trials do not cover each other.
GOLDEN = 0.618034
UNITS = {"norm": "norm of all gradients", "value": "size of each gradient"}
#: Looks of trials that have not completed.
LOOKS: dict[End, dict[str, Any]] = {
    End.PRUNED: {"marker": "o", "facecolors": "none", "edgecolors": style.QUIET},
    End.DIVERGED: {"marker": "x", "color": style.DEAD},
    End.ERROR: {"marker": "+", "color": style.SATURATED},
}


def load(*, importances: bool) -> None:
    """Import what draws pictures and, if wanted, what finds importances, a second."""
    with drawing():
        pass
    if importances:
        import optuna.importance  # noqa: F401


def write_study_pictures(
    summary: StudySummary, folder: Path, *, clip_algorithm: str = "norm"
) -> Iterator[list[str]]:
    """Write the pictures of a study as PNG, one at each step; yield notes on what is missing.

    `clip_algorithm` (`norm` or `value`) is the clipping algorithm of trials that do not vary it.
    """
    pictures = list(study_pictures(summary, clip_algorithm))
    if not pictures:
        yield ["no pictures: no trial has completed"]
    told: list[str] = []
    for picture in pictures:
        with drawing(study_names(summary)) as letters:
            reason = write(picture, folder)
        notes = [*letters, f"no picture {picture.name}: {reason}"] if reason else letters
        yield [note for note in notes if note not in told]
        told += notes


def study_names(summary: StudySummary) -> Iterator[str]:
    """Yield all names and values that occur in the pictures of a study."""
    yield from summary.objectives
    for row in summary.rows:
        yield from (*row.params, *row.overrides, *row.overrides.values())


def study_pictures(summary: StudySummary, clip_algorithm: str) -> Iterator[Picture]:
    """Yield the pictures of a study, not drawn yet; none if no trial has completed.

    They are `history`, `importances` if known, `slices` (with two objectives also `history_2`, …),
    `parallel_coordinates`, `pareto_front` with two objectives, and `lr_clip_map` if learning rate
    and clipping threshold are varied.
    """
    if summary.best_row is None:  # no trial is complete with finite values
        return
    objectives = [_Objective.of(summary, index) for index in range(len(summary.objectives))]
    for index, one in enumerate(objectives):
        after, of = ("_2" if index else ""), (f": {one.name}" if len(objectives) == 2 else "")
        found = summary.importances[index]
        for name, words, draw in (
            ("history", one.course(summary.rows), partial(_history, summary.rows, one)),
            ("importances", _importance_words(found, one), partial(_importances, found)),
            ("slices", f"{one.name} over each parameter. {one.best_words}", partial(_slices, one)),
        ):
            if name != "importances" or found.shares:
                yield Picture(f"{name}{after}", f"{PICTURES[f'{name}.png']}{of}", words, draw)
    first = objectives[0]
    told = f"Each line is a completed trial; lines of trials with a better {first.name} are darker."
    plots = {"parallel_coordinates": (f"{told} {first.best_words}", partial(_parallel, first))}
    if len(objectives) == 2:
        front = pareto(summary.rows, summary.directions)
        places = [f"trial {row.number} ({summary.values_of(row)})" for row in front[:MOST_TOLD]]
        told = f"On the front, where {FRONT}: {'; '.join(places)}."
        plots["pareto_front"] = told, partial(_pareto, objectives, front)
    placed = [row for row in summary.rows if {LR, CLIP} <= {*row.overrides} and _end(row)]
    if any(row.values for row in placed):
        told = f"Dots are completed trials, coloured by {first.name}. {OFF} = no clipping."
        draw = partial(_map, placed, first, clip_algorithm)
        plots["lr_clip_map"] = f"{told} {first.best_words}", draw
    for name, (words, draw) in plots.items():
        yield Picture(name, PICTURES[f"{name}.png"], words, draw)


@dataclass(frozen=True, slots=True)
class _Objective:
    """One objective of a study, and the completed trials with their values of it, (trials,)."""

    name: str
    minimises: bool
    rows: Sequence[Row]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, summary: StudySummary, index: int) -> "_Objective":
        rows = [one for one in summary.rows if one.values and all(map(math.isfinite, one.values))]
        values = np.array([row.values[index] for row in rows])
        return cls(summary.objectives[index], summary.directions[index] == "min", rows, values)

    @property
    def order(self) -> NDArray[np.intp]:
        """Indices of the trials, the best first."""
        return np.argsort(self.values if self.minimises else -self.values, kind="stable")

    @property
    def best_words(self) -> str:
        """The best trial, its value and its point, in a sentence."""
        best = self.order[0]
        value, row = value_text(self.name, self.values[best]), self.rows[best]
        return f"Best: trial {row.number} ({self.name} {value}), {point_words(row.overrides)}."

    def course(self, rows: Sequence[Row]) -> str:
        """Return how many of all trials completed, and since when there was no improvement."""
        later = max(row.number for row in rows) - self.rows[self.order[0]].number
        none = f"None of the {later} later trials is" if later > 1 else "The later trial is not"
        since = f" {none} better." if later else ""
        others = {_end(row) for row in rows} & {*LOOKS}
        marked = " Pruned and failed trials are marked at the bottom." if others else ""
        return f"{len(self.rows)} of {len(rows)} trials completed.{marked} {self.best_words}{since}"


class _Scale:
    """Places of the values of one key along an axis: from 0 to 1, and `off` below these.

    Numbers have a linear or a log scale; words are evenly spaced.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        known = dict.fromkeys(texts)
        self.has_off = known.pop("null", self) is None
        self._numbers = {text: value for text in known if (value := _number(text)) is not None}
        is_numeric = len(self._numbers) == len(known) > 0
        if not is_numeric:  # [8] comes before [32,16]
            order = sorted(known, key=lambda text: list(map(int, re.findall(r"\d+", text))))
            self._numbers = {text: float(at) for at, text in enumerate(order)}
        values = sorted({*self._numbers.values()}) or [0.0]
        self._is_log = values[0] > 0 and values[-1] >= LOG_RATIO * values[0]
        self._ends = self._moved(values[0]), self._moved(values[-1])
        if is_numeric:
            self._ticks = [
                (f"{x:.0f}" if x.is_integer() and abs(x) < 1e7 else f"{x:.4g}", self._place(x))
                for x in self._round(values)
            ]
        else:
            self._ticks = [(label(text, 14), self(text)) for text in self._numbers]

    def __call__(self, text: str) -> float:
        """Return the place of a value."""
        return OFF_PLACE if text == "null" else self._place(self._numbers[text])

    def _place(self, value: float) -> float:
        low, high = self._ends
        return (self._moved(value) - low) / (high - low) if high > low else 0.5

    def _moved(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def _round(self, values: Sequence[float]) -> Sequence[float]:
        """Return round numbers between many or long values, and few short values themselves."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        low, high = values[0], values[-1]
        are_whole = all(value.is_integer() for value in values)
        are_shown = len(values) <= MOST_TOLD and all(len(f"{one:g}") <= MOST_TOLD for one in values)
        for digits in () if are_shown else ((1.0,), (1.0, 2.0, 5.0)):
            locator = LogLocator(subs=digits) if self._is_log else MaxNLocator(4, integer=are_whole)
            found = [float(at) for at in locator.tick_values(low, high) if low <= at <= high]
            if len(found) > 1:
                return found
        return values

    def ticks(self, room: float) -> tuple[Sequence[float], Sequence[str]]:
        """Return places and names of ticks that are at least `room` apart."""
        kept = {OFF_PLACE: OFF} if self.has_off else {}
        for name, place in self._ticks:
            if place - max(kept, default=-1.0) >= room:
                kept[place] = name
        return list(kept), list(kept.values())

    def show(self, axes: "Axes", axis: Literal["x", "y"], room: float = CLOSE) -> None:
        """Put the ticks on an axis, and shade the band of `off`."""
        places, names = self.ticks(room)
        getattr(axes, f"set_{axis}ticks")(places, names, fontsize=8)
        getattr(axes, f"set_{axis}lim")(BAND[0] if self.has_off else -MARGIN, 1 + MARGIN)
        if self.has_off:
            shade = axes.axvspan if axis == "x" else axes.axhspan
            shade(*BAND, color=style.QUIET, alpha=style.SHADE, linewidth=0)
        if axis == "x" and sum(map(len, names)) > LONG:
            axes.tick_params(axis="x", rotation=30)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        value = float(text)
        return value if math.isfinite(value) else None
    return None


def _end(row: Row) -> End | None:
    """Return how a trial ended: complete, or a key of `LOOKS`; `None` = it is not drawn."""
    if row.end is None or not row.end.counts:
        return None
    return End.ERROR if row.end is End.OOM else row.end


def _shades(one: _Objective) -> "ScalarMappable":
    """Return colours from the worst to the best value, which has the most contrast."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = mpl.colormaps["viridis"](np.linspace(0.3, 0.9, 256))
    shades = ListedColormap(colours if one.minimises else colours[::-1])
    return ScalarMappable(Normalize(*style.limits(one.values)), shades)


def _star(axes: "Axes", x: float, y: float) -> None:
    look: dict[str, Any] = {"s": 170, "marker": "*", "color": style.VALIDATION, "label": "best"}
    look["clip_on"] = False  # the best value lies at the edge
    axes.scatter(x, y, edgecolors=style.foreground(), linewidths=0.7, zorder=4, **look)


# ── trials and parameters ───────────────────────────────────────────────────────────────────────


def _history(rows: Sequence[Row], one: _Objective) -> "Figure":
    figure, grid = style.panels()
    axes, numbers = grid[0, 0], [row.number for row in one.rows]
    course = (np.minimum if one.minimises else np.maximum).accumulate(one.values)
    look: dict[str, Any] = {"color": style.VALIDATION, "linewidth": 1.4, "label": "best so far"}
    last = max(row.number for row in rows)
    axes.step([*numbers, last], [*course, course[-1]], where="post", **look)
    axes.scatter(numbers, one.values, s=20, color=style.TRAIN, zorder=3, label="complete")
    _star(axes, numbers[one.order[0]], one.values[one.order[0]])
    axes.margins(y=0.12)
    for end, look in LOOKS.items():  # at the bottom, since they have no value
        if ended := [row.number for row in rows if _end(row) is end]:
            at = axes.get_xaxis_transform()
            axes.scatter(ended, [0.03] * len(ended), s=20, transform=at, label=end.word, **look)
    style.log_scale_if_wide(axes, one.values)
    style.whole_numbers(axes, most=10)
    axes.set(xlabel="trial", ylabel=label(one.name))
    style.below(figure, axes, columns=6)
    return figure


def _importance_words(found: "Importances", one: _Objective) -> str:
    above = [
        f"{name} {100 * share:.0f} % (chance {100 * found.chance[name]:.0f} %)"
        for name, share in found.above_chance.items()
    ]
    told = f"Above chance: {', '.join(above[:MOST_TOLD])}." if above else "None is above chance."
    return (
        f"PED-ANOVA importance for {one.name}; chance is the importance of shuffled values. {told}"
    )


def _importances(found: "Importances") -> "Figure":
    """Draw each parameter's share, and what it reaches by chance."""
    from matplotlib.ticker import PercentFormatter

    names, shares = list(found.shares), list(found.shares.values())
    figure, grid = style.panels(height=1.5 + BAR * len(names))
    axes, places = grid[0, 0], np.arange(len(names))
    colours = [style.TRAIN if name in found.above_chance else style.QUIET for name in names]
    bars = axes.barh(places, shares, height=0.6, color=colours)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for share in shares], padding=4, fontsize=9)
    chance = [min(1.0, found.chance[name]) for name in names]
    look: dict[str, Any] = {"color": style.VALIDATION, "linewidth": 2, "label": "chance level"}
    axes.vlines(chance, places - 0.38, places + 0.38, **look)
    axes.set_yticks(places, [label(name, 32) for name in short_names(names).values()], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(*shares, *chance)), xlabel="share of the importance")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(visible=False, axis="y")
    style.below(figure, axes, columns=6)
    return figure


def _varied(one: _Objective) -> dict[str, str]:
    """Return the short name of each key that the trials vary."""
    if names := short_names(swept_keys(one.rows)):
        return names
    raise NotDrawnError("nothing is varied")


def _slices(one: _Objective) -> "Figure":
    names = _varied(one)
    columns, best = min(COLUMNS, len(names)), one.order[0]
    figure, axes = style.panels(len(names), columns, height=SLICE, sharey=True)
    for at, ((key, name), panel) in enumerate(zip(names.items(), axes.flat, strict=False)):
        having = [n for n, row in enumerate(one.rows) if key in row.overrides]
        scale = _Scale(one.rows[n].overrides[key] for n in having)
        places = {n: scale(one.rows[n].overrides[key]) for n in having}
        look: dict[str, Any] = {"s": 18, "color": style.TRAIN, "alpha": 0.75}
        panel.scatter(places.values(), one.values[having], **look)
        if best in places:
            _star(panel, places[best], one.values[best])
        scale.show(panel, "x", NARROW if columns == COLUMNS else CLOSE)
        panel.set_xlabel(label(name, 26), fontsize=9)
        panel.set_ylabel(label(one.name) if at % columns == 0 else "", fontsize=9)
    style.log_scale_if_wide(axes[0, 0], one.values)
    return figure


def _parallel(one: _Objective) -> "Figure":
    names = _varied(one)
    scales = [
        _Scale(row.overrides[key] for row in one.rows if key in row.overrides) for key in names
    ]
    scales.append(_Scale(map(str, one.values)))
    titles = [label(name, 20) for name in (*names.values(), one.name)]
    size = (max(style.WIDTH, PER_AXIS * len(titles)), 3.6)
    figure, grid = style.panels(figsize=size)
    axes, shades = grid[0, 0], _shades(one)
    for n in one.order[::-1]:  # the best last, above all others
        point = one.rows[n].overrides
        texts = [*map(point.get, names), str(one.values[n])]
        pairs = zip(scales, texts, strict=True)
        heights = [math.nan if text is None else scale(text) for scale, text in pairs]
        width = 2.4 if n == one.order[0] else 1.0
        axes.plot(heights, color=shades.to_rgba(one.values[n]), marker=".", linewidth=width)
    # The ticks are drawn on a ground that keeps them readable.
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    for at, scale in enumerate(scales):
        low = OFF_PLACE if scale.has_off else 0.0
        axes.vlines(at, low, 1.0, color=style.foreground(), linewidth=0.9, zorder=4)
        for height, text in zip(*scale.ticks(CLOSE / 2), strict=True):
            axes.text(at + 0.04, height, text, fontsize=8, va="center", bbox=ground, zorder=5)
    axes.set_xticks(range(len(titles)), titles, fontsize=9)
    axes.tick_params(axis="x", length=0)
    low = BAND[0] if any(scale.has_off for scale in scales) else -MARGIN
    axes.set(xlim=(-0.15, len(titles) - 0.6), ylim=(low, 1 + MARGIN), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    return figure


def _pareto(objectives: Sequence[_Objective], front: Sequence[Row]) -> "Figure":
    figure, grid = style.panels()
    axes, (first, second) = grid[0, 0], objectives
    axes.scatter(first.values, second.values, s=20, color=style.QUIET, label="complete")
    look: dict[str, Any] = {"color": style.NETWORK, "marker": "o", "label": "Pareto front"}
    axes.step(*zip(*(row.values for row in front), strict=True), where="post", **look)
    place: dict[str, Any] = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 8}
    for row in front[:MOST_TOLD]:
        axes.annotate(f"trial {row.number}", row.values, **place)
    style.log_scale_if_wide(axes, second.values)
    axes.margins(0.12)
    ways = ["smaller" if one.minimises else "larger" for one in objectives]
    axes.set_xlabel(f"{label(first.name)} ({ways[0]} is better)")
    axes.set_ylabel(f"{label(second.name)} ({ways[1]} is better)")
    style.below(figure, axes, columns=6)
    return figure


def _map(rows: Sequence[Row], one: _Objective, algorithm: str) -> "Figure":
    """Draw each trial at its learning rate and clipping threshold, coloured by its objective.

    Trials without clipping are in a band of their own. Each clipping algorithm has a panel;
    `algorithm` is that of trials that do not vary it.
    """
    kinds = [row.overrides.get(ALGORITHM, algorithm) for row in rows]
    panels, shades, best = sorted({*kinds}), _shades(one), one.rows[one.order[0]]
    size = (style.WIDTH * (1 if len(panels) == 1 else 1.5), 4.2)
    figure, grid = style.panels(len(panels), len(panels), figsize=size, sharex=True)
    across = _Scale(row.overrides[LR] for row in rows)
    for panel, kind in zip(grid[0], panels, strict=True):
        own = [row for row, its in zip(rows, kinds, strict=True) if its == kind]
        up = _Scale(row.overrides[CLIP] for row in own)
        for end in (*LOOKS, End.COMPLETE):
            if ended := [row for row in own if _end(row) is end]:
                colours = [row.values[0] for row in ended if row.values]
                given = {"c": colours, "norm": shades.norm, "cmap": shades.cmap, "zorder": 3}
                x = [across(row.overrides[LR]) for row in ended]
                y = [_height(row, up) for row in ended]
                panel.scatter(x, y, s=34, label=end.word, **LOOKS.get(end, given))
        if best in own:
            _star(panel, across(best.overrides[LR]), _height(best, up))
        across.show(panel, "x")
        up.show(panel, "y")
        threshold = f"clipping threshold ({UNITS.get(kind, kind)})"
        panel.set(xlabel="learning rate", ylabel=threshold)
    bar = figure.colorbar(shades, ax=grid[0].tolist(), pad=0.02, aspect=30, label=label(one.name))
    bar.outline.set_visible(False)
    style.below(figure, *grid[0], columns=6)
    return figure


def _height(row: Row, up: _Scale) -> float:
    spread = (BAND[1] - BAND[0]) * ((row.number * GOLDEN) % 1 - 0.5)
    return up(row.overrides[CLIP]) + 0.7 * spread * (row.overrides[CLIP] == "null")
