"""Pictures of a study: its trials, its parameters, learning rate and clipping."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from pipeline.study.outcome.value_scale import (
    MARGIN,
    OFF_BAND,
    OFF_PLACE,
    TICK_DISTANCE,
    ValueScale,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from pipeline.study.ledger.rows import Importances

#: Height of a bar, height of a slice and width of a parallel axis, in inches.
BAR = 0.36
SLICE = 2.4
PER_AXIS = 1.3
#: Slices beside each other.
COLUMNS = 3
#: Least distance between two ticks on an axis across a third of a figure.
NARROW_TICK_DISTANCE = 0.22
#: Most parameters or trials that a caption or a picture names.
MOST_NAMED = 5
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
        trials = []
        for row in front[:MOST_NAMED]:
            trials.append(f"trial {row.number} ({summary.values_of(row)})")
        caption = f"On the front, where {FRONT}: {'; '.join(trials)}."
        yield _picture("pareto_front", caption, partial(_pareto, objectives, front))
    rows = []
    has_complete = False
    for row in summary.rows:
        if {LR, CLIP} <= row.overrides.keys() and _end(row):
            rows.append(row)
            has_complete = has_complete or bool(row.values)
    if has_complete:
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
        rows = []
        values = []
        for row in summary.rows:
            if row.values and all(map(math.isfinite, row.values)):
                rows.append(row)
                values.append(row.values[index])
        minimises = summary.directions[index] == "min"
        return cls(summary.objectives[index], minimises, rows, np.array(values))

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
        ends = {_end(row) for row in rows}
        if not ends.isdisjoint(LOOKS):
            text += " Pruned and failed trials are marked at the bottom."
        text += f" {self.best_words}"
        if later == 1:
            text += " The later trial is not better."
        elif later:
            text += f" None of the {later} later trials is better."
        return text


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
        above = f"Above chance: {', '.join(phrases[:MOST_NAMED])}."
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
    colours = []
    percentages = []
    chance = []
    for name, share in importances.shares.items():
        colours.append(style.TRAIN if name in above else style.QUIET)
        percentages.append(f"{100 * share:.0f} %")
        chance.append(min(1.0, importances.chance[name]))
    bars = axes.barh(places, shares, height=0.6, color=colours)
    axes.bar_label(bars, percentages, padding=4, fontsize=9)
    look: dict[str, Any] = {"color": style.VALIDATION, "linewidth": 2, "label": "chance level"}
    axes.vlines(chance, places - 0.38, places + 0.38, **look)
    labels = [label(name, 32) for name in short_names(names).values()]
    axes.set_yticks(places, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12 * max(*shares, *chance)), xlabel="share of the importance")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(visible=False, axis="y")
    style.below(figure, axes, columns=6)
    return figure


def _varied_names(objective: _Objective) -> dict[str, str]:
    """Return the short name of each key that the trials vary."""
    names = short_names(swept_keys(objective.rows))
    if not names:
        raise NotDrawnError("nothing is varied")
    return names


def _slices(objective: _Objective) -> "Figure":
    names = _varied_names(objective)
    columns = min(COLUMNS, len(names))
    best = objective.order[0]
    figure, axes = style.panels(len(names), columns, height=SLICE, sharey=True)
    look: dict[str, Any] = {"s": 18, "color": style.TRAIN, "alpha": 0.75}
    for index, ((key, name), panel) in enumerate(zip(names.items(), axes.flat, strict=False)):
        texts = {}  # the value of the key in each trial that has it
        for trial_index, row in enumerate(objective.rows):
            if key in row.overrides:
                texts[trial_index] = row.overrides[key]
        scale = ValueScale(texts.values())
        places = [scale(text) for text in texts.values()]
        panel.scatter(places, objective.values[list(texts)], **look)
        if best in texts:
            _star(panel, scale(texts[best]), objective.values[best])
        scale.show(panel, "x", NARROW_TICK_DISTANCE if columns == COLUMNS else TICK_DISTANCE)
        panel.set_xlabel(label(name, 26), fontsize=9)
        panel.set_ylabel(label(objective.name) if index % columns == 0 else "", fontsize=9)
    style.log_scale_if_wide(axes[0, 0], objective.values)
    return figure


def _parallel(objective: _Objective) -> "Figure":
    names = _varied_names(objective)
    scales = []
    for key in names:
        texts = [row.overrides.get(key) for row in objective.rows]
        scales.append(ValueScale(text for text in texts if text is not None))
    scales.append(ValueScale(map(str, objective.values)))
    titles = [label(name, 20) for name in (*names.values(), objective.name)]
    size = (max(style.WIDTH, PER_AXIS * len(titles)), 3.6)
    figure, grid = style.panels(figsize=size)
    axes = grid[0, 0]
    _draw_trial_lines(axes, objective, list(names), scales)
    for position, scale in enumerate(scales):
        _draw_scale(axes, position, scale)
    axes.set_xticks(range(len(titles)), titles, fontsize=9)
    axes.tick_params(axis="x", length=0)
    low = min(scale.start for scale in scales)
    axes.set(xlim=(-0.15, len(titles) - 0.6), ylim=(low, 1 + MARGIN), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)
    return figure


def _draw_trial_lines(
    axes: "Axes", objective: _Objective, keys: Sequence[str], scales: Sequence[ValueScale]
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


def _draw_scale(axes: "Axes", position: int, scale: ValueScale) -> None:
    # The ticks are drawn on a ground that keeps them readable.
    ground = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    low = OFF_PLACE if scale.has_off else 0.0
    axes.vlines(position, low, 1.0, color=style.foreground(), linewidth=0.9, zorder=4)
    for height, text in zip(*scale.ticks(TICK_DISTANCE / 2), strict=True):
        axes.text(position + 0.04, height, text, fontsize=8, va="center", bbox=ground, zorder=5)


def _pareto(objectives: Sequence[_Objective], front: Sequence[Row]) -> "Figure":
    figure, grid = style.panels()
    axes = grid[0, 0]
    first = objectives[0]
    second = objectives[1]
    axes.scatter(first.values, second.values, s=20, color=style.QUIET, label="complete")
    look: dict[str, Any] = {"color": style.NETWORK, "marker": "o", "label": "Pareto front"}
    front_values = np.array([row.values for row in front])
    axes.step(front_values[:, 0], front_values[:, 1], where="post", **look)
    place: dict[str, Any] = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 8}
    for row in front[:MOST_NAMED]:
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
    rates = ValueScale(row.overrides[LR] for row in rows)
    panels = zip(grid[0], sorted(rows_by_algorithm), strict=True)
    for panel, panel_algorithm in panels:
        panel_rows = rows_by_algorithm[panel_algorithm]
        thresholds = ValueScale(row.overrides[CLIP] for row in panel_rows)
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
    scales: tuple[ValueScale, ValueScale],
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
        x = []
        y = []
        for row in ended:
            x.append(rates(row.overrides[LR]))
            y.append(_height(row, thresholds))
        axes.scatter(x, y, s=34, label=end.word, **look)
    best = objective.rows[objective.order[0]]
    if best in rows:
        _star(axes, rates(best.overrides[LR]), _height(best, thresholds))


def _height(row: Row, thresholds: ValueScale) -> float:
    height = thresholds(row.overrides[CLIP])
    if row.overrides[CLIP] != "null":
        return height
    spread = (OFF_BAND[1] - OFF_BAND[0]) * ((row.number * GOLDEN) % 1 - 0.5)
    return height + 0.7 * spread
