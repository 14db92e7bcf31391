"""Recurrent networks, which differ only in their cell: RNN, GRU and LSTM.

torch has no fused kernel for ReLU in a GRU or an LSTM. `ReluGRU` and `ReluLSTM` hold their weights
under the same names as `torch.nn.GRU` and `torch.nn.LSTM`, and loop over the steps.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.networks.layers import Count, Gain, Init, Layers, Share, draw_weight, output_layer

CellActivation = Literal["tanh", "relu"]
StateNorm = Literal["none", "layer"]
Readout = Literal["last", "mean", "flatten"]


class _LoopLayer(nn.RNNBase):
    """A recurrent layer that loops over the steps, once for each direction.

    Args:
        features: Values per step.
        hidden: Size of the state.
        bidirectional: Whether a second direction reads the steps backwards.
    """

    cell: ClassVar[str]

    def __init__(self, features: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__(self.cell, features, hidden, bidirectional=bidirectional)

    def forward(self, windows: Tensor) -> tuple[Tensor, None]:
        """Map (batch, steps, features) to all states (batch, steps, directions * hidden)."""
        steps = windows.transpose(0, 1)
        states = self._run(steps, self.all_weights[0])
        if self.bidirectional:
            backward = self._run(steps.flip(0), self.all_weights[1]).flip(0)
            states = torch.cat((states, backward), dim=2)
        return states.transpose(0, 1), None

    def _run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Map (steps, batch, features) to the states (steps, batch, hidden) of one direction."""
        raise NotImplementedError


class ReluLSTM(_LoopLayer):
    """An LSTM layer with ReLU in place of both tanh, at the candidate and at the output.

    c' = sigmoid(f) * c + sigmoid(i) * relu(g) and h' = sigmoid(o) * relu(c'), where
    (i, f, g, o) = W x + U h + b. Keras does the same with `activation="relu"`.
    """

    cell = "LSTM"

    def _run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        projected = functional.linear(inputs, weight_ih, bias_ih + bias_hh)
        recurrent = weight_hh.t().contiguous()
        state = cell = projected.new_zeros(inputs.shape[1], self.hidden_size)
        states = []
        for step in projected.unbind(0):
            write, keep, candidate, show = torch.addmm(step, state, recurrent).chunk(4, dim=1)
            cell = keep.sigmoid() * cell + write.sigmoid() * candidate.relu()
            state = show.sigmoid() * cell.relu()
            states.append(state)
        return torch.stack(states)


class ReluGRU(_LoopLayer):
    """A GRU layer with ReLU in place of tanh at the candidate.

    n = relu(W x + b + sigmoid(r) * (U h + d)) and h' = (1 - sigmoid(z)) * n + sigmoid(z) * h:
    torch's form, where the reset gate acts after the product with U.
    """

    cell = "GRU"

    def _run(self, inputs: Tensor, weights: Sequence[Tensor]) -> Tensor:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        projected = functional.linear(inputs, weight_ih, bias_ih)
        recurrent = weight_hh.t().contiguous()
        state = projected.new_zeros(inputs.shape[1], self.hidden_size)
        states = []
        for step in projected.unbind(0):
            input_reset, input_update, input_candidate = step.chunk(3, dim=1)
            from_state = torch.addmm(bias_hh, state, recurrent)
            state_reset, state_update, state_candidate = from_state.chunk(3, dim=1)
            reset = (input_reset + state_reset).sigmoid()
            update = (input_update + state_update).sigmoid()
            candidate = torch.addcmul(input_candidate, reset, state_candidate).relu()
            state = candidate.lerp(state, update)
            states.append(state)
        return torch.stack(states)


@torch.no_grad()
def initialise_recurrent(layer: nn.RNNBase, *, init: Init, gain: float | None) -> None:
    """Draw new weights of one recurrent layer in place.

    `torch` keeps the weights and biases that torch drew, and multiplies the weights by the gain.
    Other schemes set the biases to zero, except that of an LSTM's forget gate, which is one, so
    that the layer remembers initially.

    Args:
        layer: The layer.
        init: `default` is `xavier` for the inputs and `orthogonal` for the states, each gate by
            itself; `keras` is the same with all gates as one matrix; any other scheme draws both
            weights, each gate by itself.
        gain: Factor of the weights, > 0. `None` = 1, since states return at each step, and 0.02 for
            `normal`.

    Source: Jozefowicz et al. 2015 (the forget gate's bias); Saxe et al. 2014 (orthogonal).
    """
    for name, parameter in layer.named_parameters():
        if init == "torch":
            parameter.mul_(gain if gain is not None and name.startswith("weight") else 1.0)
        elif name.startswith("bias"):
            parameter.zero_()
            if layer.mode == "LSTM" and name.startswith("bias_ih"):
                parameter[layer.hidden_size : 2 * layer.hidden_size] = 1.0
        else:
            usual: Init = "orthogonal" if name.startswith("weight_hh") else "xavier"
            scheme = usual if init in ("default", "keras") else init
            gates = 1 if init == "keras" else len(parameter) // layer.hidden_size
            for gate in parameter.chunk(gates):
                # The identity has gain 1; that of tanh or ReLU would make states grow at each step.
                draw_weight(gate, init=scheme, gain=gain, activation="identity")


class RecurrentLayer(nn.Module):
    """All states of one recurrent layer, normalized if wanted.

    Args:
        recurrent: Maps (batch, steps, features) to a tuple whose first entry has the states.
        width: Size of a state, both directions together.
        norm: `layer` normalizes each state after the cell, so that fused kernels stay in use.
        dropout: Share of the states' values that are zeroed in training.
    """

    def __init__(
        self, recurrent: nn.RNNBase, *, width: int, norm: StateNorm, dropout: float
    ) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.norm = nn.LayerNorm(width) if norm == "layer" else None
        # The random state of cuDNN's own dropout can't be saved and restored.
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
        layers: Number of layers, 1 to 1000; each reads the states of the previous one.
        activation: Function in the cell; `relu` replaces each tanh.
        norm: `layer` normalizes the states that leave each layer.
        dropout: Share of the values leaving each layer, including the last, that are zeroed in
            training, 0 <= dropout < 1.
        bidirectional: Whether each layer has a second half that reads the steps backwards.
        readout: What the output reads: `last`, the state after the last step that each direction
            reads; `mean`, the mean of all states; `flatten`, all states side by side. `None` is
            `mean`; where a configuration is composed, it becomes `last` for forecasts.
        init: Scheme of the initial weights.
        gain: Factor of the initial weights, > 0; `None` = 1, and 0.02 for `normal`.
    """

    takes: ClassVar[tuple[str, ...]] = ("series",)
    #: torch's layer.
    fused: ClassVar[type[nn.RNNBase]]
    #: Layer with ReLU in the cell, if torch's layer does not support it.
    loop: ClassVar[type[_LoopLayer] | None] = None

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        *,
        hidden: Count,
        layers: Layers,
        activation: CellActivation,
        norm: StateNorm,
        dropout: Share,
        bidirectional: bool,
        readout: Readout | None,
        init: Init,
        gain: Gain | None,
    ) -> None:
        super().__init__()
        steps, inputs = input_shape
        self.hidden = hidden
        self.bidirectional = bidirectional
        self.readout = readout or "mean"
        width = hidden * (2 if bidirectional else 1)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, layers + 1):
            recurrent: nn.RNNBase
            if self.loop is not None and activation == "relu":
                recurrent = self.loop(inputs, hidden, bidirectional=bidirectional)
            else:
                options: dict[str, Any] = {"batch_first": True, "bidirectional": bidirectional}
                if self.loop is None:
                    options["nonlinearity"] = activation
                recurrent = self.fused(input_size=inputs, hidden_size=hidden, **options)
            initialise_recurrent(recurrent, init=init, gain=gain)
            layer = RecurrentLayer(recurrent, width=width, norm=norm, dropout=dropout)
            parts[f"layer{number}"] = layer
            inputs = width
        self.layers = nn.Sequential(parts)
        read = width * steps if readout == "flatten" else width
        self.head = output_layer(read, outputs, init=init, gain=gain)

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
        # The backward half has read all steps when it reaches the first step.
        return torch.cat((states[:, -1, : self.hidden], states[:, 0, self.hidden :]), dim=1)


class RNN(_Recurrent):
    """Plain recurrent network (Elman 1990): h' = tanh(W x + U h + b), or with ReLU for tanh."""

    fused = nn.RNN


class GRU(_Recurrent):
    """Gated recurrent units with a reset and an update gate (Cho et al. 2014)."""

    fused = nn.GRU
    loop = ReluGRU


class LSTM(_Recurrent):
    """Long short-term memory with input, forget and output gates.

    Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000 (the forget gate).
    """

    fused = nn.LSTM
    loop = ReluLSTM
