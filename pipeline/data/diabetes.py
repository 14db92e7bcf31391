"""Diabetes (scikit-learn's `load_diabetes`; Efron et al. 2004)."""

from pipeline.data.shipped import ScikitLearnSet


class Diabetes(ScikitLearnSet):
    """442 patients by 10 measurements, already scaled; the target is the progress in a year."""

    name = "diabetes"
    task = "regression"
