"""Wine (scikit-learn's `load_wine`)."""

from pipeline.data.shipped import ScikitLearnSet


class Wine(ScikitLearnSet):
    """178 wines of three growers, with 13 chemical measurements each."""

    name = "wine"
