"""The network of a run, built for the shapes of its data."""

from __future__ import annotations

from math import isqrt, prod
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from pipeline.base.errors import ConfigError, typed
from pipeline.base.paths import conf_folder
from pipeline.config.options import RunConfig
from pipeline.config.targets import TARGET, build, resolve
from pipeline.data.preparation.prepare import Prepared
from pipeline.networks import SHAPES, require_kind
from pipeline.serving.model import outline_of


def require_readable(options: RunConfig, prepared: Prepared) -> None:
    """Raise ConfigError if the network can't read this kind of data."""
    shape = prepared.schema.input_shape
    network = resolve(options.model["_target_"], trust=options.trust)
    try:
        require_kind(network.__name__.lower(), _readable_kinds(network), shape)
    except ConfigError as error:
        fitting = []
        for file in sorted((conf_folder() / "model").glob("*.yaml")):
            model = resolve(OmegaConf.select(OmegaConf.load(file), TARGET))
            if prepared.schema.kind in _readable_kinds(model):
                fitting.append(file.stem)
        message = f"{error}; models that read them: {', '.join(fitting)}"
        if "images" in _readable_kinds(network) and "image_shape" in options.data:
            side = isqrt(prod(shape))
            sides = [str(side)] * 2 if side**2 == prod(shape) else ["HEIGHT", "WIDTH"]
            message += f"; columns of pixels become images with {typed('data.image_shape', sides)}"
        raise ConfigError(message) from error


def _readable_kinds(network: type) -> tuple[str, ...]:
    """Return the kinds of data that a network can read."""
    return getattr(network, "takes", tuple(SHAPES))


def build_network(options: RunConfig, prepared: Prepared) -> nn.Module:
    """Build the network for the shapes of the data, which it can read."""
    network = build(options.model, trust=options.trust, **_shapes(prepared))
    assert isinstance(network, nn.Module)
    return network


def network_outline(options: RunConfig, prepared: Prepared) -> nn.Module | None:
    """Return the network without memory for its weights; see `outline_of`."""
    return outline_of(options.model, **_shapes(prepared))


def _shapes(prepared: Prepared) -> dict[str, Any]:
    return {"input_shape": prepared.schema.input_shape, "outputs": prepared.schema.outputs}


@torch.no_grad()
def negate_output_layer(layer: nn.Module) -> None:
    """Negate an output layer: its logit is now that of the other one of two classes."""
    if isinstance(layer, nn.Linear):
        for weight in layer.parameters():
            weight.neg_()
