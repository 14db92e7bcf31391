"""What some rows make of a network, layer by layer: arrays under names that say what they are."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from pipeline.findings.records import Floats
from pipeline.inside.bounds import View, bounded
from pipeline.inside.layers import Call, Layer, hidden_layers, watch
from pipeline.inside.recurrence import over_time
from pipeline.networks.inspection import as_weights, evaluation_mode
from pipeline.networks.recurrent import RecurrentLayer


def inside_of(network: nn.Module, inputs: Tensor, *, channels: bool) -> dict[str, Floats]:
    """Return what the hidden layers of a network give for some rows.

    The network is looked at in evaluation mode and left exactly as it was. Layers are seen after
    their activation and before their pooling; a network of one's own is seen as far as its layers
    and activations are torch's modules. The names are

    - `feature map/layers.layer1`: all channels of a convolutional layer added up, (samples,
      height, width) or (samples, positions);
    - `channels/layers.layer1`: each of them, (samples, channels, …), where `channels` is true;
    - `kernels/layers.layer1`: those of the first convolution, (channels out, channels in, …),
      where `channels` is true; of several shapes, each with its shape behind the name;
    - `activation/layers.layer1`: values of a dense layer, (samples, units), or (samples, steps,
      units) of one that is applied to each step;
    - `state/layers.layer1`: hidden state of a recurrent layer, (samples, steps, units), and for
      its gates `forget gate/…`, `input gate/…`, `output gate/…`, `candidate/…`, `cell/…` or
      `reset gate/…`, `update gate/…`, `candidate/…`. Both directions of a layer are
      `layers.layer1 forward` and `layers.layer1 backward`.

    What is too large for a picture is thinned, and says so behind its name: `state/layers.layer1
    (every 4th step, 64 of 500 units)`.

    Args:
        network: Any network.
        inputs: Rows as the network gets them, (samples, *input_shape).
        channels: Whether all channels and the first kernels are wanted, too.
    """
    calls: list[Call] = []
    hooks = watch(network, calls)
    try:
        with evaluation_mode(network):
            # What torch.compile has made of the whole network would pass the hooks by.
            network.forward(as_weights(network, inputs))
            return bounded([*_views(network, calls, len(inputs), channels=channels)])
    finally:
        for hook in hooks:
            hook.remove()


def _views(
    network: nn.Module, calls: Sequence[Call], samples: int, *, channels: bool
) -> Iterator[View]:
    recurrent = {call.name: call for call in calls if isinstance(call.module, nn.RNNBase)}
    for call in recurrent.values():
        yield from _of_recurrent(network, call)
    # A layer that is used again is seen at its last use.
    layers = {layer.name: layer for layer in hidden_layers(network, calls)}
    for layer in layers.values():
        if len(layer.values) == samples:
            yield from _of_layer(layer, channels=channels)
    first = next((layer for layer in layers.values() if layer.convolutions), None)
    if channels and first is not None:
        yield from _kernels(first)


def _of_recurrent(network: nn.Module, call: Call) -> Iterator[View]:
    assert isinstance(call.module, nn.RNNBase)
    block = call.name.rpartition(".")[0]
    ours = isinstance(network.get_submodule(block), RecurrentLayer)
    name = block if ours else call.name
    for (kind, place), values in over_time(call.module, call.inputs, call.outputs).items():
        yield View(name=f"{kind}/{name}{place}", values=values, axes=("step", "unit"))


def _of_layer(layer: Layer, *, channels: bool) -> Iterator[View]:
    values, name = layer.values, layer.name
    if not layer.convolutions:
        axes = {2: ("value",), 3: ("step", "unit")}.get(values.ndim)
        if axes is not None:
            yield View(name=f"activation/{name}", values=values, axes=axes)
        return
    along = {3: ("position",), 4: ("pixel", "pixel")}.get(values.ndim)
    if along is not None:
        yield View(name=f"feature map/{name}", values=values.sum(dim=1), axes=along)
        if channels:
            yield View(name=f"channels/{name}", values=values, axes=("channel", *along))


def _kernels(layer: Layer) -> Iterator[View]:
    """Yield the kernels of a layer; those that only mix channels are no pictures."""
    weights = [module.weight for module in layer.convolutions if isinstance(module.weight, Tensor)]
    found = [weight.detach() for weight in weights if weight[0, 0].numel() > 1]
    for number, weight in enumerate(found, start=1):
        shape = "×".join(str(length) for length in weight.shape[2:])
        which = f" {number}: {shape}" if len(found) > 1 else ""
        along = ("pixel",) * (weight.ndim - 2)
        yield View(name=f"kernels/{layer.name}{which}", values=weight, axes=("channel", *along))
