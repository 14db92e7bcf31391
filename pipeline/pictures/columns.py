"""Which columns of a table the network goes by."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.findings.records import Array, Findings, Importances
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20
"""Columns that are drawn."""
TOLD = 3


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the importances of the columns, where they were measured."""
    found = findings.importances
    if found is not None and found.columns:
        yield Picture(
            name="columns/importance",
            title="Which columns the network goes by",
            alt=_words(found),
            draw=lambda: _draw(found),
        )


def _measured(found: Importances) -> tuple[Array, Array]:
    """Return means over the repeats, and the places of the columns that have one, best first."""
    falls = style.only_finite(found.falls)
    known = ~np.isnan(falls).any(1)
    means = np.where(known, np.nan_to_num(falls).mean(1), -np.inf)
    order = np.argsort(-means, kind="stable")[: int(known.sum())]
    return means, order


def _words(found: Importances) -> str:
    means, order = _measured(found)
    told = ", ".join(
        f"{short(found.columns[index])} {number(float(means[index]))}" for index in order[:TOLD]
    )
    return (
        f"How much worse {short(found.metric)} on {found.part} rows gets when the values of a "
        f"column are dealt out anew; most for: {told or 'no column'}. {_left_out(found)}".strip()
    )


def _left_out(found: Importances) -> str:
    """Say what is not drawn, and why."""
    _, order = _measured(found)
    count, measured = len(found.columns), len(order)
    if measured < count:
        return (
            f"Of {count:,} columns {measured:,} were measured each, those of the groups of columns "
            "that mattered most."
        )
    return f"The {MOST} most important of {count:,} columns." if count > MOST else ""


def _draw(found: Importances) -> "Figure":
    means, order = _measured(found)
    if not len(order):
        raise NotDrawnError(f"no column has an importance: {found.metric} is no number")
    if not found.falls[order].any():
        raise NotDrawnError(f"no column alone changes {found.metric} on the {found.part} rows")
    shown = order[:MOST]
    height = 1.5 + 0.27 * len(shown)
    figure, axes = style.panels(height=height)
    panel, places = axes[0, 0], np.arange(len(shown))
    panel.barh(places, means[shown], height=0.6, color=style.TRAIN)
    repeats = found.falls[shown]
    dots: dict[str, Any] = {
        "s": 9,
        "color": style.QUIET,
        "edgecolors": style.foreground(),
        "linewidths": 0.4,
    }
    panel.scatter(repeats, np.repeat(places, repeats.shape[1]), zorder=3, label="repeats", **dots)
    panel.axvline(0, color=style.foreground(), linewidth=0.8)
    panel.set_yticks(places, [label(found.columns[index], 28) for index in shown], fontsize=9)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    word = "rise" if found.metric in ("rmse", "mae", "loss") else "fall"
    panel.set_xlabel(f"{word} of {label(found.metric)} on {found.part} rows")
    if left := _left_out(found):
        panel.set_title(left.replace(" each, ", " each,\n"), fontsize=9, loc="left")
    style.below(figure, panel, columns=1)
    return figure
