"""How a training went, epoch by epoch: losses, metrics, learning rate."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Findings
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 2.1
"""Inches of a metric's height."""
LOG_RATIO = 50.0
"""Largest value over the smallest from which a loss or a learning rate has a log axis."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the curves of a run."""
    yield Picture(
        name="curves/loss",
        title="Loss over the epochs",
        alt=_loss_words(findings),
        draw=lambda: _loss(findings),
    )
    metrics = _metrics(findings)
    if metrics:
        yield Picture(
            name="curves/metrics",
            title="Metrics on the validation rows",
            alt=f"{'; '.join(_told(findings, key) for key in metrics)}. {_kept_words(findings)}",
            draw=lambda: _metric_curves(findings, metrics),
        )
    if len(_values(findings, "lr")):
        yield Picture(
            name="curves/lr",
            title="Learning rate",
            alt=f"The learning rate {_course(findings, 'lr')}.",
            draw=lambda: _rate(findings),
        )


def _epochs(findings: Findings) -> list[int]:
    return sorted(findings.history)


def _curve(findings: Findings, key: str) -> NDArray[np.float64]:
    """Return a value of each epoch, NaN where there is none, (epochs,)."""
    values = [findings.history[epoch].get(key, np.nan) for epoch in _epochs(findings)]
    return style.only_finite(np.asarray(values))


def _values(findings: Findings, key: str) -> NDArray[np.float64]:
    curve = _curve(findings, key)
    return curve[~np.isnan(curve)]


def _metrics(findings: Findings) -> list[str]:
    """Return the validated metrics, the one that decides first."""
    keys = {key for values in findings.history.values() for key in values}
    own = sorted(key for key in keys if key.startswith("val/") and key != "val/loss")
    seen = [key for key in own if len(_values(findings, key))]
    return sorted(seen, key=lambda key: key != findings.monitor)


# ── words ───────────────────────────────────────────────────────────────────────────────────────


def _loss_words(findings: Findings) -> str:
    told = [
        f"{name} loss {_course(findings, key)}"
        for name, key in (("training", "train/loss"), ("validation", "val/loss"))
        if len(_values(findings, key))
    ]
    if not told:
        return "There is no loss: no epoch was finished."
    return f"The {', the '.join(told)}. {_kept_words(findings)}"


def _course(findings: Findings, key: str) -> str:
    values = _values(findings, key)
    if np.ptp(values) == 0:
        return f"is {number(values[0])}{' throughout' if len(values) > 1 else ''}"
    ends = f"goes from {number(values[0])} to {number(values[-1])} in {len(values)} epochs"
    lowest = values.min()
    return ends if lowest in (values[0], values[-1]) else f"{ends} (lowest {number(lowest)})"


def _told(findings: Findings, key: str) -> str:
    values = _values(findings, key)
    between = f" (between {number(values.min())} and {number(values.max())})"
    name = short(key.removeprefix("val/"))
    return f"{name} {number(values[-1])} at the end{between if np.ptp(values) else ''}"


def _kept_words(findings: Findings) -> str:
    words = f"The weights of epoch {_kept(findings)} were kept"
    if findings.end == "diverged":
        words += f"; training diverged after {len(findings.history)} whole epochs"
    return f"{words}."


def _kept(findings: Findings) -> int:
    return findings.kept if findings.kept is not None else max(findings.history, default=0)


# ── drawing ─────────────────────────────────────────────────────────────────────────────────────


def _loss(findings: Findings) -> "Figure":
    curves = {
        "training": ("train/loss", style.TRAIN, "-"),
        "validation": ("val/loss", style.VALIDATION, "--"),
    }
    drawn = {name: one for name, one in curves.items() if len(_values(findings, one[0]))}
    if not drawn:
        raise NotDrawnError("no epoch was finished, so there is no loss to draw")
    figure, axes = style.panels(height=3.6)
    for name, (key, colour, line) in drawn.items():
        _draw(axes[0, 0], findings, key, color=colour, linestyle=line, label=name)
    every = np.concatenate([_curve(findings, key) for key, _, _ in drawn.values()])
    if style.spans_decades(every, ratio=LOG_RATIO):
        axes[0, 0].set_yscale("log")
    axes[0, 0].set_ylabel("loss")
    _mark_kept(axes[0, 0], findings)
    if findings.end == "diverged":
        axes[0, 0].set_title("training diverged after these epochs")
    style.below(figure, axes[0, 0], columns=3)
    return figure


def _metric_curves(findings: Findings, metrics: list[str]) -> "Figure":
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, axes = style.panels(rows, columns, height=PANEL, sharex=True)
    for panel, key in zip(axes.flat, metrics, strict=False):
        _draw(panel, findings, key, color=style.VALIDATION)
        weight = "bold" if key == findings.monitor else "normal"
        panel.set_title(label(key.removeprefix("val/")), fontsize=10, fontweight=weight)
        _mark_kept(panel, findings)
    for panel in axes.flat[len(metrics) :]:
        panel.remove()
    for panel in axes.flat[: max(0, len(metrics) - columns)]:
        panel.set_xlabel("")
    for panel in axes.flat[len(metrics) - columns : len(metrics)]:
        panel.tick_params(labelbottom=True)  # what stands above an empty place, too
    style.below(figure, axes[0, 0], columns=2)
    return figure


def _rate(findings: Findings) -> "Figure":
    figure, axes = style.panels(height=2.6)
    _draw(axes[0, 0], findings, "lr", color=style.TRAIN)
    if style.spans_decades(_curve(findings, "lr"), ratio=LOG_RATIO):
        axes[0, 0].set_yscale("log")
    else:
        axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].set_ylabel("learning rate")
    return figure


def _draw(axes: "Axes", findings: Findings, key: str, **look: Any) -> None:
    epochs = _epochs(findings)
    axes.plot(epochs, _curve(findings, key), marker=style.mark(len(epochs)), ms=3.5, **look)
    style.epochs_across(axes, epochs)


def _mark_kept(axes: "Axes", findings: Findings) -> None:
    epoch = _kept(findings)
    if epoch in findings.history:
        what = f"kept weights: epoch {epoch}"
        axes.axvline(epoch, color=style.QUIET, linestyle=":", linewidth=1.5, zorder=1, label=what)
