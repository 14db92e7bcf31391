"""Networks as a user gets them: from `conf/model/`, with a few parameters changed."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch import nn

from pipeline.paths import conf_folder

INPUT_SHAPES = {"table": (30,), "series": (12, 3), "images": (2, 8, 8)}
CONF = conf_folder() / "model"

Build = Callable[..., nn.Module]


def _parameters(model: str) -> dict[str, object]:
    parameters = OmegaConf.to_container(OmegaConf.load(CONF / f"{model}.yaml"))
    parameters.pop("defaults", None)
    return parameters


def _models_and_inputs() -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(CONF.glob("*.yaml")):
        network = get_class(_parameters(path.stem)["_target_"])
        for kind in getattr(network, "takes", INPUT_SHAPES):
            yield path.stem, INPUT_SHAPES[kind]


@pytest.fixture(params=_models_and_inputs(), ids=lambda pair: f"{pair[0]}-{len(pair[1])}d")
def model_and_input(request: pytest.FixtureRequest) -> tuple[str, tuple[int, ...]]:
    """Return each model of the folder with the shape of each kind of input that it takes."""
    return request.param


@pytest.fixture(scope="session")
def build() -> Build:
    """Return a function that builds a model of `conf/model/` with some parameters changed."""

    def build_model(
        model: str, input_shape: tuple[int, ...], outputs: int, **changes: object
    ) -> nn.Module:
        parameters = _parameters(model) | changes
        network = get_class(parameters.pop("_target_"))
        return network(input_shape, outputs, **parameters)

    return build_model


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)
