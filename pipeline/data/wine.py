"""Wine (scikit-learn's `load_wine`)."""

from pipeline.data.scikit import shipped
from pipeline.data.source import Samples, Source


class Wine(Source):
    """178 wines by 13 chemical measurements, of three growers."""

    def read(self) -> Samples:
        """Read the table, (rows, features)."""
        table = shipped("wine")
        return Samples(
            inputs=table.inputs,
            targets=table.targets,
            task="multiclass",
            classes=table.classes,
            features=table.features,
        )
