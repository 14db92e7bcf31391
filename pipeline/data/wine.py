"""Wine (scikit-learn's `load_wine`)."""

from pipeline.data.shipped import ScikitLearnSet


class Wine(ScikitLearnSet):
    """178 wines by 13 chemical measurements, of three growers."""

    name = "wine"
