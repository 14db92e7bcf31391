"""Pictures of a study: its trials, its parameters, learning rate and clipping."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.ends import End
from pipeline.pictures import style
from pipeline.pictures.gallery import drawing, write
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
    reported: list[str] = []
    for picture in pictures:
        with drawing(study_names(summary)) as notes:
            reason = write(picture, folder)
        if reason:
            notes = [*notes, f"no picture {picture.name}: {reason}"]
        yield [note for note in notes if note not in reported]
        reported += notes


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
    for index, objective in enumerate(objectives):
        yield from _objective_pictures(summary, index, objective)
    first = objectives[0]
    caption = "Each line is a completed trial; lines of trials with a better"
    caption += f" {first.name} are darker. {first.best_words}"
    yield _picture("parallel_coordinates", caption, partial(_parallel, first))
    if len(objectives) == 2:
        front = pareto(summary.rows, summary.directions)
        trials = [f"trial {row.number} ({summary.values_of(row)})" for row in front[:MOST_TOLD]]
        caption = f"On the front, where {FRONT}: {'; '.join(trials)}."
        yield _picture("pareto_front", caption, partial(_pareto, objectives, front))
    rows = [row for row in summary.rows if {LR, CLIP} <= row.overrides.keys() and _end(row)]
    if any(row.values for row in rows):
        caption = f"Dots are completed trials, coloured by {first.name}. {OFF} = no clipping."
        draw = partial(_map, rows, first, clip_algorithm)
        yield _picture("lr_clip_map", f"{caption} {first.best_words}", draw)


def _picture(
    name: str, caption: str, draw: Callable[[], "Figure"], *, suffix: str = "", title: str = ""
) -> Picture:
    return Picture(f"{name}{suffix}", f"{PICTURES[f'{name}.png']}{title}", caption, draw)


def _objective_pictures(
    summary: StudySummary, index: int, objective: "_Objective"
) -> Iterator[Picture]:
    """Yield the pictures of one objective: history, importances if known, and slices."""
    picture = partial(
        _picture,
        suffix="_2" if index else "",
        title=f": {objective.name}" if len(summary.objectives) == 2 else "",
    )
    rows = summary.rows
    yield picture("history", objective.course(rows), partial(_history, rows, objective))
    importances = summary.importances[index]
    if importances.shares:
        caption = _importance_words(importances, objective)
        yield picture("importances", caption, partial(_importances, importances))
    caption = f"{objective.name} over each parameter. {objective.best_words}"
    yield picture("slices", caption, partial(_slices, objective))


@dataclass(frozen=True, slots=True)
class _Objective:
    """One objective of a study, and the completed trials with their values of it, (trials,)."""

    name: str
    minimises: bool
    rows: Sequence[Row]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, summary: StudySummary, index: int) -> "_Objective":
        rows = [row for row in summary.rows if row.values and all(map(math.isfinite, row.values))]
        values = np.array([row.values[index] for row in rows])
        return cls(summary.objectives[index], summary.directions[index] == "min", rows, values)

    @property
    def order(self) -> NDArray[np.intp]:
        """Indices of the trials, the best first."""
        return np.argsort(self.values if self.minimises else -self.values, kind="stable")

    @property
    def axis_label(self) -> str:
        """The name of the objective, and which values are better."""
        comparative = "smaller" if self.minimises else "larger"
        return f"{label(self.name)} ({comparative} is better)"

    @property
    def best_words(self) -> str:
        """The best trial, its value and its point, in a sentence."""
        best = self.order[0]
        row = self.rows[best]
        value = value_text(self.name, self.values[best])
        return f"Best: trial {row.number} ({self.name} {value}), {point_words(row.overrides)}."

    def course(self, rows: Sequence[Row]) -> str:
        """Return how many of all trials completed, and since when there was no improvement."""
        later = max(row.number for row in rows) - self.rows[self.order[0]].number
        text = f"{len(self.rows)} of {len(rows)} trials completed."
        if any(_end(row) in LOOKS for row in rows):
            text += " Pruned and failed trials are marked at the bottom."
        text += f" {self.best_words}"
        if later == 1:
            text += " The later trial is not better."
        elif later:
            text += f" None of the {later} later trials is better."
        return text


class _Scale:
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
        self._low = self._moved(values[0])
        self._high = self._moved(values[-1])
        if is_numeric:
            self._ticks = [(_tick_name(x), self._place(x)) for x in self._round(values)]
        else:
            self._ticks = [(label(text, 14), self(text)) for text in self._numbers]

    def __call__(self, text: str) -> float:
        """Return the place of a value."""
        return OFF_PLACE if text == "null" else self._place(self._numbers[text])

    def _place(self, value: float) -> float:
        if self._high <= self._low:
            return 0.5
        return (self._moved(value) - self._low) / (self._high - self._low)

    def _moved(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def _round(self, values: Sequence[float]) -> Sequence[float]:
        """Return round numbers between many or long values, and few short values themselves."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        low = values[0]
        high = values[-1]
        if len(values) <= MOST_TOLD and all(len(f"{value:g}") <= MOST_TOLD for value in values):
            return values
        are_whole = all(value.is_integer() for value in values)
        for digits in ((1.0,), (1.0, 2.0, 5.0)):
            locator = LogLocator(subs=digits) if self._is_log else MaxNLocator(4, integer=are_whole)
            ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
            if len(ticks) > 1:
                return ticks
        return values

    def ticks(self, room: float) -> tuple[Sequence[float], Sequence[str]]:
        """Return places and names of ticks that are at least `room` apart."""
        names = {OFF_PLACE: OFF} if self.has_off else {}
        for name, place in self._ticks:
            if place - max(names, default=-1.0) >= room:
                names[place] = name
        return list(names), list(names.values())

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


def _end(row: Row) -> End | None:
    """Return how a trial ended: complete, or a key of `LOOKS`; `None` = it is not drawn."""
    if row.end is None or not row.end.counts:
        return None
    return End.ERROR if row.end is End.OOM else row.end


def _shades(objective: _Objective) -> "ScalarMappable":
    """Return colours from the worst to the best value, which has the most contrast."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = mpl.colormaps["viridis"](np.linspace(0.3, 0.9, 256))
    shades = ListedColormap(colours if objective.minimises else colours[::-1])
    return ScalarMappable(Normalize(*style.limits(objective.values)), shades)


def _star(axes: "Axes", x: float, y: float) -> None:
    look: dict[str, Any] = {"s": 170, "marker": "*", "color": style.VALIDATION, "label": "best"}
    look["clip_on"] = False  # the best value lies at the edge
    axes.scatter(x, y, edgecolors=style.foreground(), linewidths=0.7, zorder=4, **look)


# ── trials and parameters ───────────────────────────────────────────────────────────────────────


def _history(rows: Sequence[Row], objective: _Objective) -> "Figure":
    figure, grid = style.panels()
    axes = grid[0, 0]
    numbers = [row.number for row in objective.rows]
    better = np.minimum if objective.minimises else np.maximum
    course = better.accumulate(objective.values)
    look: dict[str, Any] = {"color": style.VALIDATION, "linewidth": 1.4, "label": "best so far"}
    last = max(row.number for row in rows)
    axes.step([*numbers, last], [*course, course[-1]], where="post", **look)
    axes.scatter(numbers, objective.values, s=20, color=style.TRAIN, zorder=3, label="complete")
    best = objective.order[0]
    _star(axes, numbers[best], objective.values[best])
    axes.margins(y=0.12)
    bottom = axes.get_xaxis_transform()
    for end, look in LOOKS.items():  # at the bottom, since they have no value
        ended = [row.number for row in rows if _end(row) is end]
        if ended:
            heights = [0.03] * len(ended)
            axes.scatter(ended, heights, s=20, transform=bottom, label=end.word, **look)
    style.log_scale_if_wide(axes, objective.values)
    style.whole_numbers(axes, most=10)
    axes.set(xlabel="trial", ylabel=label(objective.name))
    style.below(figure, axes, columns=6)
    return figure


def _importance_words(importances: "Importances", objective: _Objective) -> str:
    phrases = []
    for name, share in importances.above_chance.items():
        chance = importances.chance[name]
        phrases.append(f"{name} {100 * share:.0f} % (chance {100 * chance:.0f} %)")
    above = "None is above chance."
    if phrases:
        above = f"Above chance: {', '.join(phrases[:MOST_TOLD])}."
    return (
        f"PED-ANOVA importance for {objective.name}; "
        f"chance is the importance of shuffled values. {above}"
    )


def _importances(importances: "Importances") -> "Figure":
    """Draw each parameter's share, and what it reaches by chance."""
    from matplotlib.ticker import PercentFormatter

    names = list(importances.shares)
    shares = list(importances.shares.values())
    figure, grid = style.panels(height=1.5 + BAR * len(names))
    axes = grid[0, 0]
    places = np.arange(len(names))
    above = importances.above_chance
    colours = [style.TRAIN if name in above else style.QUIET for name in names]
    bars = axes.barh(places, shares, height=0.6, color=colours)
    axes.bar_label(bars, [f"{100 * share:.0f} %" for share in shares], padding=4, fontsize=9)
    chance = [min(1.0, importances.chance[name]) for name in names]
    look: dict[str, Any] = {"color": style.VALIDATION, "linewidth": 2, "label": "chance level"}
    axes.vlines(chance, places - 0.38, places + 0.38, **look)
    axes.set_yticks(places, [label(name, 32) for name in short_names(names).values()], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(*shares, *chance)), xlabel="share of the importance")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(visible=False, axis="y")
    style.below(figure, axes, columns=6)
    return figure


def _varied(objective: _Objective) -> dict[str, str]:
    """Return the short name of each key that the trials vary."""
    names = short_names(swept_keys(objective.rows))
    if not names:
        raise NotDrawnError("nothing is varied")
    return names


def _slices(objective: _Objective) -> "Figure":
    names = _varied(objective)
    columns = min(COLUMNS, len(names))
    best = objective.order[0]
    figure, axes = style.panels(len(names), columns, height=SLICE, sharey=True)
    look: dict[str, Any] = {"s": 18, "color": style.TRAIN, "alpha": 0.75}
    for index, ((key, name), panel) in enumerate(zip(names.items(), axes.flat, strict=False)):
        texts = {
            n: row.overrides[key] for n, row in enumerate(objective.rows) if key in row.overrides
        }
        scale = _Scale(texts.values())
        panel.scatter(list(map(scale, texts.values())), objective.values[list(texts)], **look)
        if best in texts:
            _star(panel, scale(texts[best]), objective.values[best])
        scale.show(panel, "x", NARROW if columns == COLUMNS else CLOSE)
        panel.set_xlabel(label(name, 26), fontsize=9)
        panel.set_ylabel(label(objective.name) if index % columns == 0 else "", fontsize=9)
    style.log_scale_if_wide(axes[0, 0], objective.values)
    return figure


def _parallel(objective: _Objective) -> "Figure":
    names = _varied(objective)
    scales = []
    for key in names:
        rows = [row for row in objective.rows if key in row.overrides]
        scales.append(_Scale(row.overrides[key] for row in rows))
    scales.append(_Scale(map(str, objective.values)))
    titles = [label(name, 20) for name in (*names.values(), objective.name)]
    size = (max(style.WIDTH, PER_AXIS * len(titles)), 3.6)
    figure, grid = style.panels(figsize=size)
    axes = grid[0, 0]
    _draw_trial_lines(axes, objective, list(names), scales)
    for position, scale in enumerate(scales):
        _draw_scale(axes, position, scale)
    axes.set_xticks(range(len(titles)), titles, fontsize=9)
    axes.tick_params(axis="x", length=0)
    low = BAND[0] if any(scale.has_off for scale in scales) else -MARGIN
    axes.set(xlim=(-0.15, len(titles) - 0.6), ylim=(low, 1 + MARGIN), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    return figure


def _draw_trial_lines(
    axes: "Axes", objective: _Objective, keys: Sequence[str], scales: Sequence[_Scale]
) -> None:
    shades = _shades(objective)
    for index in objective.order[::-1]:  # the best last, above all others
        value = objective.values[index]
        texts = [*map(objective.rows[index].overrides.get, keys), str(value)]
        heights = []
        for scale, text in zip(scales, texts, strict=True):
            heights.append(math.nan if text is None else scale(text))
        width = 2.4 if index == objective.order[0] else 1.0
        axes.plot(heights, color=shades.to_rgba(value), marker=".", linewidth=width)


def _draw_scale(axes: "Axes", position: int, scale: _Scale) -> None:
    # The ticks are drawn on a ground that keeps them readable.
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    low = OFF_PLACE if scale.has_off else 0.0
    axes.vlines(position, low, 1.0, color=style.foreground(), linewidth=0.9, zorder=4)
    for height, text in zip(*scale.ticks(CLOSE / 2), strict=True):
        axes.text(position + 0.04, height, text, fontsize=8, va="center", bbox=ground, zorder=5)


def _pareto(objectives: Sequence[_Objective], front: Sequence[Row]) -> "Figure":
    figure, grid = style.panels()
    axes = grid[0, 0]
    first, second = objectives
    axes.scatter(first.values, second.values, s=20, color=style.QUIET, label="complete")
    look: dict[str, Any] = {"color": style.NETWORK, "marker": "o", "label": "Pareto front"}
    axes.step(*zip(*(row.values for row in front), strict=True), where="post", **look)
    place: dict[str, Any] = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 8}
    for row in front[:MOST_TOLD]:
        axes.annotate(f"trial {row.number}", row.values, **place)
    style.log_scale_if_wide(axes, second.values)
    axes.margins(0.12)
    axes.set_xlabel(first.axis_label)
    axes.set_ylabel(second.axis_label)
    style.below(figure, axes, columns=6)
    return figure


def _map(rows: Sequence[Row], objective: _Objective, algorithm: str) -> "Figure":
    """Draw each trial at its learning rate and clipping threshold, coloured by its objective.

    Trials without clipping are in a band of their own. Each clipping algorithm has a panel;
    `algorithm` is that of trials that do not vary it.
    """
    rows_by_algorithm: dict[str, list[Row]] = {}
    for row in rows:
        rows_by_algorithm.setdefault(row.overrides.get(ALGORITHM, algorithm), []).append(row)
    shades = _shades(objective)
    count = len(rows_by_algorithm)
    width = style.WIDTH if count == 1 else 1.5 * style.WIDTH
    figure, grid = style.panels(count, count, figsize=(width, 4.2), sharex=True)
    rates = _Scale(row.overrides[LR] for row in rows)
    panels = zip(grid[0], sorted(rows_by_algorithm), strict=True)
    for panel, panel_algorithm in panels:
        panel_rows = rows_by_algorithm[panel_algorithm]
        thresholds = _Scale(row.overrides[CLIP] for row in panel_rows)
        _draw_map(panel, panel_rows, objective, shades, (rates, thresholds))
        rates.show(panel, "x")
        thresholds.show(panel, "y")
        unit = UNITS.get(panel_algorithm, panel_algorithm)
        panel.set(xlabel="learning rate", ylabel=f"clipping threshold ({unit})")
    name = label(objective.name)
    bar = figure.colorbar(shades, ax=grid[0].tolist(), pad=0.02, aspect=30, label=name)
    bar.outline.set_visible(False)
    style.below(figure, *grid[0], columns=6)
    return figure


def _draw_map(
    axes: "Axes",
    rows: Sequence[Row],
    objective: _Objective,
    shades: "ScalarMappable",
    scales: tuple[_Scale, _Scale],
) -> None:
    rates, thresholds = scales
    for end in (*LOOKS, End.COMPLETE):
        ended = [row for row in rows if _end(row) is end]
        if not ended:
            continue
        look = LOOKS.get(end)
        if look is None:
            colours = [row.values[0] for row in ended if row.values]
            look = {"c": colours, "norm": shades.norm, "cmap": shades.cmap, "zorder": 3}
        x = [rates(row.overrides[LR]) for row in ended]
        y = [_height(row, thresholds) for row in ended]
        axes.scatter(x, y, s=34, label=end.word, **look)
    best = objective.rows[objective.order[0]]
    if best in rows:
        _star(axes, rates(best.overrides[LR]), _height(best, thresholds))


def _height(row: Row, thresholds: _Scale) -> float:
    height = thresholds(row.overrides[CLIP])
    if row.overrides[CLIP] != "null":
        return height
    spread = (BAND[1] - BAND[0]) * ((row.number * GOLDEN) % 1 - 0.5)
    return height + 0.7 * spread
