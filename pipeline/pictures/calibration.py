"""How far the probabilities of the test rows can be believed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.findings.records import Array, Findings, TestRows
from pipeline.pictures import style
from pipeline.pictures.names import label, short
from pipeline.pictures.picture import NotDrawnError, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Vector = NDArray[np.float64]

BINS = 10
"""Of the probabilities, of equal width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """How often rows were right for what they were given, in bins of equal width.

    Args:
        given: Mean probability of each bin that has rows, (bins,).
        found: Share of its rows that were right, (bins,).
        counts: Its rows, (bins,).
    """

    given: Vector
    found: Vector
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance, each row counting once (Naeini 2015)."""
        return float(np.average(np.abs(self.given - self.found), weights=self.counts))

    @property
    def spread(self) -> tuple[Vector, Vector]:
        """Ends of Wilson's 95 % interval of each share, (bins,) and (bins,)."""
        z, rows, share = 1.96, self.counts, self.found
        centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
        half = z * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2) / (1 + z**2 / rows)
        return centre - half, centre + half


def reliability(probabilities: Array, right: Array, *, bins: int) -> Reliability:
    """Compare probabilities (rows,) with what was right, bool (rows,)."""
    inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    place = np.searchsorted(inner, probabilities)
    counts = np.bincount(place, minlength=bins)
    seen = counts > 0
    given = np.bincount(place, weights=probabilities, minlength=bins)[seen] / counts[seen]
    found = np.bincount(place, weights=right, minlength=bins)[seen] / counts[seen]
    return Reliability(given=given, found=found, counts=counts[seen])


def picture(findings: Findings, test: TestRows) -> Picture:
    """Return the calibration: of the positive class, or of the predicted one of several."""
    if test.outputs.ndim == 1:
        given, right = test.outputs, test.targets == 1
        what = f"probability of {short(findings.classes[1])}"
    else:
        given, right = test.outputs.max(1), test.outputs.argmax(1) == test.targets
        what = "probability of the predicted class"
    told = "There is no calibration."
    if np.isfinite(given).all():
        error = reliability(given, right, bins=BINS).error
        told = (
            f"The {what} is off by {error:.1%} on average over {len(given):,} test rows "
            f"(expected calibration error in {BINS} bins)."
        )
    return Picture(
        name="classes/calibration",
        title="Calibration: how far a probability can be believed",
        alt=told,
        draw=lambda: _draw_calibration(given, right, what, has_intervals=test.groups is None),
    )


def _draw_calibration(given: Array, right: Array, what: str, *, has_intervals: bool) -> "Figure":
    """Draw it; Wilson's intervals are those of independent rows."""
    if not np.isfinite(given).all():
        raise NotDrawnError("some probabilities are no numbers: there is no calibration")
    found = reliability(given, right, bins=BINS)
    figure, axes = style.panels(2, 1, height=2.4, sharex=True, height_ratios=(3, 1))
    upper, lower = axes[:, 0]
    upper.plot((0, 1), (0, 1), color=style.NAIVE, linestyle=":", label="as it should be")
    low, high = found.spread
    ends = np.clip((found.found - low, high - found.found), 0, None)
    upper.errorbar(
        found.given,
        found.found,
        yerr=ends if has_intervals else None,
        color=style.NETWORK,
        marker="o",
        ms=5,
        capsize=3,
        label="found, with 95 % interval" if has_intervals else "found",
    )
    upper.set_ylim(-0.03, 1.03)
    upper.set_ylabel("share that was right")
    upper.set_title(f"expected calibration error {found.error:.3f}")
    lower.hist(given, bins=np.linspace(0, 1, BINS + 1), color=style.NETWORK, rwidth=0.9)
    lower.set_ylabel("rows")
    lower.set_xlim(-0.02, 1.02)
    lower.set_xlabel(label(what, 60))
    style.below(figure, upper, columns=2)
    return figure
