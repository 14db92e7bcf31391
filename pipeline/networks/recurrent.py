"""Recurrent networks, which differ in their cell alone: RNN, GRU and LSTM."""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.networks.bounds import (
    Count,
    Gain,
    Share,
    require_choice,
    require_count,
    require_dropout,
)
from pipeline.networks.dense import output_layer
from pipeline.networks.initialisation import Init
from pipeline.networks.inputs import require_kind
from pipeline.networks.recurrent_initialisation import initialise_recurrent
from pipeline.networks.recurrent_loops import ReluGRU, ReluLSTM

CellActivation = Literal["tanh", "relu"]
StateNorm = Literal["none", "layer"]
Readout = Literal["last", "mean", "flatten"]


class RecurrentLayer(nn.Module):
    """All states of one recurrent layer, normalised where wanted.

    Args:
        recurrent: Maps (batch, steps, features) to a tuple that begins with the states.
        width: Size of a state, both directions together.
        norm: `layer` normalises each state by itself, after the cell, so that the fused kernels
            stay in use.
        dropout: Share of the states' values that are zeroed in training.
    """

    def __init__(
        self, recurrent: nn.RNNBase, *, width: int, norm: StateNorm, dropout: float
    ) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.norm = nn.LayerNorm(width) if norm == "layer" else None
        # Our own dropout, not cuDNN's: that one's random state can't be saved and restored.
        self.dropout = nn.Dropout(dropout) if dropout else None

    def forward(self, windows: Tensor) -> Tensor:
        """Map (batch, steps, features) to (batch, steps, width)."""
        states: Tensor = self.recurrent(windows)[0]
        if self.norm is not None:
            states = self.norm(states)
        return states if self.dropout is None else self.dropout(states)


class _Recurrent(nn.Module):
    """Recurrent layers over the steps, a read-out of their states, one dense output.

    Args:
        input_shape: (steps, features) of one sample.
        outputs: Values or logits per sample.
        hidden: Size of the state in each direction, >= 1.
        layers: Layers, each reading the states of the one before, >= 1.
        activation: Function in the cell; `relu` takes the place of each tanh.
        norm: `layer` normalises the states that leave each layer.
        dropout: Share of the values that leave each layer and are zeroed in training, those that
            the output reads included; 0 <= dropout < 1.
        bidirectional: Whether each layer has a second half that reads the steps backwards.
        readout: What the output reads: `last`, the state after the last step that each direction
            reads; `mean` of all states; `flatten`, all states side by side.
        init: How the first weights are drawn.
        gain: Factor of the first weights, > 0; `None` is 1, and 0.02 for `normal`.

    Raises:
        ConfigError: The input is no series, or a parameter is out of range.
    """

    takes: ClassVar[tuple[str, ...]] = ("series",)

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        hidden: Count,
        layers: Count,
        activation: CellActivation,
        norm: StateNorm,
        dropout: Share,
        bidirectional: bool,
        readout: Readout,
        init: Init,
        gain: Gain | None,
    ) -> None:
        super().__init__()
        require_kind(type(self).__name__.lower(), self.takes, input_shape)
        require_count("hidden", hidden)
        require_count("layers", layers)
        require_dropout(dropout)
        require_choice("activation", activation, CellActivation)
        require_choice("norm", norm, StateNorm)
        require_choice("readout", readout, Readout)
        require_choice("init", init, Init)
        steps, features = input_shape
        self.hidden = hidden
        self.bidirectional = bidirectional
        self.readout = readout
        width = hidden * (2 if bidirectional else 1)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, layers + 1):
            inputs = features if number == 1 else width
            recurrent = self.build_layer(inputs, hidden, activation, bidirectional=bidirectional)
            initialise_recurrent(recurrent, init=init, gain=gain)
            parts[f"layer{number}"] = RecurrentLayer(
                recurrent, width=width, norm=norm, dropout=dropout
            )
        self.layers = nn.Sequential(parts)
        read = width * steps if readout == "flatten" else width
        self.head = output_layer(read, outputs, init=init, gain=gain)

    @staticmethod
    def build_layer(
        features: int, hidden: int, activation: CellActivation, *, bidirectional: bool
    ) -> nn.RNNBase:
        """Return one layer, which maps (batch, steps, features) to (states, …)."""
        raise NotImplementedError

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows (batch, steps, features) to values or logits (batch, outputs)."""
        outputs: Tensor = self.head(self.read(self.layers(windows)))
        return outputs

    def read(self, states: Tensor) -> Tensor:
        """Map all states (batch, steps, width) to what the output reads (batch, values)."""
        if self.readout == "mean":
            return states.mean(dim=1)
        if self.readout == "flatten":
            return states.flatten(start_dim=1)
        if not self.bidirectional:
            return states[:, -1]
        # The backward half has read everything when it arrives at the first step.
        return torch.cat((states[:, -1, : self.hidden], states[:, 0, self.hidden :]), dim=1)


class RNN(_Recurrent):
    """Plain recurrent network: h' = tanh(W x + U h + b), or ReLU in place of tanh.

    Source: Elman 1990.
    """

    @staticmethod
    def build_layer(
        features: int, hidden: int, activation: CellActivation, *, bidirectional: bool
    ) -> nn.RNNBase:
        """Return torch's fused layer."""
        return nn.RNN(
            features,
            hidden,
            nonlinearity=activation,
            batch_first=True,
            bidirectional=bidirectional,
        )


class GRU(_Recurrent):
    """Gated recurrent units: a reset and an update gate.

    Source: Cho et al. 2014.
    """

    @staticmethod
    def build_layer(
        features: int, hidden: int, activation: CellActivation, *, bidirectional: bool
    ) -> nn.RNNBase:
        """Return torch's fused layer, or a loop for ReLU."""
        if activation == "relu":
            return ReluGRU(features, hidden, bidirectional=bidirectional)
        return nn.GRU(features, hidden, batch_first=True, bidirectional=bidirectional)


class LSTM(_Recurrent):
    """Long short-term memory: what to forget, what to store, what to show.

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (the forget gate).
    """

    @staticmethod
    def build_layer(
        features: int, hidden: int, activation: CellActivation, *, bidirectional: bool
    ) -> nn.RNNBase:
        """Return torch's fused layer, or a loop for ReLU."""
        if activation == "relu":
            return ReluLSTM(features, hidden, bidirectional=bidirectional)
        return nn.LSTM(features, hidden, batch_first=True, bidirectional=bidirectional)
