"""Training rows on which a baseline is fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.scoring.baselines import Limits

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.data.preparation.prepare import Prepared

OPERATIONS_PER_SECOND = 10**9  # of one slow core; a bound in operations gives equal results
FEWEST_ROWS = 100  # a fit on fewer of the available rows is not informative


def chosen_rows(
    prepared: Prepared, limits: Limits, *, fixed: float, of_a_row: float
) -> Tensor | str:
    """Return the positions of the training rows to fit, evenly spaced if there are too many.

    A text says why a fit is impossible: the training rows hold a single class, or the limits leave
    too few rows.

    Args:
        prepared: The data in its parts.
        limits: How much the fit may cost.
        fixed: Operations of a fit with any number of rows.
        of_a_row: Further operations for each row.
    """
    from pipeline.scoring.importance import evenly_spaced

    available = len(prepared.train)
    operations = limits.seconds * OPERATIONS_PER_SECOND - fixed
    rows = min(available, limits.rows, int(max(0.0, operations) // of_a_row))
    if not available or rows < min(available, FEWEST_ROWS):
        columns = prepared.schema.input_shape
        size = " × ".join(f"{length:,}" for length in (available, *columns))
        return f"a fit on {size} values takes too long"
    chosen = evenly_spaced(available, rows)
    targets = prepared.train.targets[chosen]
    if prepared.schema.task != "regression" and bool((targets == targets[0]).all()):
        return "the training rows hold a single class"
    return chosen
