"""Every network, with each kind of input that it takes, under one seed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.sample_networks import MODELS, class_of, files_of_page, parameters_of

INPUT_SHAPES = {"table": (30,), "series": (12, 3), "images": (2, 8, 8)}


def _models_and_inputs() -> Iterator[tuple[str, tuple[int, ...]]]:
    files = [*sorted(MODELS.glob("*.yaml")), *map(Path, files_of_page())]
    for model in (file.stem for file in files if file.suffix == ".yaml"):
        network = class_of(parameters_of(model)["_target_"])
        for kind in getattr(network, "takes", INPUT_SHAPES):
            yield model, INPUT_SHAPES[kind]


@pytest.fixture(params=_models_and_inputs(), ids=lambda pair: f"{pair[0]}-{len(pair[1])}d")
def model_and_input(request: pytest.FixtureRequest) -> tuple[str, tuple[int, ...]]:
    """Return each model with the shape of each kind of input that it takes."""
    model, shape = request.param
    return model, shape


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
