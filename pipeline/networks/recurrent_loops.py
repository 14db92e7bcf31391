"""Recurrent layers with ReLU in their cells, for which torch has no fused kernel.

They hold their weights as `torch.nn.LSTM` and `torch.nn.GRU` do, under the same names, and differ
in the loop over steps alone. What the inputs give is computed for all steps at once before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class _LoopLayer(nn.RNNBase):
    """A loop over the steps, once for each direction."""

    def forward(self, windows: Tensor) -> tuple[Tensor, None]:
        """Map (batch, steps, features) to all states (batch, steps, directions * hidden)."""
        steps = windows.transpose(0, 1)
        states = self._run(steps, *self._weights(""))
        if self.bidirectional:
            backward = self._run(steps.flip(0), *self._weights("_reverse")).flip(0)
            states = torch.cat((states, backward), dim=2)
        return states.transpose(0, 1), None

    def _weights(self, direction: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            getattr(self, f"weight_ih_l0{direction}"),
            getattr(self, f"weight_hh_l0{direction}"),
            getattr(self, f"bias_ih_l0{direction}"),
            getattr(self, f"bias_hh_l0{direction}"),
        )

    def _run(
        self, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
        """Map (steps, batch, features) to the states (steps, batch, hidden) of one direction."""
        raise NotImplementedError


class ReluLSTM(_LoopLayer):
    """An LSTM layer with ReLU in place of both tanh, at the candidate and at the output.

    c' = sigmoid(f) * c + sigmoid(i) * relu(g) and h' = sigmoid(o) * relu(c'), where
    (i, f, g, o) = W x + U h + b. So does Keras with `activation="relu"`.

    Args:
        features: Values per step.
        hidden: Size of the state.
        bidirectional: Whether a second layer reads the steps backwards.
    """

    def __init__(self, features: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__("LSTM", features, hidden, bidirectional=bidirectional)

    def _run(
        self, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
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

    Args:
        features: Values per step.
        hidden: Size of the state.
        bidirectional: Whether a second layer reads the steps backwards.
    """

    def __init__(self, features: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__("GRU", features, hidden, bidirectional=bidirectional)

    def _run(
        self, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
        projected = functional.linear(inputs, weight_ih, bias_ih)
        recurrent = weight_hh.t().contiguous()
        state = projected.new_zeros(inputs.shape[1], self.hidden_size)
        states = []
        for step in projected.unbind(0):
            reset_in, update_in, candidate = step.chunk(3, dim=1)
            reset_held, update_held, held = torch.addmm(bias_hh, state, recurrent).chunk(3, dim=1)
            reset = (reset_in + reset_held).sigmoid()
            update = (update_in + update_held).sigmoid()
            state = torch.addcmul(candidate, reset, held).relu().lerp(state, update)
            states.append(state)
        return torch.stack(states)
