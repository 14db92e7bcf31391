"""The curves of two runs on one set of axes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.findings.records import Findings
from pipeline.pictures import style
from pipeline.pictures.picture import Picture
from pipeline.reporting.against import Against
from pipeline.terminal import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"A": style.TRAIN, "B": style.VALIDATION}
LOG_RATIO = 50.0


def pictures(against: Against) -> Iterator[Picture]:
    """Yield the losses of both, then what each was judged by on the validation rows."""
    both = dict(zip("AB", against.findings, strict=True))
    for key in dict.fromkeys(["loss", *_judged(both)]):
        keys = [f"train/{key}", f"val/{key}"]
        known = [one for one in keys if any(_curve(run, one) for run in both.values())]
        yield Picture(
            name=f"curves/{key}",
            title=f"{key} over the epochs",
            alt=_words(both, known) or f"neither run has a {key}",
            draw=lambda keys=known, name=key: _draw(both, keys, name),  # type: ignore[misc] # of this turn
        )


def _judged(both: dict[str, Findings]) -> list[str]:
    return [findings.monitor.rpartition("/")[2] for findings in both.values()]


def _curve(findings: Findings, key: str) -> dict[int, float]:
    return {epoch: values[key] for epoch, values in findings.history.items() if key in values}


def _words(both: dict[str, Findings], keys: list[str]) -> str:
    told = []
    for key in keys:
        for letter, findings in both.items():
            values = list(_curve(findings, key).values())
            if values:
                told.append(f"{letter}'s {key} from {number(values[0])} to {number(values[-1])}")
    return "; ".join(told)


def _draw(both: dict[str, Findings], keys: list[str], name: str) -> "Figure":
    figure, axes = style.panels()
    panel: Axes = axes[0, 0]
    epochs: set[int] = {1}
    values: list[float] = []
    for letter, findings in both.items():
        for key in keys:
            curve = _curve(findings, key)
            if not curve:
                continue
            epochs |= curve.keys()
            values += curve.values()
            part = "training" if key.startswith("train/") else "validation"
            panel.plot(
                list(curve),
                list(curve.values()),
                color=COLOURS[letter],
                linestyle="--" if part == "training" else "-",
                marker=style.mark(len(curve)),
                markersize=3,
                label=f"{letter}, {part}",
            )
        if findings.kept is not None:
            panel.axvline(findings.kept, color=COLOURS[letter], linestyle=":", linewidth=1)
    if name == "loss" and values and min(values) > 0 and max(values) > LOG_RATIO * min(values):
        panel.set_yscale("log")
    panel.set_ylabel(name)
    style.epochs_across(panel, sorted(epochs))
    style.below(figure, panel, columns=4)
    return figure
