"""The data sets that scikit-learn ships, without its import of over a second each time."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.data.cached import Arrays, cached
from pipeline.data.source import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A data set of scikit-learn, as it ships it.

    Args:
        inputs: float64 (rows, features).
        targets: (rows,) class indices or values.
        features: Names of the features.
        classes: Names of the classes; empty for a regression.
    """

    inputs: Array
    targets: Array
    features: tuple[str, ...]
    classes: tuple[str, ...]


def shipped(name: str) -> Table:
    """Return scikit-learn's data set `name`, as `sklearn.datasets.load_<name>` gives it."""
    arrays = cached(name, partial(_load, name), made_by="scikit-learn")
    return Table(
        inputs=arrays["inputs"],
        targets=arrays["targets"],
        features=tuple(str(feature) for feature in arrays["features"]),
        classes=tuple(str(label) for label in arrays["classes"]),
    )


def _load(name: str) -> Arrays:
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    return {
        "inputs": np.asarray(bunch.data),
        "targets": np.asarray(bunch.target),
        "features": np.asarray(bunch.feature_names, dtype=np.str_),
        "classes": np.asarray(getattr(bunch, "target_names", ()), dtype=np.str_),
    }
