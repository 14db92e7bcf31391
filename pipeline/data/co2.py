"""Weekly carbon dioxide in the air at Mauna Loa (Keeling and Whorf 2004, public domain)."""

from dataclasses import replace

import numpy as np

from pipeline.data.shipped import BundledSeries
from pipeline.data.source import Series


class CO2(BundledSeries):
    """One value per week, dated by its Saturday; the file holds 1958-03-29 to 2001-12-29.

    59 weeks are empty. They get the value of the week before, so that nothing looks ahead.
    """

    file = "co2_weekly.csv"
    units = "ppm"

    def read(self) -> Series:
        """Read the weeks, (weeks, 1)."""
        series = super().read()
        is_empty = np.isnan(series.values[:, 0])
        last_filled = np.maximum.accumulate(np.where(is_empty, 0, np.arange(len(is_empty))))
        notes = series.notes
        if is_empty.any():
            note = f"{is_empty.sum()} missing weeks are filled with the previous week"
            notes = (*notes, note)
        return replace(series, values=series.values[last_filled], notes=notes)
