"""The multi-layer perceptron."""

import math
from typing import ClassVar

from torch import Tensor, nn

from pipeline.networks import layers
from pipeline.networks.layers import Activation, Gain, Init, LayerStyle, Norm, Share, Widths


class MLP(nn.Module):
    """Dense layers over all values of a sample, whatever its shape.

    Args:
        input_shape: Shape of one sample, which is flattened.
        outputs: Values or logits per sample.
        hidden: Width of each of at most 1000 hidden layers, >= 1; [] is logistic or linear
            regression.
        activation: Function after each hidden layer.
        norm: Normalization of a layer's values before its activation.
        dropout: Share of a hidden layer's values that are zeroed in training, 0 <= dropout < 1.
        skip: Whether x + layer(x) replaces layer(x) in layers whose two widths are equal.
        init: Scheme of the initial weights.
        gain: Factor of the initial weights, > 0; `None` = the gain that suits the activation.
    """

    takes: ClassVar[tuple[str, ...]] = ("table", "series", "images")

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        hidden: Widths,
        activation: Activation,
        norm: Norm,
        dropout: Share,
        skip: bool,
        init: Init,
        gain: Gain | None,
    ) -> None:
        super().__init__()
        widths = [math.prod(input_shape), *hidden]
        style = LayerStyle(activation=activation, norm=norm, dropout=dropout, init=init, gain=gain)
        self.layers = style.dense(widths, skip=skip)
        self.head = layers.output_layer(widths[-1], outputs, init=init, gain=gain)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, *input_shape) to values or logits (batch, outputs)."""
        values = samples.flatten(start_dim=1)  # (batch, features)
        outputs: Tensor = self.head(self.layers(values))
        return outputs
