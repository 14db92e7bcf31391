"""Features that are the target under another name."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.source import Array


class Leaks:
    """Compares each column with the target, a block of rows at a time.

    Args:
        columns: How many there are.
        classes: Number of classes; 0 = the target holds values.
    """

    def __init__(self, *, columns: int, classes: int) -> None:
        groups = max(1, classes)
        self._classes = classes
        self._low = np.full((groups, columns), np.inf)
        self._high = np.full((groups, columns), -np.inf)
        self._whole = np.ones(columns, dtype=np.bool_)

    def add(self, inputs: Array, targets: Array) -> None:
        """Look at the next rows: inputs (rows, columns), targets (rows,)."""
        self._whole &= ~np.isnan(inputs).any(0)
        if not self._classes:
            self._bound(0, inputs - targets[:, None])
            return
        for label in range(self._classes):
            self._bound(label, inputs[targets == label])

    def _bound(self, group: int, values: Array) -> None:
        if len(values):
            self._low[group] = np.fmin(self._low[group], values.min(0))
            self._high[group] = np.fmax(self._high[group], values.max(0))

    def found(self) -> Sequence[int]:
        """Return the columns that hold the target cell by cell, or a value of its own a class."""
        one_value = self._whole & (self._low == self._high).all(0)
        if not self._classes:
            same = one_value & (self._low[0] == 0)
        else:
            ordered = np.sort(self._low, axis=0)
            same = one_value & (ordered[1:] != ordered[:-1]).all(0)
        return [int(index) for index in np.flatnonzero(same)]
