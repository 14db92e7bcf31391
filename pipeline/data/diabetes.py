"""Diabetes (scikit-learn's `load_diabetes`; Efron et al. 2004)."""

from pipeline.data.scikit import shipped
from pipeline.data.source import Samples, Source


class Diabetes(Source):
    """442 patients by 10 measurements; the target is how far the illness went in a year."""

    def read(self) -> Samples:
        """Read the table, (rows, 10), its features already scaled by scikit-learn."""
        table = shipped("diabetes")
        return Samples(
            inputs=table.inputs,
            targets=table.targets,
            task="regression",
            classes=(),
            features=table.features,
        )
