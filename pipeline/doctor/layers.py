"""Names of layers and usual values of their vital signs, for rules on the optimization."""

import math

import numpy as np

from pipeline.base.findings import Array


def short_name(layer: str) -> str:
    """Return the short name of a layer: `layer1` for `layers.layer1.linear`."""
    words = layer.removeprefix("layers.").split(".")
    state = words[-1].partition(" ")[2]
    return f"{words[0].partition(' ')[0]} {state}".strip()


def median_over_epochs(values: Array) -> Array:
    """Return the median of the finite values over the epochs, (…); NaN if there are none."""
    columns = np.asarray(values, dtype=np.float64).reshape(len(values), -1).T
    finite_columns = [column[np.isfinite(column)] for column in columns]
    medians = [np.median(column) if len(column) else math.nan for column in finite_columns]
    return np.array(medians).reshape(values.shape[1:])
