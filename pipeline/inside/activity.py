"""Statistics of a network's activations: dead units, saturated values, mean and deviation."""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from pipeline.findings import Activity
from pipeline.networks.inspection import as_weights, evaluation_mode

MOST_ROWS = 512
ROWS_AT_ONCE = 64
#: Input values of one forward pass: the feature maps of large images need much memory.
MOST_VALUES = 2**20
#: Share of the way to a bound from which a value counts as saturated.
CLOSE = 0.99
_POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)


class _ActivitySums:
    """Sums over the outputs of one activation, block by block.

    Args:
        layer: Name of the module.
        kind: Name of its class.
        function: What it computes, in small letters: `relu`, `tanh`, `sigmoid`, …
        axis: Axis of its units.
    """

    def __init__(self, layer: str, *, kind: str, function: str, axis: int) -> None:
        self.layer, self.kind = layer, kind
        self._function, self._axis = function, axis
        self._values, self._saturated = 0, 0
        self._sum, self._squares = 0.0, 0.0
        self._silent: Tensor | None = None

    def add(self, _module: nn.Module, _inputs: object, outputs: object) -> None:
        """Add the outputs for some rows, (rows, …); a forward hook."""
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.numel() == 0:
            return  # a user's own module may give anything
        values = outputs.detach().float().transpose(self._axis, -1).flatten(end_dim=-2)
        silent = (values == 0).all(0).cpu()  # (units,)
        self._silent = silent if self._silent is None else self._silent & silent
        self._values += values.numel()
        self._sum += float(values.sum(dtype=torch.float64))
        self._squares += float(values.square().sum(dtype=torch.float64))
        if self._function == "tanh":
            self._saturated += int((values.abs() > CLOSE).sum())
        elif self._function == "sigmoid":
            self._saturated += int(((values - 0.5).abs() > CLOSE - 0.5).sum())

    def activity(self) -> Activity | None:
        """Return the statistics; `None` if the module was not called."""
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


def activity_of(network: nn.Module, inputs: Tensor) -> tuple[Activity, ...]:
    """Return the statistics of each activation in evaluation mode, from the input to the output.

    A unit is a channel, a value of a dense layer or of a recurrent layer's state. It is dead if a
    ReLU gives zero for all rows and places. The network is left as it was.

    Args:
        network: Maps inputs to outputs; its weights are finite.
        inputs: As the network gets them, (rows, *input_shape); the first 512 rows are used.
    """
    found = {module: _sums(name, module) for name, module in network.named_modules()}
    sums = {module: one for module, one in found.items() if one is not None}
    if not sums:
        return ()
    with evaluation_mode(network), ExitStack() as hooks:
        for module, one in sums.items():
            hooks.enter_context(module.register_forward_hook(one.add))
        at_once = max(1, min(ROWS_AT_ONCE, MOST_VALUES // max(1, inputs[0].numel())))
        for rows in torch.split(as_weights(network, inputs[:MOST_ROWS]), at_once):
            # Not by `network(…)`: a compiled network would be compiled again with the hooks.
            network.forward(rows)
    activities = (one.activity() for one in sums.values())
    return tuple(one for one in activities if one is not None)


def _sums(name: str, module: nn.Module) -> _ActivitySums | None:
    kind = type(module).__name__
    if isinstance(module, nn.RNNBase):
        # The gated cells of torch compute their values by tanh; a subclass has ReLU.
        relu = module.mode == "RNN_RELU" or type(module) not in (nn.RNN, nn.GRU, nn.LSTM)
        function = "relu" if relu else "tanh"
        mode = "RNN" if module.mode.startswith("RNN") else module.mode
        return _ActivitySums(name, kind=f"{mode} ({function})", function=function, axis=-1)
    if isinstance(module, _POINTWISE):
        return _ActivitySums(name, kind=kind, function=kind.lower(), axis=1)
    return None
