"""Curves of a training: losses, metrics and learning rate over the epochs; the range test."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Findings, LrCurve
from pipeline.pictures import style
from pipeline.pictures.picture import NotDrawnError, Picture
from pipeline.pictures.style import label, short
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

PANEL = 2.1
"""Height of a metric's panel in inches."""
LOG_RATIO = 50.0
"""Largest value over the smallest from which a loss or a learning rate has a log axis."""


def pictures(findings: Findings) -> Iterator[Picture]:
    """Yield the curves of a run."""
    yield Picture(
        name="curves/loss",
        title="Loss over the epochs",
        alt=_loss_words(findings),
        draw=partial(_loss, findings),
    )
    metrics = _metrics(findings)
    if metrics:
        told = "; ".join(_metric_words(findings, key) for key in metrics)
        yield Picture(
            name="curves/metrics",
            title="Metrics on the validation rows",
            alt=f"{told}. {_kept_words(findings)}",
            draw=partial(_metric_curves, findings, metrics),
        )
    if len(_values(findings, "lr")):
        yield Picture(
            name="curves/lr",
            title="Learning rate",
            alt=f"The learning rate {_course(findings, 'lr')}.",
            draw=partial(_rate, findings),
        )


def _curve(findings: Findings, key: str) -> Floats:
    """Return a value of each epoch, NaN where there is none, (epochs,)."""
    values = [findings.history[epoch].get(key, np.nan) for epoch in sorted(findings.history)]
    return style.only_finite(np.asarray(values))


def _values(findings: Findings, key: str) -> Floats:
    curve = _curve(findings, key)
    return curve[~np.isnan(curve)]


def _metrics(findings: Findings) -> list[str]:
    """Return the validation metrics, the monitored one first."""
    keys = {key for values in findings.history.values() for key in values}
    own = sorted(key for key in keys if key.startswith("val/") and key != "val/loss")
    seen = [key for key in own if len(_values(findings, key))]
    return sorted(seen, key=lambda key: key != findings.monitor)


def _kept(findings: Findings) -> int:
    return findings.kept if findings.kept is not None else max(findings.history, default=0)


# ── alternative texts ───────────────────────────────────────────────────────────────────────────


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


def _metric_words(findings: Findings, key: str) -> str:
    values = _values(findings, key)
    between = f" (between {number(values.min())} and {number(values.max())})"
    name = short(key.removeprefix("val/"))
    return f"{name} {number(values[-1])} at the end{between if np.ptp(values) else ''}"


def _kept_words(findings: Findings) -> str:
    words = f"The weights of epoch {_kept(findings)} were kept"
    if findings.end == "diverged":
        words += f"; training diverged after {len(findings.history)} whole epochs"
    return f"{words}."


# ── over the epochs ─────────────────────────────────────────────────────────────────────────────


def _loss(findings: Findings) -> "Figure":
    figure, grid = style.panels(height=3.6)
    axes = grid[0, 0]
    for name, key, colour, line in (
        ("training", "train/loss", style.TRAIN, "-"),
        ("validation", "val/loss", style.VALIDATION, "--"),
    ):
        if len(_values(findings, key)):
            _draw(axes, findings, key, color=colour, linestyle=line, label=name)
    if not axes.lines:
        raise NotDrawnError("no epoch was finished, so there is no loss to draw")
    every = np.concatenate([line.get_ydata() for line in axes.lines])
    if style.spans_decades(every, ratio=LOG_RATIO):
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    _mark_kept(axes, findings)
    if findings.end == "diverged":
        axes.set_title("training diverged after these epochs")
    style.below(figure, axes, columns=3)
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
        panel.tick_params(labelbottom=True)  # also above an empty place
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
    epochs = sorted(findings.history)
    axes.plot(epochs, _curve(findings, key), marker=style.mark(len(epochs)), ms=3.5, **look)
    style.epochs_across(axes, epochs)


def _mark_kept(axes: "Axes", findings: Findings) -> None:
    epoch = _kept(findings)
    if epoch in findings.history:
        what = f"kept weights: epoch {epoch}"
        axes.axvline(epoch, color=style.QUIET, linestyle=":", linewidth=1.5, zorder=1, label=what)


# ── over the learning rate ──────────────────────────────────────────────────────────────────────


def lr_range(curve: LrCurve) -> "Figure":
    """Draw the losses of a range test over the learning rate, with the rates that it found."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), layout="constrained")
    axes.set_xscale("log")
    axes.set_xlabel("optimizer.lr (learning rate of the step)")
    axes.set_ylabel("train/loss")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.scatter(curve.rates, curve.losses, s=12, c="0.6", label="loss of a batch", zorder=2)
    if len(curve.smoothed):
        axes.plot(curve.rates, curve.smoothed, color=style.TRAIN, lw=2, label="smoothed", zorder=3)
        _limit(axes, curve.losses, curve.smoothed)
    if curve.suggestion is not None:
        _mark_rates(axes, curve)
    if not len(curve.rates):
        axes.text(0.5, 0.5, "no loss is a number", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    elif curve.blown_up is not None:
        end = 1.5 * max([curve.blown_up, *curve.rates[-1:].tolist()])
        what = f"blows up at {curve.blown_up:.3g}"
        axes.axvspan(curve.blown_up, end, color="0.9", zorder=0, label=what)
        axes.set_xlim(right=end)
    suggested = f"suggested: optimizer.lr={curve.suggestion:g}" if curve.suggestion else ""
    axes.set_title(suggested or "no rate is suggested", loc="left")
    axes.legend(framealpha=0.9)
    return figure


def _mark_rates(axes: "Axes", curve: LrCurve) -> None:
    for rate, marker, words in (
        (curve.steepest, "v", "falls fastest"),
        (curve.suggestion, "o", "suggested"),
        (curve.lowest, "s", "lowest"),
    ):
        assert rate is not None
        height = float(np.interp(np.log(rate), np.log(curve.rates), curve.smoothed))
        colour, size = (style.VALIDATION, 10) if marker == "o" else (style.TRAIN, 7)
        look: dict[str, Any] = {"marker": marker, "color": colour, "ms": size, "mec": "white"}
        axes.plot([rate], [height], ls="", zorder=4, label=f"{words}: {rate:.2g}", **look)
        if marker == "o":
            axes.axvline(rate, color=colour, lw=1.2, ls="--", zorder=2)


def _limit(axes: "Axes", losses: Floats, smoothed: Floats) -> None:
    """Cut the axis off well above the first loss: what is higher says nothing."""
    low, start = float(smoothed.min()), float(smoothed[0])
    noise = float((losses - smoothed)[: max(3, len(losses) // 10)].std())
    height = max(start - low, 6 * noise)
    if height > 0:
        axes.set_ylim(low - 0.4 * height, start + 0.6 * height)
