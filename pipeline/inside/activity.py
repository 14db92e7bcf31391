"""What the activations of a network give: which units are dead, which values stick to a bound."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.findings.records import Activity
from pipeline.networks.inspection import as_weights, evaluation_mode

MOST_ROWS = 512
ROWS_AT_ONCE = 64
MOST_VALUES = 2**20
"""Of the inputs that are looked at together: the maps of large pictures are many."""
CLOSE = 0.99
"""Share of the way to a bound from which on a value counts as saturated: 1 % is left."""
_POINTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
)


class _Tally:
    """Sums over what one activation gives, row after row.

    Args:
        layer: Name of the module.
        kind: Name of its class.
        function: What it comes down to, in small letters: `relu`, `tanh`, `sigmoid`, …
        axis: Along which its units lie.
    """

    def __init__(self, layer: str, *, kind: str, function: str, axis: int) -> None:
        self.layer, self.kind = layer, kind
        self._function, self._axis = function, axis
        self._values, self._saturated = 0, 0
        self._sum, self._squares = 0.0, 0.0
        self._silent: Tensor | None = None

    def add(self, outputs: object) -> None:
        """Count what it gave for some rows, (rows, …)."""
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.numel() == 0:
            return  # what a module of one's own may give
        values = outputs.detach().float().transpose(self._axis, -1).flatten(end_dim=-2)
        silent = (values == 0).all(0).cpu()  # (units,)
        self._silent = silent if self._silent is None else self._silent & silent
        self._values += values.numel()
        self._sum += float(values.sum(dtype=torch.float64))
        self._squares += float(values.square().sum(dtype=torch.float64))
        self._saturated += int(self._at_a_bound(values).sum())

    def activity(self) -> Activity | None:
        """Return what was counted; `None` where the network never came by."""
        if self._silent is None:
            return None
        mean = self._sum / self._values
        dead = float(self._silent.double().mean()) if self._function == "relu" else 0.0
        return Activity(
            layer=self.layer,
            kind=self.kind,
            units=len(self._silent),
            dead=dead,
            saturated=self._saturated / self._values,
            mean=mean,
            deviation=max(self._squares / self._values - mean**2, 0.0) ** 0.5,
        )

    def _at_a_bound(self, values: Tensor) -> Tensor:
        if self._function == "tanh":
            return values.abs() > CLOSE
        if self._function == "sigmoid":
            return (values - 0.5).abs() > CLOSE - 0.5
        return torch.zeros((), dtype=torch.bool)


def activity_of(network: nn.Module, inputs: Tensor) -> tuple[Activity, ...]:
    """Return what each activation gives in evaluation mode, from the input to the output.

    A unit is a channel, a value of a dense layer or of a recurrent layer's state. It is dead where
    a ReLU gives zero for all rows and places. The network is left as it was.

    Args:
        network: Maps inputs to outputs; its weights are numbers.
        inputs: As the network gets them, (rows, *input_shape); 512 rows are looked at.
    """
    tallies: dict[nn.Module, _Tally] = {}
    for name, module in network.named_modules():
        tally = _tally(name, module)
        if tally is not None:
            tallies[module] = tally
    if not tallies:
        return ()
    with evaluation_mode(network), _counting(tallies):
        at_once = max(1, min(ROWS_AT_ONCE, MOST_VALUES // max(1, inputs[0].numel())))
        for rows in torch.split(as_weights(network, inputs[:MOST_ROWS]), at_once):
            # Not by `network(…)`: a compiled network would be compiled again with the hooks.
            network.forward(rows)
    found = (tally.activity() for tally in tallies.values())
    return tuple(one for one in found if one is not None)


def _tally(name: str, module: nn.Module) -> _Tally | None:
    kind = type(module).__name__
    if isinstance(module, nn.RNNBase):
        function = _in_cell(module)
        mode = "RNN" if module.mode.startswith("RNN") else module.mode
        return _Tally(name, kind=f"{mode} ({function})", function=function, axis=-1)
    if isinstance(module, _POINTWISE):
        return _Tally(name, kind=kind, function=kind.lower(), axis=1)
    return None


def _in_cell(module: nn.RNNBase) -> str:
    """Return which function gives the states their values: torch's own gated cells have tanh."""
    relu = module.mode == "RNN_RELU" or type(module) not in (nn.RNN, nn.GRU, nn.LSTM)
    return "relu" if relu else "tanh"


@contextmanager
def _counting(tallies: dict[nn.Module, _Tally]) -> Iterator[None]:
    def count(tally: _Tally, _module: nn.Module, _inputs: Any, outputs: Any) -> None:
        tally.add(outputs[0] if isinstance(outputs, tuple) else outputs)

    hooks = [
        module.register_forward_hook(partial(count, tally)) for module, tally in tallies.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
