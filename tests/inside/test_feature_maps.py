"""Hidden layers of convolutions and dense maps, beside the notes' sum written as loops."""

import numpy as np
import pytest
import torch
from made_networks import build
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from pipeline.inside.views import inside_of

Array = NDArray[np.float64]
COMMON = {"norm": "none", "dropout": 0.0, "init": "default", "gain": None}
CONVOLUTION = {
    "stride": 1,
    "padding": "same",
    "dilation": 1,
    "pool": "none",
    "pool_size": 2,
    "mixing": "full",
    "hidden": [],
    "activation": "relu",
    **COMMON,
}
SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
CORNER = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0], [0.0, 0.0, 5.0]])


def sum_of_the_notes(image: Array, kernel: Array) -> Array:
    """w'[i, j] = sum over x, y of w[i + x, j + y] c[x, y], with zeros outside."""
    result = np.zeros(image.shape)
    for i, j in np.ndindex(*image.shape):
        for x, y in np.ndindex(*kernel.shape):
            row, column = i + x - kernel.shape[0] // 2, j + y - kernel.shape[1] // 2
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                result[i, j] += image[row, column] * kernel[x, y]
    return result


def network_of(*kernels: Array, activation: str = "relu", **changes: object) -> nn.Module:
    parameters = CONVOLUTION | {"channels": [len(kernels)], "kernel_size": 3} | changes
    network = build("cnn2d", (1, 8, 8), 2, **parameters | {"activation": activation})
    convolution = network.layers.layer1.convolution.kernel
    convolution.weight.data = torch.tensor(np.stack(kernels)[:, None], dtype=torch.float32)
    convolution.bias.data.zero_()
    return network


def grey(network: nn.Module, image: Array) -> Array:
    inputs = torch.tensor(image[None, None], dtype=torch.float32)
    return inside_of(network, inputs, channels=False)["feature map/layers.layer1"][0]


STEP = np.where(np.arange(8) < 4, 0.0, 1.0) * np.ones((8, 1))
DIGIT = load_digits().images[3] / 16


@pytest.mark.parametrize("image", [STEP, DIGIT], ids=["step", "digit"])
def test_the_map_of_an_edge_filter_is_the_sum_of_the_notes(image: Array) -> None:
    expected = np.maximum(sum_of_the_notes(image, SOBEL), 0)
    np.testing.assert_allclose(grey(network_of(SOBEL), image), expected, atol=1e-5)
    assert grey(network_of(SOBEL), STEP)[4].tolist() == [0, 0, 0, 4, 4, 0, 0, 0]


def test_a_kernel_without_symmetry_shows_that_it_is_not_flipped() -> None:
    shown = grey(network_of(CORNER), DIGIT)
    np.testing.assert_allclose(shown, sum_of_the_notes(DIGIT, CORNER), atol=1e-5)
    assert np.abs(shown - sum_of_the_notes(DIGIT, CORNER[::-1, ::-1])).max() > 1


def test_the_grey_picture_is_the_sum_of_all_channels_after_their_activation() -> None:
    kernels = (SOBEL, SOBEL.T, CORNER)
    each = [np.maximum(sum_of_the_notes(DIGIT, kernel), 0) for kernel in kernels]
    np.testing.assert_allclose(grey(network_of(*kernels), DIGIT), sum(each), atol=1e-5)
    inputs = torch.tensor(DIGIT[None, None], dtype=torch.float32)
    views = inside_of(network_of(*kernels), inputs, channels=True)
    np.testing.assert_allclose(views["channels/layers.layer1"][0], each, atol=1e-5)
    np.testing.assert_array_equal(views["kernels/layers.layer1"][:, 0], np.float32(kernels))


def test_a_map_is_taken_before_its_pooling() -> None:
    pooled = network_of(SOBEL, pool="max")
    np.testing.assert_array_equal(grey(pooled, DIGIT), grey(network_of(SOBEL), DIGIT))


def test_the_map_of_a_series_is_the_sum_over_its_features_and_channels() -> None:
    network = build("cnn1d", (9, 2), 2, channels=[3], kernel_size=3, **CONVOLUTION)
    series = np.random.default_rng(0).normal(size=(9, 2))
    layer = network.layers.layer1.convolution.kernel
    kernels, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    padded = np.pad(series, ((1, 1), (0, 0)))
    expected = np.zeros(9)
    for place in range(9):
        for channel in range(3):
            value = bias[channel]
            for feature in range(2):
                for x in range(3):
                    value += padded[place + x, feature] * kernels[channel, feature, x]
            expected[place] += max(value, 0.0)
    inputs = torch.tensor(series[None], dtype=torch.float32)
    shown = inside_of(network, inputs, channels=False)["feature map/layers.layer1"]
    np.testing.assert_allclose(shown, expected[None], atol=1e-5)


@pytest.mark.parametrize("mixing", ["full", "weighted"])
def test_kernels_of_several_shapes_are_one_layer_with_a_picture_each(mixing: str) -> None:
    shapes = {"channels": [6, 4], "kernel_size": [{"shapes": [[1, 5], [5, 1], 3]}, 3]}
    network = build("cnn2d", (2, 8, 8), 2, **CONVOLUTION | shapes | {"mixing": mixing})
    views = inside_of(network, torch.randn(2, 2, 8, 8), channels=True)
    inputs = 2 if mixing == "full" else 1
    assert {name: values.shape[1:] for name, values in views.items()} == {
        "feature map/layers.layer1": (8, 8),
        "channels/layers.layer1": (6, 8, 8),
        "feature map/layers.layer2": (8, 8),
        "channels/layers.layer2": (4, 8, 8),
        "kernels/layers.layer1 1: 1×5": (inputs, 1, 5),
        "kernels/layers.layer1 2: 5×1": (inputs, 5, 1),
        "kernels/layers.layer1 3: 3×3": (inputs, 3, 3),
    }


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_the_activations_of_an_mlp_with_skips_are_those_of_numpy(norm: str) -> None:
    parameters = COMMON | {"norm": norm, "activation": "tanh", "skip": True}
    network = build("mlp", (2, 3), 2, hidden=[5, 5], **parameters)
    samples = np.random.default_rng(1).normal(size=(4, 2, 3))
    views = inside_of(network, torch.tensor(samples, dtype=torch.float32), channels=False)
    values = samples.reshape(4, 6)
    for number, layer in enumerate((network.layers.layer1, network.layers.layer2.layer), start=1):
        weight = layer.linear.weight.detach().numpy()
        passed = values @ weight.T + layer.linear.bias.detach().numpy()
        if norm == "layer":
            mean, variance = passed.mean(axis=1), passed.var(axis=1)
            passed = (passed - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
        values = np.tanh(passed) + (values if number == 2 else 0)
        np.testing.assert_allclose(views[f"activation/layers.layer{number}"], values, atol=1e-5)
    assert len(views) == 2  # what the head says is no hidden layer


def test_a_network_of_ones_own_is_seen_as_far_as_its_layers_are_modules() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.Sigmoid(),
        nn.Linear(5, 2),
    )
    inputs = torch.randn(2, 1, 8, 8)
    views = inside_of(network, inputs, channels=False)
    assert list(views) == ["feature map/0", "feature map/3", "activation/5"]
    with torch.no_grad():
        np.testing.assert_array_equal(views["feature map/0"], network[:2](inputs).sum(dim=1))
        np.testing.assert_array_equal(views["feature map/3"], network[:4](inputs).sum(dim=1))
        np.testing.assert_array_equal(views["activation/5"], network[:7](inputs))


class Own(nn.Module):
    """Nothing that could be told apart: weights of its own, and a counter in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return nn.functional.dropout(rows @ self.weight)  # draws, whatever the mode


def test_nothing_to_show_is_an_empty_answer_and_leaves_no_trace() -> None:
    network = Own()
    state = torch.get_rng_state()
    assert inside_of(network, torch.ones(2, 3), channels=True) == {}
    assert network.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_is_left_exactly_as_it_was() -> None:
    changes = {"channels": [4], "kernel_size": 3, "norm": "batch", "dropout": 0.5}
    network = build("cnn2d", (1, 8, 8), 2, **CONVOLUTION | changes).train()
    network.layers.layer1.norm.eval()
    saved = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    buffers = [id(buffer) for buffer in network.buffers()]
    first = inside_of(network, torch.ones(2, 1, 8, 8), channels=True)
    second = inside_of(network, torch.ones(2, 1, 8, 8), channels=True)
    assert all(np.array_equal(first[name], second[name]) for name in first)  # nothing is dropped
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())
    assert [id(buffer) for buffer in network.buffers()] == buffers
    assert not any(module._forward_hooks for module in network.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_what_is_too_large_for_a_picture_is_thinned_and_says_so() -> None:
    network = build("cnn2d", (1, 300, 150), 2, **CONVOLUTION | {"channels": [40], "kernel_size": 3})
    inputs = torch.randn(2, 1, 300, 150)
    views = inside_of(network, inputs, channels=True)
    with torch.no_grad():
        channels = network.layers(inputs)
    np.testing.assert_allclose(
        views["feature map/layers.layer1 (every 3rd pixel)"],
        channels.sum(dim=1)[:, ::3, ::3],
        rtol=1e-5,
    )
    np.testing.assert_array_equal(
        views["channels/layers.layer1 (32 of 40 channels, every 3rd pixel)"],
        channels[:, :32, ::3, ::3],
    )
