"""Convolutional networks: the sum that a layer computes, and the sizes of kernels and outputs."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from helpers.sample_networks import Array, build, sum_of_the_notes
from torch import nn

from pipeline.base.errors import ConfigError

IMAGES = (1, 8, 8)


def convolution(
    lengths: tuple[int, ...],
    *shapes: tuple[int, ...],
    inputs: int = 2,
    channels: int = 3,
    **changes: object,
) -> nn.Module:
    """The convolution of a network of one layer, with biases other than zero."""
    is_series = len(lengths) == 1
    model, shape = f"cnn{len(lengths)}d", (*lengths, inputs) if is_series else (inputs, *lengths)
    sizes = {"shapes": [list(one) if len(one) > 1 else one[0] for one in shapes]}
    given = {"stride": 1, "pool": "none", "norm": "none", **changes}
    network = build(model, shape, 1, channels=[channels], kernel_size=sizes, **given)
    layer = network.layers.layer1.convolution.double()
    for name, weight in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    return layer


def by_hand(layer: nn.Module, image: Array, **sizes: int) -> Array:
    """What a layer makes of (channels, height, width), by the sum of the notes."""
    if hasattr(layer, "shapes"):  # which share the output channels
        return np.concatenate([by_hand(one, image, **sizes) for one in layer.shapes])
    kernels, bias = layer.kernel.weight.detach().numpy(), layer.kernel.bias.detach().numpy()
    images = [image] * len(bias)
    if hasattr(layer, "mixing"):  # one kernel a channel, and one weight a pair of channels
        pairs = layer.mixing.weight.detach().numpy()[:, :, 0, 0]
        images = np.einsum("oi,ihw->ohw", pairs, image)[:, None]
    found = []
    for channels, each, offset in zip(images, kernels, bias, strict=True):
        sums = (sum_of_the_notes(*one, **sizes) for one in zip(channels, each, strict=True))
        found.append(sum(sums) + offset)
    return np.array(found)


FULL = [((3, 3), 1, 1), ((1, 5), 1, 1), ((4, 2), 1, 1), ((3, 2), 2, 2)]


def test_convolution_equals_the_sum_in_the_docs() -> None:
    """The sum runs over all input channels."""
    image = np.random.default_rng(0).normal(size=(2, 7, 6))
    layers = [(convolution((7, 6), s, stride=n, dilation=d), n, d) for s, n, d in FULL]
    weighted = convolution((7, 6), (3, 2), channels=4, mixing="weighted")
    assert sum(weight.numel() for weight in weighted.parameters()) == 2 * 4 + 4 * 3 * 2 + 4
    several = convolution((7, 6), (1, 5), (5, 1), (3, 3), channels=8)
    assert [len(one.kernel.bias) for one in several.shapes] == [3, 3, 2]
    for layer, stride, dilation in [*layers, (weighted, 1, 1), (several, 1, 1)]:
        expected = by_hand(layer, image, stride=stride, dilation=dilation)
        result = layer(torch.tensor(image[None]))[0].detach().numpy()
        np.testing.assert_allclose(result, expected, atol=1e-12)


def test_table_is_a_sequence_of_its_columns() -> None:
    """A series has its features as channels."""
    table = build("cnn1d", (30,), 2)
    series = build("cnn1d", (30, 1), 2)
    series.load_state_dict(table.state_dict())
    rows = torch.randn(4, 30)
    assert torch.equal(table(rows), series(rows.unsqueeze(2)))
    assert build("cnn1d", (30, 7), 2).layers[0].convolution.kernel.weight.shape == (25, 7, 5)


def shapes_of(network: torch.nn.Module) -> list[tuple[int, ...]]:
    return [layer.convolution.kernel.weight.shape[2:] for layer in network.layers]


@pytest.mark.parametrize("length", [5, 12, 40])
def test_same_padding_divides_length_by_stride(length: int) -> None:
    """The length is rounded up."""
    for kernel, stride in product(range(1, 6), range(1, 4)):
        network = build("cnn1d", (length, 1), 2, channels=[4], kernel_size=kernel, stride=stride)
        maps = network.layers(torch.randn(3, 1, length))
        assert maps.shape == (3, 4, math.ceil(length / stride))
    dilated = {"kernel_size": [[2, 3]], "dilation": 3, "pool": "none"}
    network = build("cnn2d", (3, length, 7), 2, channels=[2], **dilated)
    assert network.layers(torch.randn(1, 3, length, 7)).shape == (1, 2, length, 7)


def test_published_cnn_has_5210_weights() -> None:
    """The lengths of its feature maps are 19, 10 and 5."""
    network = build("cnn1d", (40, 1), 10, channels=[25, 25, 25], kernel_size=[5, 3, 3], stride=2,
                    padding=1, norm="none", pool="none", hidden=[])  # fmt: skip
    assert sum(weight.numel() for weight in network.parameters()) == 5_210
    values, lengths = torch.randn(2, 1, 40), []
    for layer in network.layers:
        values = layer(values)
        lengths.append(values.shape[2])
    assert lengths == [19, 10, 5]


KERNELS = [
    (3, [(3, 3), (3, 3)]),
    ([1, 5], [(1, 5), (1, 5)]),
    ([[1, 4], 3], [(1, 4), (3, 3)]),
    ([[1, 3], [3, 1]], [(1, 3), (3, 1)]),
    ([{"shapes": [4]}, 3], [(4, 4), (3, 3)]),
]


def test_kernel_sizes_follow_the_configuration() -> None:
    for kernel_size, shapes in KERNELS:
        network = build("cnn2d", IMAGES, 2, kernel_size=kernel_size, pool="none")
        assert shapes_of(network) == shapes
    # A flat list of three numbers is one a layer, since there are two directions.
    each = {"channels": [4, 4, 4], "kernel_size": [5, 3, 1], "stride": [1, 2, 1], "pool": "none"}
    network = build("cnn2d", IMAGES, 2, **each)
    assert shapes_of(network) == [(5, 5), (3, 3), (1, 1)]
    assert network.layers(torch.randn(1, *IMAGES)).shape == (1, 4, 4, 4)
    network = build("cnn2d", IMAGES, 3, kernel_size={"shapes": [[1, 3], [3, 1], 2]}, hidden=[20, 7])
    assert network.layers(torch.randn(1, *IMAGES)).shape == (1, 16, 2, 2)
    assert [layer.linear.out_features for layer in network.dense] == [20, 7]
    assert network.head.in_features == 7


def test_global_pooling_averages_all_positions() -> None:
    """It reads inputs of any length."""
    network = build("cnn1d", (40, 1), 2, pool="global")
    maps = network.layers(torch.randn(3, 1, 40))
    assert network.head.in_features == maps.shape[1]
    samples = torch.randn(3, 40, 1)
    expected = network.head(network.layers(samples.transpose(1, 2)).mean(dim=2))
    torch.testing.assert_close(network(samples), expected)
    assert network(torch.randn(3, 60, 1)).shape == (3, 2)


SERIES, PICTURE = ("cnn1d", (40, 1)), ("cnn2d", IMAGES)
REFUSALS = [
    (
        *(SERIES, {"kernel_size": 99}),
        "model.kernel_size=99 does not fit layer 1: it covers 99 values, but the input length "
        "is 40; expected a smaller kernel, stride or pooling, or fewer layers",
    ),
    (
        *(PICTURE, {"kernel_size": [5, 3]}),
        "model.kernel_size=[5,3] does not fit layer 2: it covers 5 values, but the input "
        "length is 4; expected a smaller kernel, stride or pooling, or fewer layers",
    ),
    (
        *(SERIES, {"dilation": 5}),
        "model.kernel_size=3 does not fit layer 3: it covers 11 values (model.dilation=5), "
        "but the input length is 10; expected a smaller kernel, stride or pooling, or fewer layers",
    ),
    (
        *(PICTURE, {"kernel_size": 1, "pool_size": [1, 5]}),
        "model.pool_size=[1,5] does not fit layer 2: the input length is 1; expected a smaller "
        "window or stride, fewer layers, or model.pool=global",
    ),
    (
        *(PICTURE, {"kernel_size": {"shapes": [1, 3]}, "padding": 1}),
        "model.padding=1 gives outputs of different lengths in layer 1, 10 and 8; "
        "expected model.padding=same",
    ),
    (
        *(SERIES, {"kernel_size": [5, 3]}),
        "model.kernel_size=[5,3] has 2 entries for 3 layers; expected one per layer, or a single "
        "number for all layers",
    ),
    (
        *(PICTURE, {"stride": [1, 1, 1]}),
        "model.stride=[1,1,1] has 3 entries for 2 layers; expected one per layer, or a single "
        "number or [height,width] for all layers",
    ),
    (
        *(PICTURE, {"kernel_size": [[1, 2, 3], 3]}),
        "model.kernel_size=[[1,2,3],3] holds [1,2,3]; expected a number or [height,width]",
    ),
    (
        *(SERIES, {"kernel_size": {"sizes": [3, 5]}}),
        "model.kernel_size={sizes:[3,5]} is ambiguous; write several shapes in one layer as "
        "{shapes:[3,5]}",
    ),
    (
        *(SERIES, {"kernel_size": {"shapes": [3, 0]}}),
        "model.kernel_size={shapes:[3,0]} is too small; expected numbers of at least 1",
    ),
    (
        *(SERIES, {"channels": [4, 1, 4], "kernel_size": {"shapes": [1, 3]}}),
        "model.channels=[4,1,4] has 1 in layer 2; expected at least 2, one per kernel shape",
    ),
]


@pytest.mark.parametrize(("network", "changes", "message"), REFUSALS)
def test_impossible_sizes_are_refused_by_layer(
    network: tuple[str, tuple[int, ...]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(*network, 2, **changes)
    assert str(refusal.value) == message
