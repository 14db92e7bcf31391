"""Pictures of a study: Optuna's own, the map of learning rate and clipping, the comparison."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.gallery import drawing, write
from pipeline.pictures.style import NotDrawnError, Picture
from pipeline.study.ledger.rows import Row, pareto
from pipeline.study.messages import RETRIED
from pipeline.study.outcome.comparison import DATA, NETWORK, Comparison, ComparisonCell
from pipeline.study.outcome.summary import OFF, StudySummary, point_words, short_names, shown_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.study import Study

    from pipeline.study.ledger.rows import Importances

INCHES_PER_PARAMETER, INCHES_PER_BAR, INCHES_PER_CELL = 2.1, 0.5, 0.42
SMALLEST = 7.0  # inches
LABEL_POINTS = 8
#: Share of a picture's width that the numbers of an axis take.
ROOM = 0.06
#: Number of parameters, or of trials, that an alternative text names.
MOST_TOLD = 5
MOST_CELLS_TOLD = 8
TITLES = {
    "history": "History: each trial's value, and the best so far",
    "importances": "Importances: what sets the best trials apart",
    "slices": "Slices: each parameter against the value",
    "parallel_coordinates": "Parallel coordinates: a line a trial",
    "pareto_front": "Pareto front: what no other trial beats in both",
    "lr_clip_map": "Learning rate and clipping",
}
LR = "optimizer.lr"
CLIP = "trainer.gradient_clip_val"
ALGORITHM = "trainer.gradient_clip_algorithm"
#: Multiples of it modulo 1 fill a band evenly, so that trials do not cover each other.
GOLDEN = 0.618034
UNITS = {"norm": "largest norm of all gradients", "value": "largest size of each gradient"}
ENDS: dict[str, dict[str, Any]] = {
    "pruned": {"marker": "o", "facecolors": "none", "edgecolors": "0.6"},
    "diverged": {"marker": "x", "color": "tab:orange"},
    "failed": {"marker": "+", "color": "0.35"},
}
LEGEND: dict[str, dict[str, Any]] = {
    "best": {"marker": "*", "mfc": "none", "mec": "red", "ms": 14},
    "pruned": {"marker": "o", "mfc": "none", "mec": "0.6"},
    **{end: ENDS[end] for end in ("diverged", "failed")},
}
LINES = {"naive": ":", "linear": "--"}


def load(*, importances: bool) -> None:
    """Import what draws pictures and, if wanted, what finds importances, a second each."""
    with drawing():
        import optuna.visualization.matplotlib
    if importances:
        import optuna.importance  # noqa: F401


def write_study_pictures(
    study: "Study", summary: StudySummary, folder: Path, *, clip_algorithm: str = "norm"
) -> Iterator[list[str]]:
    """Write the pictures of a study as PNG, one at each step; yield notes on what is missing.

    `clip_algorithm` (`norm` or `value`) is the clipping algorithm of trials that do not vary it.
    """
    pictures = list(study_pictures(study, summary, clip_algorithm))
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


def study_pictures(study: "Study", summary: StudySummary, clip_algorithm: str) -> Iterator[Picture]:
    """Yield the pictures of a study, not drawn yet; none if no trial has completed.

    They are `history`, `importances`, `slices` (with two objectives also `history_2`, …),
    `parallel_coordinates`, `pareto_front` with two objectives, and `lr_clip_map` if learning rate
    and clipping threshold are varied.
    """
    complete = [row for row in summary.rows if row.state == "complete"]
    if summary.best_row is None:  # no trial is complete with finite values
        return
    plots = _plots(study, summary)
    if any(LR in row.overrides and CLIP in row.overrides for row in complete):
        minimise = bool(study.directions[0].name == "MINIMIZE")
        told: dict[str, Any] = {"objective": summary.objectives[0], "minimise": minimise}
        plots["lr_clip_map"] = partial(clip_map, summary.rows, **told, algorithm=clip_algorithm)
    for name, draw in plots.items():
        kind, about = name.removesuffix("_2"), summary.objectives[name.endswith("_2")]
        of = f", {about}" if kind in ("history", "importances", "slices") else ""
        alt = _study_words(kind, summary, len(complete))
        yield Picture(name, f"{TITLES[kind]}{of}", alt, draw)


def _study_words(kind: str, summary: StudySummary, complete: int) -> str:
    found, best = summary.importance, summary.best_row
    if kind == "importances" and found is not None and found.shares:
        shares = list(found.shares.items())[:MOST_TOLD]
        return f"Most important: {', '.join(f'{name} {share:.0%}' for name, share in shares)}."
    if kind == "pareto_front":
        front = pareto(summary.rows, summary.directions)[:MOST_TOLD]
        told = (f"trial {row.number} ({summary.values_of(row)})" for row in front)
        return f"On the front are {'; '.join(told)}."
    assert best is not None
    return (
        f"{complete} complete trials; the best is trial {best.number}: "
        f"{summary.values_of(best)}, at {point_words(best.overrides)}."
    )


# ── Optuna's pictures ───────────────────────────────────────────────────────────────────────────


def _plots(study: "Study", summary: StudySummary) -> "dict[str, Callable[[], Figure]]":
    """Return the function that draws each picture, by the picture's name."""
    from optuna.visualization import matplotlib as optuna_plots

    plots: dict[str, Callable[[], Figure]] = {}
    objectives = summary.objectives
    for index, (name, found) in enumerate(zip(objectives, summary.importances, strict=True)):
        after = "" if index == 0 else f"_{index + 1}"
        value = partial(lambda place, trial: float(trial.values[place]), index)
        target = None if len(study.directions) == 1 else value
        told: dict[str, Any] = {"target": target, "target_name": name}
        history = partial(optuna_plots.plot_optimization_history, study, **told)
        plots[f"history{after}"] = partial(_figure_of, history)
        plots[f"importances{after}"] = partial(_importances, found, name)
        plots[f"slices{after}"] = partial(_slices, partial(optuna_plots.plot_slice, study, **told))
    plots["parallel_coordinates"] = partial(_parallel, study, objectives)
    if len(objectives) == 2:
        front = partial(optuna_plots.plot_pareto_front, study, target_names=list(objectives))
        plots["pareto_front"] = partial(_figure_of, front)
    return plots


def _figure_of(plot: Callable[[], Any]) -> "Figure":
    """Return the figure of one of Optuna's plots, which returns one or several axes."""
    axes = plot()
    figure: Figure = next(iter(getattr(axes, "flat", [axes]))).figure
    return figure


def _importances(found: "Importances", name: str) -> "Figure":
    """Draw the parameters above chance, each with a line at what shuffled objectives reach."""
    from matplotlib import pyplot

    if not found.shares:
        raise NotDrawnError(f"too few trials ({found.trials} complete)")
    names = list(found.shares)
    places = range(len(names))
    figure, axes = pyplot.subplots(
        figsize=(SMALLEST, 2.0 + INCHES_PER_BAR * len(names)), layout="constrained"
    )
    axes.barh(places, list(found.shares.values()), height=0.6)
    ends = [found.chance[one] for one in names]
    low, high = [place - 0.4 for place in places], [place + 0.4 for place in places]
    axes.vlines(ends, low, high, color="0.4", linestyle=":", label="shuffled objectives reach")
    axes.set_yticks(places, list(map(_in_lines, names)), fontsize=LABEL_POINTS)
    axes.invert_yaxis()
    axes.set_xlabel(f"share in what sets the best trials apart by {name} (PED-ANOVA)")
    axes.legend(loc="best", fontsize="small")
    return figure


def _slices(plot: Callable[[], Any]) -> "Figure":
    """Draw the slices with enough room for the name of each parameter."""
    axes = plot()
    several = list(getattr(axes, "flat", [axes]))
    for one in several:
        one.set_xlabel(_in_lines(one.get_xlabel()), fontsize=LABEL_POINTS)
    return _widened(several[0].figure, len(several))


def _parallel(study: "Study", objectives: Sequence[str]) -> "Figure":
    """Draw the trials as lines, with the full names of the axes, which Optuna truncates."""
    from optuna.visualization import matplotlib as optuna_plots

    axes = optuna_plots.plot_parallel_coordinate(study, target_name=objectives[0])
    trials = [one for one in study.get_trials(deepcopy=False) if one.state.name == "COMPLETE"]
    names = [*objectives, *sorted({name for trial in trials for name in trial.params})]
    if len(names) == len(axes.get_xticks()):
        labels = list(map(_in_lines, names))
        axes.set_xticks(range(len(names)), labels, rotation=0, ha="center", fontsize=LABEL_POINTS)
    figure = _widened(_figure_of(lambda: axes), len(names))
    for bar in (one for one in figure.axes if one.get_label() == "<colorbar>"):
        place = bar.get_position()  # it would cover the numbers of the last axis
        bar.set_position((place.x0 + ROOM, place.y0, place.width, place.height))
    return figure


def _widened(figure: "Figure", axes: int) -> "Figure":
    figure.set_size_inches(max(SMALLEST, INCHES_PER_PARAMETER * axes), 5.0)
    return figure


def _in_lines(name: str) -> str:
    """Insert line breaks into a name such as `trainer.gradient_clip_val (norm) on`."""
    return name.replace(".", ".\n").replace(" (", "\n(")


# ── learning rate and clipping ──────────────────────────────────────────────────────────────────


class _Point(NamedTuple):
    """A trial on the map; `height` is its threshold, or its place in the band without clipping."""

    lr: float
    height: float
    clips: bool
    algorithm: str
    end: str
    value: float


def clip_map(rows: Sequence[Row], *, objective: str, minimise: bool, algorithm: str) -> "Figure":
    """Draw each trial at its learning rate and clipping threshold, coloured by its objective.

    Trials without clipping are in a band of their own. Each clipping algorithm has a panel;
    `algorithm` is the algorithm of trials that do not vary it.
    """
    from matplotlib import pyplot
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    points = [point for row in rows if (point := _point(row, algorithm)) is not None]
    complete = [point for point in points if point.end == "complete"]
    best = (min if minimise else max)(complete, key=lambda point: point.value)
    panels = sorted({point.algorithm for point in points})
    values = [point.value for point in complete]
    coloured = ScalarMappable(
        norm=Normalize(min(values), max(values)), cmap="viridis_r" if minimise else "viridis"
    )
    figure = pyplot.figure(figsize=(1.2 + 5.2 * len(panels), 5.4), layout="constrained")
    grid = figure.add_gridspec(2, len(panels), height_ratios=(1.2, 7), hspace=0.02)
    axes: list[Axes] = []
    for column, name in enumerate(panels):
        band = figure.add_subplot(grid[0, column], sharex=axes[0] if axes else None)
        field = figure.add_subplot(grid[1, column], sharex=band)
        _prepare_panel(band, field, name)
        own = [point for point in points if point.algorithm == name]
        for place, clips in ((field, True), (band, False)):
            held = [point for point in own if point.clips is clips]
            _draw_points(place, held, coloured)
            if best in held:
                look: dict[str, Any] = {"s": 230, "marker": "*", "c": "none", "edgecolors": "red"}
                place.scatter(best.lr, best.height, **look, zorder=4)
        axes += [band, field]
    figure.colorbar(coloured, ax=axes, label=objective)
    marks = [Line2D([], [], ls="", **look, label=name) for name, look in LEGEND.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    return figure


def _point(row: Row, algorithm: str) -> _Point | None:
    lr, clip = row.overrides.get(LR), row.overrides.get(CLIP)
    end = "diverged" if row.reason == "diverged" else str(row.state)
    if lr is None or clip is None or end not in ("complete", *ENDS) or row.reason in RETRIED:
        return None
    clips = clip != "null"
    height = float(clip) if clips else 1.2 * ((row.number * GOLDEN) % 1 - 0.5)
    value = row.values[0] if end == "complete" else math.nan
    kind = row.overrides.get(ALGORITHM, algorithm)
    return _Point(float(lr), height, clips, kind, end, value)


def _prepare_panel(band: "Axes", field: "Axes", algorithm: str) -> None:
    field.set(xscale="log", yscale="log", xlabel=f"{LR} (learning rate)")
    field.set_ylabel(f"{CLIP}\n({UNITS.get(algorithm, algorithm)})")
    field.grid(visible=True, which="major", alpha=0.3)
    band.set(title=f"clipping by {algorithm}", ylim=(-1.2, 1.2), facecolor="0.96")
    band.set_yticks([0], [OFF])
    band.tick_params(labelbottom=False)


def _draw_points(axes: "Axes", points: Sequence[_Point], coloured: Any) -> None:
    for end in (*ENDS, "complete"):
        ended = [point for point in points if point.end == end]
        look: dict[str, Any] = {"s": 34, "linewidths": 1.2, "zorder": 2, **ENDS.get(end, {})}
        if end == "complete":
            look = {"s": 46, "edgecolors": "0.25", "linewidths": 0.5, "zorder": 3}
            look |= {"norm": coloured.norm, "cmap": coloured.cmap}
            look["c"] = [point.value for point in ended]
        axes.scatter([point.lr for point in ended], [point.height for point in ended], **look)


# ── a comparison ────────────────────────────────────────────────────────────────────────────────


def write_comparison_picture(comparison: Comparison, folder: Path) -> list[str]:
    """Write `comparison.png`; return notes on why it is missing, or which letters no font has."""
    picture = comparison_picture(comparison, "comparison", title="comparison")
    with drawing(comparison_names(comparison)) as notes:
        reason = write(picture, folder)
    return [*notes, f"no picture of the comparison: {reason}"] if reason else notes


def comparison_picture(comparison: Comparison, name: str, *, title: str) -> Picture:
    """Return a picture of each cell's mean, 95 % interval and repeats, a panel per data set."""
    told = []
    for cell in comparison.cells[:MOST_CELLS_TOLD]:
        found = cell.spread(comparison.by)
        point = ", ".join(f"{k}={shown_text(v or None)}" for k, v in cell.settings.items())
        told += [f"{point or NETWORK} {found.words()} over {found.n}"] if found.n else []
    alt = f"{comparison.by}: {'; '.join(told) or 'none has completed'}"
    return Picture(name, title, alt, partial(_draw_comparison, comparison))


def comparison_names(comparison: Comparison) -> Iterator[str]:
    """Yield all names that occur in the picture of a comparison."""
    for cell in comparison.cells:
        yield f"{cell.settings.get(DATA, '')} {_cell_name(comparison, cell)}"


def _cell_name(comparison: Comparison, cell: ComparisonCell) -> str:
    settings = {key: cell.settings[key] or None for key in comparison.keys if key != DATA}
    names = short_names(settings)
    words = [f"{names[key]}={shown_text(text)}" for key, text in settings.items()]
    return shown_text(*settings.values()) if len(words) == 1 else " ".join(words) or "network"


def _draw_comparison(comparison: Comparison) -> "Figure":
    from matplotlib import pyplot

    by, blocks = comparison.by, []
    for block in comparison.blocks:
        cells = [cell for cell in block if cell.kind == NETWORK]
        if any(cell.spread(by).n for cell in cells):
            blocks.append((cells, block[len(cells) :]))
    if not blocks:
        raise NotDrawnError("no trial has completed")
    count, most = len(blocks), max(len(cells) for cells, _ in blocks)
    size = (5.2 * count, 1.8 + INCHES_PER_CELL * most)
    figure, axes = pyplot.subplots(1, count, figsize=size, squeeze=False, layout="constrained")
    for panel, (cells, baselines) in zip(axes[0], blocks, strict=True):
        for height, cell in enumerate(cells):
            _draw_cell(panel, by, cell, height)
        for baseline in baselines:
            _draw_baseline(panel, by, baseline, cells)
        panel.set_yticks(range(len(cells)), [_cell_name(comparison, cell) for cell in cells])
        panel.set(ylim=(len(cells) - 0.5, -0.5), xlabel=by)
        panel.grid(visible=True, axis="x", alpha=0.3)
        if cells[0].settings.get(DATA):
            panel.set_title(cells[0].settings[DATA])
        shown = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
        if shown:  # each kind once, however often it is drawn
            panel.legend(shown.values(), shown.keys(), loc="best", fontsize="small")
    return figure


def _draw_cell(axes: "Axes", by: str, cell: ComparisonCell, height: int) -> None:
    found = cell.spread(by)
    if not found.n:
        axes.text(0.02, height, "none complete", transform=axes.get_yaxis_transform(), va="center")
        return
    repeats = list(cell.by_repeat(by).values())
    axes.scatter(repeats, [height] * len(repeats), s=16, color="0.7", zorder=2)
    mean, (low, high) = found.mean, found.interval or (found.mean, found.mean)
    color = "tab:blue" if cell.is_best else "black"
    reach = [[mean - low], [high - mean]]
    axes.errorbar(mean, height, xerr=reach, fmt="o", color=color, capsize=4, zorder=3)


def _draw_baseline(
    axes: "Axes", by: str, baseline: ComparisonCell, cells: Sequence[ComparisonCell]
) -> None:
    """Draw a line at the mean of a baseline, across the networks that share its values."""
    found, settings = baseline.spread(by), baseline.settings.items()
    beside = [n for n, cell in enumerate(cells) if settings <= cell.settings.items()]
    if found.n:
        low, high = [height - 0.5 for height in beside], [height + 0.5 for height in beside]
        look: dict[str, Any] = {"linestyle": LINES[baseline.kind], "label": baseline.kind}
        axes.vlines([found.mean] * len(beside), low, high, color="0.4", **look)
