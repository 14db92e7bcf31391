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
        known = np.isfinite(series.values[:, 0])
        last_known = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
        empty = int((~known).sum())
        told = [f"{empty} missing weeks are filled with the previous week"] if empty else []
        return replace(series, values=series.values[last_known], notes=(*series.notes, *told))
