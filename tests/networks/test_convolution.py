"""Convolutional networks: the sum that a layer computes, and the sizes of kernels and outputs."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from helpers.case_tables import cases, from_yaml, refusals
from helpers.refused_calls import refusal
from helpers.sample_networks import (
    Array,
    build,
    head_of,
    layers_of,
    module_of,
    sum_of_the_notes,
    weight_count,
)
from torch import nn

from pipeline.networks.convolution import Concatenation

IMAGES = (1, 8, 8)


def convolution(*shapes: tuple[int, int], channels: int = 3, **changes: object) -> nn.Module:
    """The convolution of a network of one layer, with biases other than zero."""
    sizes = {"shapes": [list(shape) for shape in shapes]}
    usual = {"stride": 1, "pool": "none", "norm": "none", "kernel_size": sizes}
    network = build("cnn2d", (2, 7, 6), 1, channels=[channels], **{**usual, **changes})
    layer = module_of(network, "layers.layer1.convolution", nn.Module).double()
    for name, weight in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    return layer


def by_hand(layer: nn.Module, image: Array, *, stride: int, dilation: int) -> Array:
    """What a layer makes of (channels, height, width), by the sum of the notes."""
    if isinstance(layer, Concatenation):  # whose shapes share the output channels
        shapes = [by_hand(one, image, stride=stride, dilation=dilation) for one in layer.shapes]
        return np.concatenate(shapes)
    kernel = module_of(layer, "kernel", nn.Conv2d)
    assert kernel.bias is not None
    kernels, biases = kernel.weight.detach().numpy(), kernel.bias.detach().numpy()
    images = [image] * len(biases)
    if hasattr(layer, "mixing"):  # one kernel a channel, and one weight a pair of channels
        pairs = module_of(layer, "mixing", nn.Conv2d).weight.detach().numpy()[:, :, 0, 0]
        images = np.einsum("oi,ihw->ohw", pairs, image)[:, None]
    maps = []
    for channels, cells, bias in zip(images, kernels, biases, strict=True):
        total = np.full(1, bias)
        for channel, weights in zip(channels, cells, strict=True):
            total = total + sum_of_the_notes(channel, weights, stride=stride, dilation=dilation)
        maps.append(total)
    return np.array(maps)


FULL = [((3, 3), 1, 1), ((1, 5), 1, 1), ((4, 2), 1, 1), ((3, 2), 2, 2)]


def test_convolution_equals_the_sum_in_the_docs() -> None:
    """The sum runs over all input channels."""
    image = np.random.default_rng(0).normal(size=(2, 7, 6))
    layers = [(convolution(s, stride=n, dilation=d), n, d) for s, n, d in FULL]
    weighted = convolution((3, 2), channels=4, mixing="weighted")
    assert weight_count(weighted) == 2 * 4 + 4 * 3 * 2 + 4
    several = convolution((1, 5), (5, 1), (3, 3), channels=8)
    assert isinstance(several, Concatenation)
    sizes = [len(module_of(shape, "kernel", nn.Conv2d).weight) for shape in several.shapes]
    assert sizes == [3, 3, 2]
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
    channels = build("cnn1d", (30, 7), 2)
    kernel = module_of(channels, "layers.layer1.convolution.kernel", nn.Conv1d)
    assert kernel.weight.shape == (25, 7, 5)


def shapes_of(network: nn.Module) -> str:
    """Return the shapes of all kernels, such as `3×3 1×5`."""
    kernels = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return " ".join("{}×{}".format(*kernel.weight.shape[2:]) for kernel in kernels)


@pytest.mark.parametrize("length", [5, 12, 40])
def test_same_padding_divides_length_by_stride(length: int) -> None:
    """The length is rounded up."""
    for kernel, stride in product(range(1, 6), range(1, 4)):
        network = build("cnn1d", (length, 1), 2, channels=[4], kernel_size=kernel, stride=stride)
        maps = layers_of(network)(torch.randn(3, 1, length))
        assert maps.shape == (3, 4, math.ceil(length / stride))
    dilated = {"kernel_size": [[2, 3]], "dilation": 3, "pool": "none"}
    network = build("cnn2d", (3, length, 7), 2, channels=[2], **dilated)
    assert layers_of(network)(torch.randn(1, 3, length, 7)).shape == (1, 2, length, 7)


KERNELS = """
3 → 3×3 3×3
[1, 5] → 1×5 1×5
[[1, 4], 3] → 1×4 3×3
[[1, 3], [3, 1]] → 1×3 3×1
[{shapes: [4]}, 3] → 4×4 3×3
"""


@pytest.mark.parametrize(("kernel_size", "shapes"), cases(KERNELS))
def test_kernel_sizes_follow_the_configuration(kernel_size: str, shapes: str) -> None:
    sizes = from_yaml(f"kernel_size: {kernel_size}")
    network = build("cnn2d", IMAGES, 2, pool="none", **sizes)
    assert shapes_of(network) == shapes


def test_kernel_sizes_may_differ_by_layer() -> None:
    # A flat list of three numbers is one a layer, since there are two directions.
    each = {"channels": [4, 4, 4], "kernel_size": [5, 3, 1], "stride": [1, 2, 1], "pool": "none"}
    network = build("cnn2d", IMAGES, 2, **each)
    assert shapes_of(network) == "5×5 3×3 1×1"
    assert layers_of(network)(torch.randn(1, *IMAGES)).shape == (1, 4, 4, 4)
    network = build("cnn2d", IMAGES, 3, kernel_size={"shapes": [[1, 3], [3, 1], 2]}, hidden=[20, 7])
    assert layers_of(network)(torch.randn(1, *IMAGES)).shape == (1, 16, 2, 2)
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [linear.out_features for linear in linears] == [20, 7, 3]


def test_global_pooling_averages_all_positions() -> None:
    """It reads inputs of any length."""
    network = build("cnn1d", (40, 1), 2, pool="global")
    maps = layers_of(network)(torch.randn(3, 1, 40))
    assert head_of(network).in_features == maps.shape[1]
    samples = torch.randn(3, 40, 1)
    expected = head_of(network)(layers_of(network)(samples.transpose(1, 2)).mean(dim=2))
    torch.testing.assert_close(network(samples), expected)
    assert network(torch.randn(3, 60, 1)).shape == (3, 2)


REFUSALS = """
cnn1d kernel_size: 99
- model.kernel_size=99 does not fit layer 1: it covers 99 values, but the input length is 40;
  expected a smaller kernel, stride or pooling, or fewer layers

cnn2d kernel_size: [5, 3]
- model.kernel_size=[5,3] does not fit layer 2: it covers 5 values, but the input length is 4;
  expected a smaller kernel, stride or pooling, or fewer layers

cnn1d dilation: 5
- model.kernel_size=3 does not fit layer 3: it covers 11 values (model.dilation=5), but the input
  length is 10; expected a smaller kernel, stride or pooling, or fewer layers

cnn2d kernel_size: 1, pool_size: [1, 5]
- model.pool_size=[1,5] does not fit layer 2: the input length is 1; expected a smaller window or
  stride, fewer layers, or model.pool=global

cnn2d kernel_size: {shapes: [1, 3]}, padding: 1
- model.padding=1 gives outputs of different lengths in layer 1, 10 and 8; expected
  model.padding=same

cnn1d kernel_size: [5, 3]
- model.kernel_size=[5,3] has 2 entries for 3 layers; expected one per layer, or a single number for
  all layers

cnn2d stride: [1, 1, 1]
- model.stride=[1,1,1] has 3 entries for 2 layers; expected one per layer, or a single number or
  [height,width] for all layers

cnn2d kernel_size: [[1, 2, 3], 3]
- model.kernel_size=[[1,2,3],3] holds [1,2,3]; expected a number or [height,width]

cnn1d kernel_size: {sizes: [3, 5]}
- model.kernel_size={sizes:[3,5]} is ambiguous; write several shapes in one layer as {shapes:[3,5]}

cnn1d kernel_size: {shapes: [3, 0]}
- model.kernel_size={shapes:[3,0]} is too small; expected numbers of at least 1

cnn1d channels: [4, 1, 4], kernel_size: {shapes: [1, 3]}
- model.channels=[4,1,4] has 1 in layer 2; expected at least 2, one per kernel shape
"""


@pytest.mark.parametrize(("network", "message"), refusals(REFUSALS))
def test_impossible_sizes_are_refused_by_layer(network: str, message: str) -> None:
    model, _, changes = network.partition(" ")
    shape = (40, 1) if model == "cnn1d" else IMAGES
    assert refusal(build, model, shape, 2, **from_yaml(f"{{{changes}}}")) == message
