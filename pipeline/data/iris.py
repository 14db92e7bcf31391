"""Iris (scikit-learn's `load_iris`)."""

from pipeline.data.shipped import ScikitLearnSet


class Iris(ScikitLearnSet):
    """150 flowers of three species, with four lengths each."""

    name = "iris"
