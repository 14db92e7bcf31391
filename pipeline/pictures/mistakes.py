"""The test rows about which the network was most wrong, as they look."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Array, Findings, Mistakes, TestRows
from pipeline.mistakes import called, probabilities_of
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = {"images": 12, "series": 6}
ACROSS = {"images": 4, "series": 2}
HEIGHTS = {"images": 2.05, "series": 1.9}
"""Inches of a row of pictures."""
MOST_CHANNELS = len(style.LINES)
"""Of a forecast, each with its kind of line."""
MOST_FEATURES = 12
TOLD = 3


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the worst mistakes of images and series, with what the network said."""
    found, test = findings.mistakes, findings.test
    if found is None or test is None or findings.kind not in ACROSS:
        return
    yield Picture(
        name="mistakes/worst",
        title="The worst mistakes on the test rows, with their probabilities"
        if findings.classes
        else "The worst mistakes on the test rows",
        alt=_words(findings, test, found),
        draw=lambda: _draw(findings, test, found),
    )


def _words(findings: Findings, test: TestRows, found: Mistakes) -> str:
    if not len(found.positions):
        return "No test row was mistaken."
    told = [
        f"row {test.rows[at]}: {', '.join(_said(findings, test, int(at), most=24))}"
        for at in found.positions[:TOLD]
    ]
    shown = min(len(found.positions), MOST[findings.kind])
    return f"The {shown} worst mistakes; the first: {'; '.join(told)}."


def _said(findings: Findings, test: TestRows, at: int, *, most: int) -> tuple[str, str]:
    """Return what is true of a row, and what the network said, a line each."""
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


def _draw(findings: Findings, test: TestRows, found: Mistakes) -> "Figure":
    shown = found.positions[: MOST[findings.kind]]
    if not len(shown):
        raise NotDrawnError("no test row was mistaken")
    columns = ACROSS[findings.kind]
    rows = -(-len(shown) // columns)
    figure, axes = style.panels(rows, columns, height=HEIGHTS[findings.kind])
    for index, panel in enumerate(axes.flat):
        if index >= len(shown):
            panel.remove()
            continue
        at = int(shown[index])
        if findings.kind == "images":
            _draw_image(panel, found.inputs[index])
        else:
            _draw_series(panel, findings, found.inputs[index])
            _draw_forecast(panel, findings, test, at, steps=len(found.inputs[index]))
        most = 10 if findings.kind == "images" else 20
        lines = _said(findings, test, at, most=most)
        panel.set_title("\n".join(label(line, 40) for line in lines), fontsize=7.5)
    if findings.kind == "series":
        for panel in axes.flat[max(0, len(shown) - columns) : len(shown)]:
            panel.set_xlabel("step", fontsize=8)
    style.below(figure, axes[0, 0], columns=4)
    return figure


def _draw_image(axes: "Axes", image: Array) -> None:
    """Draw (channels, height, width): three channels in colour, others as their mean in grey."""
    values = _brightness(image)
    if len(values) == 3:
        axes.imshow(values.transpose(1, 2, 0), interpolation="nearest")
    else:
        axes.imshow(values.mean(0), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _brightness(image: Array) -> NDArray[np.float64]:
    """Return values from 0 to 1: of bytes, of shares as they are, of others over their range."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.dtype == np.uint8:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    shares: NDArray[np.float64] = (values - low) / (high - low if high > low else 1.0)
    return shares


def _draw_series(axes: "Axes", findings: Findings, steps: Array) -> None:
    """Draw each feature of (steps, features); of a forecast those that are predicted."""
    names = findings.features or tuple(str(one + 1) for one in range(steps.shape[1]))
    forecast = [names.index(name) for name in findings.targets if name in names]
    shown = forecast[:MOST_CHANNELS] or range(min(steps.shape[1], MOST_FEATURES))
    for order, feature in enumerate(shown):
        look: dict[str, Any] = style.line_of(order)
        if forecast:
            look = {"color": style.foreground(), "linestyle": style.LINES[order]}
        named = steps.shape[1] > 1 and (len(forecast) != 1)
        name = label(names[feature]) if named else None
        axes.plot(style.only_finite(steps[:, feature]), linewidth=1.2, **look, label=name)
    axes.tick_params(labelsize=7)


def _draw_forecast(
    axes: "Axes", findings: Findings, test: TestRows, at: int, *, steps: int
) -> None:
    """Draw what came after the window of a forecast, and what was said."""
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
