import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.networks.convolution_layer import build_convolution
from pipeline.networks.geometry import LayerSizes
from pipeline.networks.plan import plan_layers

Array = NDArray[np.float64]


def convolution(
    lengths: tuple[int, ...],
    *shapes: tuple[int, ...],
    inputs: int = 2,
    channels: int = 3,
    mixing: str = "full",
    stride: int = 1,
    dilation: int = 1,
) -> nn.Module:
    directions = len(lengths)
    sizes = LayerSizes(
        shapes=list(shapes),
        stride=(stride,) * directions,
        padding=None,
        dilation=(dilation,) * directions,
        pool=None,
    )
    (plan,) = plan_layers(lengths, [sizes])
    return build_convolution(inputs, channels, plan=plan, mixing=mixing, bias=True).double()


def sum_of_the_notes(image: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """w'[i, j] = sum over x, y of w[i + x, j + y] c[x, y], zeros outside, ceil(n / stride) places.

    The first place is where the kernel's zeros are shared evenly, the odd one at the end.
    """
    places = [-(-length // stride) for length in image.shape]
    result = np.zeros(places)
    begins = [
        max((n - 1) * stride + (k - 1) * dilation + 1 - length, 0) // 2
        for n, k, length in zip(places, kernel.shape, image.shape, strict=True)
    ]
    for i, j in np.ndindex(*places):
        for x, y in np.ndindex(*kernel.shape):
            row = i * stride + x * dilation - begins[0]
            column = j * stride + y * dilation - begins[1]
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                result[i, j] += image[row, column] * kernel[x, y]
    return result


def arrays_of(layer: nn.Module) -> tuple[Array, Array]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def test_a_convolution_is_the_sum_of_the_notes_over_all_input_channels() -> None:
    for shape, stride, dilation in [((3, 3), 1, 1), ((1, 5), 1, 1), ((4, 2), 1, 1), ((3, 2), 2, 2)]:
        layer = convolution((7, 6), shape, stride=stride, dilation=dilation)
        image = np.random.default_rng(0).normal(size=(2, 7, 6))
        kernels, bias = arrays_of(layer.kernel)
        expected = [
            sum(
                sum_of_the_notes(image[i], kernels[o, i], stride=stride, dilation=dilation)
                for i in range(2)
            )
            + bias[o]
            for o in range(3)
        ]
        result = layer(torch.tensor(image[None]))[0].detach().numpy()
        np.testing.assert_allclose(result, np.stack(expected), atol=1e-12)


def test_a_kernel_is_not_flipped() -> None:
    layer = convolution((4,), (2,), inputs=1, channels=1)
    layer.kernel.weight.data = torch.tensor([[[1.0, 10.0]]], dtype=torch.float64)
    layer.kernel.bias.data.zero_()
    series = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], dtype=torch.float64)
    assert layer(series).flatten().tolist() == [21.0, 32.0, 43.0, 4.0]


def test_a_kernels_gradient_is_the_sum_over_all_positions() -> None:
    layer = convolution((5, 4), (3, 3), inputs=1, channels=1)
    rng = np.random.default_rng(1)
    image, upstream = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    layer(torch.tensor(image[None, None])).backward(torch.tensor(upstream[None, None]))
    padded = np.pad(image, 1)
    expected = np.zeros((3, 3))
    for x, y in np.ndindex(3, 3):
        for i, j in np.ndindex(5, 4):
            expected[x, y] += upstream[i, j] * padded[i + x, j + y]
    np.testing.assert_allclose(layer.kernel.weight.grad[0, 0].numpy(), expected, atol=1e-12)


def test_weighted_mixing_is_one_kernel_a_channel_and_one_weight_a_pair() -> None:
    layer = convolution((6, 5), (3, 2), inputs=3, channels=4, mixing="weighted")
    pairs = layer.mixing.weight.detach().numpy()[:, :, 0, 0]  # (Co, Ci)
    kernels, bias = arrays_of(layer.kernel)  # (Co, 1, Kh, Kw)
    image = np.random.default_rng(2).normal(size=(3, 6, 5))
    expected = [
        sum(pairs[o, i] * sum_of_the_notes(image[i], kernels[o, 0]) for i in range(3)) + bias[o]
        for o in range(4)
    ]
    result = layer(torch.tensor(image[None]))[0].detach().numpy()
    np.testing.assert_allclose(result, np.stack(expected), atol=1e-12)
    assert sum(weight.numel() for weight in layer.parameters()) == 3 * 4 + 4 * 3 * 2 + 4


def test_several_shapes_share_the_channels_and_are_concatenated() -> None:
    layer = convolution((5, 5), (1, 5), (5, 1), (3, 3), inputs=1, channels=8)
    image = np.random.default_rng(3).normal(size=(5, 5))
    kernels_of_shapes = [arrays_of(branch.kernel) for branch in layer.shapes]
    assert [len(bias) for _, bias in kernels_of_shapes] == [3, 3, 2]
    expected = [
        sum_of_the_notes(image, kernel[0]) + offset
        for kernels, bias in kernels_of_shapes
        for kernel, offset in zip(kernels, bias, strict=True)
    ]
    result = layer(torch.tensor(image[None, None]))[0].detach().numpy()
    np.testing.assert_allclose(result, np.stack(expected), atol=1e-12)


def test_a_table_is_a_sequence_of_its_variables_and_a_series_has_features_as_channels(
    build,
) -> None:
    table = build("cnn1d", (30,), 2)
    series = build("cnn1d", (30, 1), 2)
    series.load_state_dict(table.state_dict())
    rows = torch.randn(4, 30)
    assert torch.equal(table(rows), series(rows.unsqueeze(2)))
    assert build("cnn1d", (30, 7), 2).layers[0].convolution.kernel.weight.shape == (25, 7, 5)
