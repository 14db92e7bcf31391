"""Iris (scikit-learn's `load_iris`)."""

from pipeline.data.shipped import ScikitLearnSet


class Iris(ScikitLearnSet):
    """150 flowers by four lengths, of three species."""

    name = "iris"
