"""Every network of `conf/model/` with each kind of input that it takes, under one seed."""

from collections.abc import Iterator

import pytest
import torch
from hydra.utils import get_class
from made_networks import MODELS, parameters_of

INPUT_SHAPES = {"table": (30,), "series": (12, 3), "images": (2, 8, 8)}


def _models_and_inputs() -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(MODELS.glob("*.yaml")):
        network = get_class(parameters_of(path.stem)["_target_"])
        for kind in getattr(network, "takes", INPUT_SHAPES):
            yield path.stem, INPUT_SHAPES[kind]


@pytest.fixture(params=_models_and_inputs(), ids=lambda pair: f"{pair[0]}-{len(pair[1])}d")
def model_and_input(request: pytest.FixtureRequest) -> tuple[str, tuple[int, ...]]:
    """Return each model of the folder with the shape of each kind of input that it takes."""
    return request.param


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
