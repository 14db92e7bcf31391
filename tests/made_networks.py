"""Networks as a user gets them: from `conf/model/`, with a few parameters changed."""

from hydra.utils import get_class
from omegaconf import OmegaConf
from real_processes import ROOT
from torch import nn

MODELS = ROOT / "conf" / "model"


def parameters_of(model: str) -> dict[str, object]:
    """Return what the file of a model says, its class under `_target_`."""
    parameters = OmegaConf.to_container(OmegaConf.load(MODELS / f"{model}.yaml"))
    parameters.pop("defaults", None)
    return parameters


def build(model: str, input_shape: tuple[int, ...], outputs: int, **changes: object) -> nn.Module:
    """Build a model of `conf/model/` with some parameters changed."""
    parameters = parameters_of(model) | changes
    network = get_class(parameters.pop("_target_"))
    return network(input_shape, outputs, **parameters)
