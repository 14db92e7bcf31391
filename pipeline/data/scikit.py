"""The data sets that scikit-learn ships, without its import of over a second each time."""

from functools import partial
from typing import ClassVar

import numpy as np

from pipeline.data.cached import Arrays, cached
from pipeline.data.source import Samples, Source, Task


class ScikitLearnSet(Source):
    """The data set that `sklearn.datasets.load_<name>` gives, unchanged."""

    name: ClassVar[str]
    task: ClassVar[Task] = "multiclass"

    def read(self) -> Samples:
        """Read the table, (rows, features)."""
        arrays = cached(self.name, partial(_load, self.name), made_by="scikit-learn")
        return Samples(
            inputs=arrays["inputs"],
            targets=arrays["targets"],
            task=self.task,
            classes=tuple(str(label) for label in arrays["classes"]),
            features=tuple(str(feature) for feature in arrays["features"]),
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
