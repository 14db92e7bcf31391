import numpy as np
from given_data import Shipped


def charts(*, normalise_each: bool) -> np.ndarray:
    source = Shipped("synthetic_control", {"normalise_each": normalise_each}).source()
    series: np.ndarray = source.read().inputs[:, :, 0]
    return series


def test_a_chart_normalised_by_itself_keeps_its_form_alone() -> None:
    raw, normalised = charts(normalise_each=False), charts(normalise_each=True)
    np.testing.assert_allclose(normalised.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(normalised.std(1), 1)
    forms = [np.corrcoef(a, b)[0, 1] for a, b in zip(raw, normalised, strict=True)]
    np.testing.assert_allclose(forms, 1)
    assert raw.mean() > 20
