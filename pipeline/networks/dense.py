"""Dense layers: a linear map, then norm, activation and dropout, with a skip where widths agree."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from pipeline.networks.activation import Activation, build_activation
from pipeline.networks.initialisation import Init, initialise
from pipeline.networks.normalisation import Norm, build_dense_norm


class Skip(nn.Module):
    """Adds the input of a layer to its output.

    Args:
        layer: Maps (batch, width) to (batch, width).

    Source: He et al. 2016, over one layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        """Return x + layer(x), (batch, width)."""
        outputs: Tensor = values + self.layer(values)
        return outputs


def dense_layers(
    widths: Sequence[int],
    *,
    activation: Activation,
    norm: Norm,
    dropout: float,
    skip: bool,
    init: Init,
    gain: float | None,
) -> nn.Sequential:
    """Return hidden layers `layer1`, `layer2`, … from `widths[0]` inputs to `widths[-1]` values."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (inputs, width) in enumerate(pairwise(widths), start=1):
        # Batch norm takes the mean away again, and a bias with it.
        linear = nn.Linear(inputs, width, bias=norm != "batch")
        initialise(linear, init=init, gain=gain, activation=activation)
        layer = compose_layer(
            linear=linear,
            norm=build_dense_norm(norm, width),
            activation=build_activation(activation),
            dropout=nn.Dropout(dropout) if dropout else None,
        )
        layers[f"layer{number}"] = Skip(layer) if skip and inputs == width else layer
    return nn.Sequential(layers)


def output_layer(inputs: int, outputs: int, *, init: Init, gain: float | None) -> nn.Linear:
    """Return the last linear map, which no activation follows."""
    head = nn.Linear(inputs, outputs)
    initialise(head, init=init, gain=gain, activation="identity")
    return head


def compose_layer(**parts: nn.Module | None) -> nn.Sequential:
    """Return the parts that are there, in order and under their names."""
    return nn.Sequential(
        OrderedDict((name, part) for name, part in parts.items() if part is not None)
    )
