"""Networks as a user gets them: of `conf/model/` or of a page, with a few parameters changed."""

from functools import cache
from typing import Any, TypeVar

import numpy as np
from hydra.utils import get_class
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from helpers.how_to_pages import HOW_TO, fenced
from helpers.server_processes import ROOT

Array = NDArray[np.float64]
MODELS = ROOT / "conf" / "model"
Module = TypeVar("Module", bound=nn.Module)


@cache
def files_of_page() -> dict[str, str]:
    """Return the files that the page on own networks has its reader write, by their paths."""
    shown = fenced(HOW_TO / "own-model.md")
    return {block.words["file"]: block.content for block in shown if "file" in block.words}


def parameters_of(model: str) -> dict[Any, Any]:
    """Return what the file of a model says, its class under `_target_`."""
    name = f"conf/model/{model}.yaml"
    file = ROOT / name
    text = file.read_text(encoding="utf-8") if file.exists() else files_of_page()[name]
    parameters = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(parameters, dict)
    parameters.pop("defaults", None)
    return parameters


def class_of(target: str) -> type[nn.Module]:
    """Return the class of a network, which the program or the page has."""
    module, _, name = target.rpartition(".")
    code = files_of_page().get(f"{module}.py")
    if code is None:
        return get_class(target)
    defined: dict[str, type[nn.Module]] = {}
    exec(code, defined)
    return defined[name]


def build(model: str, input_shape: tuple[int, ...], outputs: int, **changes: object) -> nn.Module:
    """Build a model with some parameters changed."""
    parameters = parameters_of(model) | changes
    network = class_of(parameters.pop("_target_"))
    return network(input_shape, outputs, **parameters)


def module_of(network: nn.Module, path: str, kind: type[Module]) -> Module:
    """Return the module at a path of a network, which is of this kind."""
    module = network.get_submodule(path)
    assert isinstance(module, kind)
    return module


def layers_of(network: nn.Module) -> nn.Sequential:
    """Return the hidden layers of a network."""
    return module_of(network, "layers", nn.Sequential)


def recurrent_of(network: nn.Module, number: int = 1) -> nn.RNNBase:
    """Return the recurrent part of a layer, counted from 1."""
    return module_of(network, f"layers.layer{number}.recurrent", nn.RNNBase)


def head_of(network: nn.Module) -> nn.Linear:
    """Return the last layer of a network."""
    return module_of(network, "head", nn.Linear)


def weight_count(module: nn.Module) -> int:
    """Return the number of weights of a network, or of a part of it."""
    return sum(weight.numel() for weight in module.parameters())


def sum_of_the_notes(image: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """w'[i, j] = sum over x, y of w[i + x, j + y] c[x, y], zeros outside, ceil(n / stride) places.

    The first place is where the kernel's zeros are shared evenly, the odd one at the end.
    """
    places = [-(-length // stride) for length in image.shape]
    result = np.zeros(places)
    begins = [
        max((n - 1) * stride + (k - 1) * dilation + 1 - length, 0) // 2
        for n, k, length in zip(places, kernel.shape, image.shape, strict=True)
    ]
    for i, j in np.ndindex(*places):
        for x, y in np.ndindex(*kernel.shape):
            row = i * stride + x * dilation - begins[0]
            column = j * stride + y * dilation - begins[1]
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                result[i, j] += image[row, column] * kernel[x, y]
    return result
