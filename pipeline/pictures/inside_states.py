"""What happens step by step: states, gates and cells, and a dense layer applied to each step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.findings.records import Array, Findings, Inside
from pipeline.pictures import style
from pipeline.pictures.inside_parts import (
    SIGNED,
    View,
    around_zero,
    as_series,
    draw_series,
    figure_of,
    file_of,
    heading,
    limits,
    row_names,
    scale,
    some_layers,
    spans,
    views_of,
    words,
)
from pipeline.pictures.picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GATES = ("forget gate", "input gate", "output gate", "reset gate", "update gate")
SEEN = (*GATES, "candidate", "cell", "state")
"""All that is seen of a cell, in the order in which it is drawn."""
MOST_SAMPLES = 3
"""Rows that are drawn side by side."""
MOST_GATED = 4
"""Layers and directions whose gates are drawn, the first ones; the states show all of them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """One heat map over time of each sample."""

    text: str
    view: View
    gate: bool


def pictures(findings: Findings, inside: Inside) -> Iterator[Picture]:
    """Yield the pictures of all that happens step by step, if anything does."""
    steps = [view for view in views_of(inside, "activation") if view.values.ndim == 3]
    states, left_out = some_layers([*views_of(inside, "state"), *steps])
    if not states:
        return
    rows = [_Row(text=view.title, view=view, gate=False) for view in states]
    yield Picture(
        name="inside/states",
        title="States over time",
        alt=f"Heat maps, step by step and unit by unit, of {words(inside)}: {spans(states)}.",
        draw=lambda: _over_time(findings, inside, rows, ("States over time", left_out)),
    )
    yield from _gates(findings, inside, [view.layer for view in views_of(inside, "state")])


def _gates(findings: Findings, inside: Inside, layers: Sequence[str]) -> Iterator[Picture]:
    """Yield a picture of each layer and direction that has gates."""
    found = {layer: _rows_of(inside, layer) for layer in layers}
    gated = {layer: rows for layer, rows in found.items() if any(row.gate for row in rows)}
    few = f"{MOST_GATED} of {len(gated)} layers" if len(gated) > MOST_GATED else ""
    for layer, rows in islice(gated.items(), MOST_GATED):
        place = f"_{file_of(layer)}" if len(gated) > 1 else ""
        yield _gates_picture(findings, inside, rows, place=place, left_out=few)


def _gates_picture(
    findings: Findings, inside: Inside, rows: Sequence[_Row], *, place: str, left_out: str
) -> Picture:
    told = "; ".join(f"{row.text} {_span(row)}" for row in rows)
    texts = (f"Gates of {rows[0].view.title}", left_out)
    return Picture(
        name=f"inside/gates{place}",
        title=f"Gates of {rows[0].view.layer} over time",
        alt=f"Heat maps, step by step and unit by unit, of {words(inside)}: {told}.",
        draw=lambda: _over_time(findings, inside, rows, texts),
    )


def _span(row: _Row) -> str:
    low, high = limits(row.view.values)
    return f"from {low:.3g} to {high:.3g}"


def _rows_of(inside: Inside, layer: str) -> list[_Row]:
    return [
        _Row(text=kind, view=view, gate=kind in GATES)
        for kind in SEEN
        for view in views_of(inside, kind)
        if view.layer == layer
    ]


def _over_time(
    findings: Findings, inside: Inside, rows: Sequence[_Row], texts: tuple[str, str]
) -> "Figure":
    """Draw the input of a few samples, and below it what happens at each of its steps."""
    samples = min(MOST_SAMPLES, len(inside.rows))
    size = (1.6 + 2.5 * samples, 1.6 + 1.15 * len(rows))
    figure, axes = figure_of(len(rows) + 1, samples, size=size)
    few = f"{samples} of {len(inside.rows)} rows" if samples < len(inside.rows) else ""
    title, left_out = texts
    figure.suptitle(heading(findings, title, left_out, few), fontsize=10)
    _draw_inputs(findings, inside, axes[0])
    length = len(as_series(inside.inputs[0]))
    for line, row in zip(axes[1:], rows, strict=True):
        _draw_row(line, row, length=length)
        scale(figure, line[0].images[0], line, side="right")
    # Matplotlib spends most of its time on ticks.
    for axis in axes[:-1].flat:
        axis.set_xticks([])
    for axis in axes[:, 1:].flat:
        axis.set_yticks([])
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8)
    figure.align_ylabels(axes[:, 0])
    if len(axes[0, 0].get_lines()) > 1:
        style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_inputs(findings: Findings, inside: Inside, line: Array) -> None:
    series = [as_series(sample) for sample in inside.inputs[: len(line)]]
    ends = limits(inside.inputs[: len(line)])
    for axis, sample, name in zip(line, series, row_names(inside), strict=False):
        draw_series(axis, sample, findings.features)
        axis.set_title(name.replace("\n", ", "), fontsize=8)
        if not axis.images:
            room = 0.05 * (ends[1] - ends[0])
            axis.set_ylim(ends[0] - room, ends[1] + room)
    line[0].set_ylabel("input\nfeature" if line[0].images else "input", fontsize=8)


def _draw_row(line: Array, row: _Row, *, length: int) -> None:
    values = row.view.values
    low, high = (0.0, 1.0) if row.gate else around_zero(values[: len(line)])
    units = values.shape[2]
    extent = (-0.5, length - 0.5, 0.5, units + 0.5)
    for axis, sample in zip(line, values, strict=False):
        axis.imshow(
            sample.T,
            cmap=style.SHARES if row.gate else SIGNED,
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="nearest",
            origin="lower",
            extent=extent,
        )
        axis.tick_params(labelsize=7)
    line[0].set_yticks(sorted({1, units}))
    line[0].set_ylabel(f"{row.text}\nunit", fontsize=8)
