"""Diabetes (scikit-learn's `load_diabetes`; Efron et al. 2004)."""

from pipeline.data.shipped import ScikitLearnSet


class Diabetes(ScikitLearnSet):
    """442 patients with 10 scaled measurements; the target is the disease progress in a year."""

    name = "diabetes"
    task = "regression"
