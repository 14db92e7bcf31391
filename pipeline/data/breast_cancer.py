"""Breast cancer Wisconsin, diagnostic (scikit-learn's `load_breast_cancer`)."""

from dataclasses import dataclass, replace

from pipeline.data.parsing.labels import TargetKeys, classes_of
from pipeline.data.shipped import ScikitLearnSet
from pipeline.data.source import Samples


@dataclass(kw_only=True, eq=False)
class BreastCancer(ScikitLearnSet):
    """569 tumours, malignant or benign, with 30 measurements of their cell nuclei.

    Args:
        positive: Class to which precision, recall and F1 refer: malignant or benign.
    """

    name = "breast_cancer"
    task = "binary"

    positive: str

    def read(self) -> Samples:
        """Read the table, (rows, 30)."""
        table = super().read()
        target = classes_of(table.targets, table.classes, TargetKeys(positive=self.positive))
        return replace(
            table, targets=target.values, classes=target.classes, is_turned=target.is_turned
        )
