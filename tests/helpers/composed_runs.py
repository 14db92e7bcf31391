"""What a run trains with, made from its words without training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import RunConfig, data_options
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.running.datasets import build_source
from pipeline.running.network import build_network


def composed(words: Sequence[str]) -> tuple[RunConfig, Prepared, nn.Module]:
    """The configuration, the data and the network, which has the weights that a run begins with."""
    config = check(compose(words))
    prepared = prepare(build_source(config), data_options(config))
    torch.manual_seed(config.seed)
    return config, prepared, build_network(config, prepared)


def tensors_of(part: Part | None) -> tuple[Tensor, Tensor]:
    """The inputs and the targets of a part whose rows are in memory."""
    assert part is not None
    assert isinstance(part.inputs, Tensor)
    return part.inputs, part.targets
