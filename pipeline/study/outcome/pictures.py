"""A study in pictures: Optuna's own, and the map of learning rate and clipping."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.pictures.picture import drawing, own_style, save
from pipeline.study.ledger.rows import Row
from pipeline.study.outcome.clip_map import clip_map, has_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from pipeline.study.ledger.importances import Importances

INCHES_A_PARAMETER = 2.1
SMALLEST = 7.0  # inches
INCHES_A_BAR = 0.5
LABEL_POINTS = 8
ROOM = 0.06
"""Share of a picture's width that the numbers of an axis take."""

Drawn = tuple[str, "Callable[[], Figure]"]


def write_pictures(
    study: "Study",
    rows: Sequence[Row],
    folder: Path,
    *,
    objectives: Sequence[str],
    importances: "Sequence[Importances]",
    clip_algorithm: str = "norm",
) -> list[str]:
    """Write PNGs of a study into a folder and say which could not be made, and why.

    They are `history`, `importances`, `slices` (one each an objective where there are two:
    `history_2`, …), `parallel_coordinates`, `pareto_front` for two objectives, and
    `lr_clip_map` where both are varied.

    Args:
        study: As Optuna has it.
        rows: The same trials as plain records.
        folder: Where to write; it is made where it is missing.
        objectives: Names of what the study is about.
        importances: Which parameters stand out, for each of them.
        clip_algorithm: `norm` or `value`: that of trials that do not vary it.
    """
    if not any(row.state == "complete" for row in rows):
        return ["no pictures: no trial has completed"]
    with drawing(texts(rows, objectives)) as notes:
        for name, draw in pictures(study, rows, objectives, importances, clip_algorithm):
            try:
                with own_style():
                    save(draw(), folder / f"{name}.png")
            except Exception as error:  # no picture is worth a study's end
                reason = " ".join(str(error).split()) or type(error).__name__
                notes.append(f"no picture {name}: {reason}")
    return notes


def texts(rows: Sequence[Row], objectives: Sequence[str]) -> Iterator[str]:
    """Yield all names and values that the pictures hold."""
    yield from objectives
    for row in rows:
        yield from (*row.params, *row.overrides, *row.overrides.values())


def pictures(
    study: "Study",
    rows: Sequence[Row],
    objectives: Sequence[str],
    importances: "Sequence[Importances]",
    clip_algorithm: str,
) -> Iterator[Drawn]:
    """Yield each picture that `write_pictures` writes, by its name; none is drawn yet."""
    for index, (name, found) in enumerate(zip(objectives, importances, strict=True)):
        yield from _of_objective(study, index, name, found)
    yield "parallel_coordinates", lambda: _parallel(study, objectives)
    if len(objectives) == 2:
        yield "pareto_front", lambda: _pareto(study, objectives)
    if has_map(rows):
        minimise = _minimises(study, 0)
        told: dict[str, Any] = {"objective": objectives[0], "minimise": minimise}
        yield "lr_clip_map", lambda: clip_map(rows, **told, algorithm=clip_algorithm)


def _of_objective(
    study: "Study", index: int, name: str, importances: "Importances"
) -> Iterator[Drawn]:
    from optuna.visualization import matplotlib as plots

    after = "" if index == 0 else f"_{index + 1}"

    def value(trial: "FrozenTrial") -> float:
        return float(trial.values[index])

    target = None if len(study.directions) == 1 else value
    told: dict[str, Any] = {"target": target, "target_name": name}
    yield f"history{after}", lambda: _figure(plots.plot_optimization_history(study, **told))
    yield f"importances{after}", lambda: _importances(importances, name)
    yield f"slices{after}", lambda: _slices(plots.plot_slice(study, **told))


def _importances(found: "Importances", name: str) -> "Figure":
    """Draw the parameters that stand out, with a line where shuffled objectives end."""
    from matplotlib import pyplot

    if not found.shares:
        raise ValueError(f"too few trials ({found.trials} complete)")
    names = list(found.shares)
    places = range(len(names))
    figure, axes = pyplot.subplots(
        figsize=(SMALLEST, 2.0 + INCHES_A_BAR * len(names)), layout="constrained"
    )
    axes.barh(places, [found.shares[one] for one in names], height=0.6)
    ends = [found.chance[one] for one in names]
    low, high = [place - 0.4 for place in places], [place + 0.4 for place in places]
    axes.vlines(ends, low, high, color="0.4", linestyle=":", label="shuffled objectives reach")
    axes.set_yticks(places, list(map(_in_lines, names)), fontsize=LABEL_POINTS)
    axes.invert_yaxis()
    axes.set_xlabel(f"share in what sets the best trials apart by {name} (PED-ANOVA)")
    axes.legend(loc="best", fontsize="small")
    return figure


def _slices(axes: Any) -> "Figure":
    """Give each parameter the room for its name."""
    several = list(getattr(axes, "flat", [axes]))
    for one in several:
        one.set_xlabel(_in_lines(one.get_xlabel()), fontsize=LABEL_POINTS)
    return _widened(_figure(axes), len(several))


def _parallel(study: "Study", objectives: Sequence[str]) -> "Figure":
    """Draw the trials as lines; Optuna cuts the names of the axes, which are in sorted order."""
    from optuna.visualization import matplotlib as plots

    axes = plots.plot_parallel_coordinate(study, target_name=objectives[0])
    names = [*objectives, *sorted({name for trial in _complete(study) for name in trial.params})]
    if len(names) == len(axes.get_xticks()):
        labels = list(map(_in_lines, names))
        axes.set_xticks(range(len(names)), labels, rotation=0, ha="center", fontsize=LABEL_POINTS)
    figure = _widened(_figure(axes), len(names))
    for bar in (one for one in figure.axes if one.get_label() == "<colorbar>"):
        place = bar.get_position()  # it stands where the last axis has its numbers
        bar.set_position((place.x0 + ROOM, place.y0, place.width, place.height))
    return figure


def _pareto(study: "Study", objectives: Sequence[str]) -> "Figure":
    from optuna.visualization import matplotlib as plots

    return _figure(plots.plot_pareto_front(study, target_names=list(objectives)))


def _complete(study: "Study") -> "list[FrozenTrial]":
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _minimises(study: "Study", index: int) -> bool:
    return bool(study.directions[index].name == "MINIMIZE")


def _figure(axes: Any) -> "Figure":
    """Return the figure of one of Optuna's plots: of its axes, or of the first of several."""
    figure: Figure = next(iter(getattr(axes, "flat", [axes]))).figure
    return figure


def _widened(figure: "Figure", axes: int) -> "Figure":
    figure.set_size_inches(max(SMALLEST, INCHES_A_PARAMETER * axes), 5.0)
    return figure


def _in_lines(name: str) -> str:
    """Break `trainer.gradient_clip_val (norm) on` where it may be broken."""
    return name.replace(".", ".\n").replace(" (", "\n(")
