"""Inspection of a network: evaluation mode, probabilities, the layer table, activations."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from pipeline.base.findings import Activity
from pipeline.base.markup import TextTable, aligned


def probabilities(logits: Tensor) -> Tensor:
    """Return probabilities, (rows,) of the positive class for one logit, else (rows, classes)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return torch.sigmoid(logits.squeeze(1))
    return torch.softmax(logits, dim=1)


@contextmanager
def watched(
    network: nn.Module, hook_of: Callable[[str, nn.Module], Callable[..., None] | None]
) -> Iterator[None]:
    """Put a network into evaluation mode, with hooks on its modules, while the body runs.

    `hook_of(name, module)` returns a forward hook, called with the module, its positional inputs,
    its keyword inputs and its outputs, or `None` for a module without a hook. Gradients are off.
    Modes, buffers (their values and the tensors themselves) and torch's generators are restored.
    """
    modes = [(module, module.training) for module in network.modules()]
    buffers = []
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            buffers.append((module, name, buffer, buffer.clone()))
    gpus = {weight.device.index for weight in network.parameters() if weight.is_cuda}
    hooks = [(module, hook_of(name, module)) for name, module in network.named_modules()]
    network.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=gpus), ExitStack() as registrations:
            for module, hook in hooks:
                if hook is not None:
                    registration = module.register_forward_hook(hook, with_kwargs=True)
                    registrations.enter_context(registration)
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                setattr(module, name, buffer.copy_(values))


def as_weights(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return inputs on the device and with the dtype of the network's weights."""
    weight = next(network.parameters(), torch.empty(0))
    return inputs.to(device=weight.device, dtype=weight.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer of a network.

    Args:
        name: Path in the network, such as `layers.layer1.convolution`.
        kind: Name of its class, such as `Conv2d`.
        output_shape: Shape of its output for one sample, without the batch.
        parameters: Number of trained parameters.
        channels_in: Ci, the channels that each kernel reads; `None` if it is not a convolution.
        channels_out: Co, the channels of the output; `None` if it is not a convolution.
        kernel: (Kh, Kw) or (K,), so that there are Ci × Co × Kh × Kw weights; `None` if it is not
            a convolution.
        calls: Parts that must follow one another: the steps of each direction of a recurrent layer.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    channels_in: int | None
    channels_out: int | None
    kernel: tuple[int, ...] | None
    calls: int = 1

    @property
    def operations(self) -> int:
        """Approximate number of multiplications and additions for one sample in a call."""
        shape = self.output_shape
        positions = prod(shape[:-1] if self.channels_in is None else shape[1:])
        return 2 * self.parameters * positions // self.calls


def layers_text(layers: Sequence[LayerRow]) -> str:
    """Return a table of the layers as text: names, kinds, output shapes, kernels, parameters."""
    lines = []
    for layer in layers:
        output = "×".join(map(str, layer.output_shape))
        kernel = ""
        if layer.kernel is not None:
            shape = "×".join(map(str, layer.kernel))
            kernel = f"{layer.channels_in}→{layer.channels_out}, {shape}"
        lines.append((layer.name, layer.kind, output, kernel, f"{layer.parameters:,}"))
    headings = ("layer", "kind", "output", "Ci→Co, kernel", "parameters")
    table = TextTable(title="", headings=headings, lines=lines, words=frozenset({0, 1}))
    return "\n".join(aligned(table)[1:])


def layer_table(network: nn.Module, input_shape: tuple[int, ...]) -> list[LayerRow]:
    """Return a row for each layer, in the order in which one sample of zeros passes through them.

    `input_shape` is without the batch. The network and the random states are left unchanged.
    """
    rows: list[LayerRow] = []

    def hook_of(name: str, layer: nn.Module) -> Callable[..., None] | None:
        has_weights = bool(list(layer.parameters(recurse=False)))
        is_container = isinstance(layer, nn.Sequential) or bool(list(layer.children()))
        if is_container and not has_weights:
            return None
        return lambda layer, _, __, output: rows.append(_row(name, layer, output))

    with watched(network, hook_of):
        network(as_weights(network, torch.zeros(1, *input_shape)))
    return rows


def operations_at_once(layers: Iterable[LayerRow]) -> int:
    """Return the operations for one sample in a forward call, averaged over all operations.

    Threads share the work of a call, and wait for one another after it. Each call is weighted by
    its operations, so that small layers beside large ones count little.
    """
    total = 0
    weighted = 0
    for layer in layers:
        operations = layer.operations * layer.calls
        total += operations
        weighted += layer.operations * operations
    return weighted // max(1, total)


def _row(name: str, layer: nn.Module, output: Tensor | tuple[Tensor, ...]) -> LayerRow:
    values = output if isinstance(output, Tensor) else output[0]
    directions = (1 + layer.bidirectional) if isinstance(layer, nn.RNNBase) else 0
    convolution = layer if isinstance(layer, (nn.Conv1d, nn.Conv2d)) else None
    return LayerRow(
        name=name,
        kind=type(layer).__name__.lstrip("_"),
        output_shape=tuple(values.shape[1:]),
        parameters=sum(weight.numel() for weight in layer.parameters(recurse=False)),
        channels_in=convolution.in_channels // convolution.groups if convolution else None,
        channels_out=convolution.out_channels if convolution else None,
        kernel=tuple(convolution.kernel_size) if convolution else None,
        calls=max(1, directions * prod(values.shape[:-1])),
    )


# ── activations ────────────────────────────────────────────────────────────────────────────────

MOST_ROWS = 512
ROWS_AT_ONCE = 64
#: Input values of one forward pass; feature maps of large images need much memory.
MOST_VALUES = 2**20
#: Fraction of the range up to a bound beyond which a value counts as saturated.
CLOSE = 0.99
_POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)


class _ActivitySums:
    """Sums over the outputs of one activation, block by block.

    Args:
        layer: Name of the activation.
        kind: Name of its class.
        function: The function in small letters: `relu`, `tanh`, `sigmoid`, …
        axis: Axis of the units.
    """

    def __init__(self, layer: str, *, kind: str, function: str, axis: int) -> None:
        self.layer = layer
        self.kind = kind
        self._function = function
        self._axis = axis
        self._values = 0
        self._saturated = 0
        self._sum = 0.0
        self._squares = 0.0
        self._silent: Tensor | None = None

    def add(self, _module: nn.Module, _inputs: object, _options: object, outputs: object) -> None:
        """Add the outputs for some rows, (rows, …); this is a forward hook."""
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if not isinstance(outputs, Tensor) or outputs.ndim < 2 or outputs.numel() == 0:
            return  # a user's own module may return anything
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

    A unit is a channel, a value of a dense layer or a value of a recurrent layer's state. It is
    dead if a ReLU gives zero for all rows and positions. The network is left unchanged.

    Args:
        network: Maps inputs to outputs; its weights are finite.
        inputs: Inputs as the network gets them, (rows, *input_shape); the first 512 rows are used.
    """
    sums: list[_ActivitySums] = []

    def hook_of(name: str, module: nn.Module) -> Callable[..., None] | None:
        kind = type(module).__name__
        if isinstance(module, nn.RNNBase):
            # The gated cells of torch compute their values by tanh; a subclass has ReLU.
            is_relu = module.mode == "RNN_RELU" or type(module) not in (nn.RNN, nn.GRU, nn.LSTM)
            function = "relu" if is_relu else "tanh"
            kind = f"{module.mode.partition('_')[0]} ({function})"
            sums.append(_ActivitySums(name, kind=kind, function=function, axis=-1))
        elif isinstance(module, _POINTWISE):
            sums.append(_ActivitySums(name, kind=kind, function=kind.lower(), axis=1))
        else:
            return None
        return sums[-1].add

    with watched(network, hook_of):
        if not sums:
            return ()
        at_once = max(1, min(ROWS_AT_ONCE, MOST_VALUES // max(1, inputs[0].numel())))
        for batch in torch.split(as_weights(network, inputs[:MOST_ROWS]), at_once):
            # `network(…)` would compile a compiled network again because of the hooks.
            network.forward(batch)
    activities = []
    for layer_sums in sums:
        activity = layer_sums.activity()
        if activity is not None:
            activities.append(activity)
    return tuple(activities)
