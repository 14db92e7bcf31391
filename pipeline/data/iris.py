"""Iris (scikit-learn's `load_iris`)."""

from pipeline.data.scikit import shipped
from pipeline.data.source import Samples, Source


class Iris(Source):
    """150 flowers by four lengths, of three species."""

    def read(self) -> Samples:
        """Read the table, (rows, features)."""
        table = shipped("iris")
        return Samples(
            inputs=table.inputs,
            targets=table.targets,
            task="multiclass",
            classes=table.classes,
            features=table.features,
        )
