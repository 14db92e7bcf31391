"""A closer look at a trained network: its worst mistakes, and which columns it goes by."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.findings import Array, Findings, Importances, Mistakes, TestRows
from pipeline.mistakes import called, probabilities_of
from pipeline.pictures import style
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.pictures.style import label, short
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = {"images": 12, "series": 6}
ACROSS = {"images": 4, "series": 2}
"""Rows that are shown, and shown side by side, by what a row is; a table's are not."""
HEIGHTS = {"images": 2.05, "series": 1.9}
"""Height of a panel in inches."""
MOST_CHANNELS = len(style.LINES)
"""Channels of a forecast that are drawn, each with its line style."""
MOST_FEATURES = 12
MOST_COLUMNS = 20
TOLD = 3
"""Rows or columns in an alternative text."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the worst mistakes of images and series, and the importance of a table's columns."""
    mistakes, test, importances = findings.mistakes, findings.test, findings.importances
    if mistakes is not None and test is not None and findings.kind in ACROSS:
        probabilities = ", with their probabilities" if findings.classes else ""
        yield Picture(
            name="mistakes/worst",
            title=f"The worst mistakes on the test rows{probabilities}",
            alt=_mistake_words(findings, test, mistakes),
            draw=partial(_draw_mistakes, findings, test, mistakes),
        )
    if importances is not None and importances.columns:
        yield Picture(
            name="columns/importance",
            title="Which columns the network goes by",
            alt=_importance_words(importances),
            draw=partial(_draw_importances, importances),
        )


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────


def _mistake_words(findings: Findings, test: TestRows, found: Mistakes) -> str:
    if not len(found.positions):
        return "No test row was mistaken."
    told = [
        f"row {test.rows[at]}: {', '.join(_said(findings, test, int(at), most=24))}"
        for at in found.positions[:TOLD]
    ]
    shown = min(len(found.positions), MOST_ROWS[findings.kind])
    return f"The {shown} worst mistakes; the first: {'; '.join(told)}."


def _said(findings: Findings, test: TestRows, at: int, *, most: int) -> tuple[str, str]:
    """Return what is true of a row, and what the network predicted, a line each."""
    if findings.task == "regression":
        units = f" {short(findings.units, 8)}" if findings.units else ""
        said = [
            ", ".join(number(float(value)) for value in values[at][:2])
            + (", …" if len(values[at]) > 2 else "")
            for values in (test.targets, test.outputs)
        ]
        return f"true {said[0]}{units}", f"predicted {said[1]}{units}"
    shares = probabilities_of(test)[at]
    pair = int(test.targets[at]), int(called(test, threshold=findings.threshold)[at])
    names = [f"{short(findings.classes[one], most)} ({shares[one]:.0%})" for one in pair]
    return f"true: {names[0]}", f"said: {names[1]}"


def _draw_mistakes(findings: Findings, test: TestRows, found: Mistakes) -> "Figure":
    shown = found.positions[: MOST_ROWS[findings.kind]]
    if not len(shown):
        raise NotDrawnError("no test row was mistaken")
    images = findings.kind == "images"
    columns = ACROSS[findings.kind]
    figure, axes = style.panels(-(-len(shown) // columns), columns, height=HEIGHTS[findings.kind])
    for panel in axes.flat[len(shown) :]:
        panel.remove()
    for panel, at, inputs in zip(axes.flat, shown, found.inputs, strict=False):
        if images:
            _draw_image(panel, inputs)
        else:
            _draw_series(panel, findings, inputs)
            _draw_forecast(panel, findings, test, int(at), steps=len(inputs))
        lines = _said(findings, test, int(at), most=10 if images else 20)
        panel.set_title("\n".join(label(line, 40) for line in lines), fontsize=7.5)
    if not images:
        for panel in axes.flat[max(0, len(shown) - columns) : len(shown)]:
            panel.set_xlabel("step", fontsize=8)
    style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_image(axes: "Axes", image: Array) -> None:
    """Draw (channels, height, width): three channels in colour, others as their mean in grey.

    Bytes are scaled by 255, values from 0 to 1 are as they are, others are scaled to their range.
    """
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.dtype == np.uint8:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    values = (values - low) / (high - low if high > low else 1.0)
    if len(values) == 3:
        axes.imshow(values.transpose(1, 2, 0), interpolation="nearest")
    else:
        axes.imshow(values.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _draw_series(axes: "Axes", findings: Findings, steps: Array) -> None:
    """Draw each feature of (steps, features); of a forecast those that are predicted."""
    names = findings.features or tuple(str(one + 1) for one in range(steps.shape[1]))
    forecast = [names.index(name) for name in findings.targets if name in names]
    shown = forecast[:MOST_CHANNELS] or range(min(steps.shape[1], MOST_FEATURES))
    for order, feature in enumerate(shown):
        look: dict[str, Any] = style.line_of(order)
        if forecast:
            look = {"color": style.foreground(), "linestyle": style.LINES[order]}
        named = steps.shape[1] > 1 and len(forecast) != 1
        name = label(names[feature]) if named else None
        axes.plot(style.only_finite(steps[:, feature]), linewidth=1.2, **look, label=name)
    axes.tick_params(labelsize=7)


def _draw_forecast(
    axes: "Axes", findings: Findings, test: TestRows, at: int, *, steps: int
) -> None:
    """Draw the true and the predicted values after the window of a forecast."""
    if not findings.targets:
        return
    channels = len(findings.targets)
    after = steps + np.arange(findings.horizon)
    for values, colour, mark, what in (
        (test.targets, style.foreground(), "o", "truth"),
        (test.outputs, style.NETWORK, "X", "network"),
    ):
        for channel in range(min(channels, MOST_CHANNELS)):
            said = style.only_finite(values[at, channel::channels])
            look: dict[str, Any] = {"color": colour, "linestyle": style.LINES[channel]}
            name = what if channel == 0 else None
            axes.plot(after, said, marker=mark, ms=4, linewidth=1.2, **look, label=name)
    axes.axvline(steps - 0.5, color=style.QUIET, linestyle=":", linewidth=1)


# ── importance of columns ───────────────────────────────────────────────────────────────────────


def _measured(found: Importances) -> tuple[Array, Array]:
    """Return means over the repeats, and the places of the columns that have one, best first."""
    falls = style.only_finite(found.falls)
    known = ~np.isnan(falls).any(1)
    means = np.where(known, np.nan_to_num(falls).mean(1), -np.inf)
    order = np.argsort(-means, kind="stable")[: int(known.sum())]
    return means, order


def _importance_words(found: Importances) -> str:
    means, order = _measured(found)
    told = ", ".join(
        f"{short(found.columns[index])} {number(float(means[index]))}" for index in order[:TOLD]
    )
    return (
        f"How much worse {short(found.metric)} on {found.part} rows gets when the values of a "
        f"column are dealt out anew; most for: {told or 'no column'}. "
        f"{_left_out(found, len(order))}".strip()
    )


def _left_out(found: Importances, measured: int) -> str:
    """Say what is not drawn, and why."""
    count = len(found.columns)
    if measured < count:
        return (
            f"Of {count:,} columns {measured:,} were measured each, those of the groups of columns "
            "that mattered most."
        )
    few = f"The {MOST_COLUMNS} most important of {count:,} columns."
    return few if count > MOST_COLUMNS else ""


def _draw_importances(found: Importances) -> "Figure":
    means, order = _measured(found)
    if not len(order):
        raise NotDrawnError(f"no column has an importance: {found.metric} is no number")
    if not found.falls[order].any():
        raise NotDrawnError(f"no column alone changes {found.metric} on the {found.part} rows")
    shown = order[:MOST_COLUMNS]
    figure, axes = style.panels(height=1.5 + 0.27 * len(shown))
    panel, places = axes[0, 0], np.arange(len(shown))
    panel.barh(places, means[shown], height=0.6, color=style.TRAIN)
    repeats = found.falls[shown]
    panel.scatter(
        repeats,
        np.repeat(places, repeats.shape[1]),
        zorder=3,
        label="repeats",
        s=9,
        color=style.QUIET,
        edgecolors=style.foreground(),
        linewidths=0.4,
    )
    panel.axvline(0, color=style.foreground(), linewidth=0.8)
    panel.set_yticks(places, [label(found.columns[index], 28) for index in shown], fontsize=9)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    word = "rise" if found.metric in ("rmse", "mae", "loss") else "fall"
    panel.set_xlabel(f"{word} of {label(found.metric)} on {found.part} rows")
    if left := _left_out(found, len(order)):
        panel.set_title(left.replace(" each, ", " each,\n"), fontsize=9, loc="left")
    style.below(figure, panel, columns=1)
    return figure
