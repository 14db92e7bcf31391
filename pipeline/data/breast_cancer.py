"""Breast cancer Wisconsin, diagnostic (scikit-learn's `load_breast_cancer`)."""

from pipeline.data.positive import positive_second
from pipeline.data.scikit import shipped
from pipeline.data.source import Samples, Source


class BreastCancer(Source):
    """569 tumours by 30 measurements of their cells' nuclei, malignant or benign.

    Args:
        positive: The class that precision, recall and F1 speak of: malignant or benign.
    """

    def __init__(self, *, positive: str) -> None:
        self.positive = positive

    def read(self) -> Samples:
        """Read the table, (rows, 30)."""
        table = shipped("breast_cancer")
        first, second = table.classes
        targets, classes = positive_second(table.targets, (first, second), self.positive)
        return Samples(
            inputs=table.inputs,
            targets=targets,
            task="binary",
            classes=classes,
            features=table.features,
        )
