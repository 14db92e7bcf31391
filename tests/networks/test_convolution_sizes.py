import math

import pytest
import torch

from pipeline.errors import ConfigError

IMAGES = (1, 8, 8)


def shapes_of(network: torch.nn.Module) -> list[tuple[int, ...]]:
    return [layer.convolution.kernel.weight.shape[2:] for layer in network.layers]


@pytest.mark.parametrize("length", [5, 12, 40])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_gives_the_length_divided_by_the_stride_rounded_up(
    build, length: int, kernel: int, stride: int
) -> None:
    network = build("cnn1d", (length, 1), 2, channels=[4], kernel_size=kernel, stride=stride)
    maps = network.layers(torch.randn(3, 1, length))
    assert maps.shape == (3, 4, math.ceil(length / stride))


def test_same_padding_keeps_the_size_under_dilation(build) -> None:
    network = build(
        "cnn2d", (3, 9, 7), 2, channels=[2], kernel_size=[[2, 3]], dilation=3, pool="none"
    )
    assert network.layers(torch.randn(1, 3, 9, 7)).shape == (1, 2, 9, 7)


def test_the_published_cnn_has_5210_weights_and_lengths_19_10_5(build) -> None:
    network = build("cnn1d", (40, 1), 10, channels=[25, 25, 25], kernel_size=[5, 3, 3], stride=2,
                    padding=1, norm="none", pool="none", hidden=[])  # fmt: skip
    assert sum(weight.numel() for weight in network.parameters()) == 5_210
    values, lengths = torch.randn(2, 1, 40), []
    for layer in network.layers:
        values = layer(values)
        lengths.append(values.shape[2])
    assert lengths == [19, 10, 5]


@pytest.mark.parametrize(
    ("kernel_size", "shapes"),
    [
        (3, [(3, 3), (3, 3)]),
        ([1, 5], [(1, 5), (1, 5)]),
        ([[1, 4], 3], [(1, 4), (3, 3)]),
        ([[1, 3], [3, 1]], [(1, 3), (3, 1)]),
        ([{"shapes": [4]}, 3], [(4, 4), (3, 3)]),
    ],
)
def test_kernel_sizes_of_two_layers_are_read_as_the_configuration_says(
    build, kernel_size: object, shapes: list[tuple[int, int]]
) -> None:
    network = build("cnn2d", IMAGES, 2, kernel_size=kernel_size, pool="none")
    assert shapes_of(network) == shapes


def test_a_flat_list_of_three_numbers_is_one_a_layer_in_two_directions(build) -> None:
    network = build(
        "cnn2d", IMAGES, 2, channels=[4, 4, 4], kernel_size=[5, 3, 1], stride=[1, 2, 1], pool="none"
    )
    assert shapes_of(network) == [(5, 5), (3, 3), (1, 1)]
    assert network.layers(torch.randn(1, *IMAGES)).shape == (1, 4, 4, 4)


def test_several_shapes_for_all_layers_keep_the_channels_of_each_layer(build) -> None:
    network = build("cnn2d", IMAGES, 2, kernel_size={"shapes": [[1, 3], [3, 1], 2]})
    assert network.layers(torch.randn(1, *IMAGES)).shape == (1, 16, 2, 2)


def test_global_pooling_is_the_mean_over_all_positions_and_reads_any_length(build) -> None:
    network = build("cnn1d", (40, 1), 2, pool="global")
    maps = network.layers(torch.randn(3, 1, 40))
    assert network.head.in_features == maps.shape[1]
    samples = torch.randn(3, 40, 1)
    expected = network.head(network.layers(samples.transpose(1, 2)).mean(dim=2))
    torch.testing.assert_close(network(samples), expected)
    assert network(torch.randn(3, 60, 1)).shape == (3, 2)


def test_a_dense_head_stands_between_the_maps_and_the_outputs(build) -> None:
    network = build("cnn2d", IMAGES, 3, hidden=[20, 7])
    assert [layer.linear.out_features for layer in network.dense] == [20, 7]
    assert network.head.in_features == 7


@pytest.mark.parametrize(
    ("model", "shape", "changes", "message"),
    [
        (
            "cnn1d",
            (40, 1),
            {"kernel_size": 99},
            "model.kernel_size=99 does not fit layer 1: it reaches over 99 values, but the length "
            "there is 40; expected a smaller kernel, stride or pooling, or fewer layers",
        ),
        (
            "cnn2d",
            IMAGES,
            {"kernel_size": [5, 3]},
            "model.kernel_size=[5,3] does not fit layer 2: it reaches over 5 values, but the "
            "length there is 4; expected a smaller kernel, stride or pooling, or fewer layers",
        ),
        (
            "cnn1d",
            (40, 1),
            {"dilation": 5},
            "model.kernel_size=3 does not fit layer 3: it reaches over 11 values "
            "(model.dilation=5), but the length there is 10; expected a smaller kernel, stride or "
            "pooling, or fewer layers",
        ),
        (
            "cnn2d",
            IMAGES,
            {"kernel_size": 1, "pool_size": [1, 5]},
            "model.pool_size=[1,5] does not fit layer 2: the length there is 1; expected a smaller "
            "window or stride, fewer layers, or model.pool=global",
        ),
        (
            "cnn2d",
            IMAGES,
            {"kernel_size": {"shapes": [1, 3]}, "padding": 1},
            "model.padding=1 gives the shapes in layer 1 outputs of different lengths, 10 and 8; "
            "expected model.padding=same",
        ),
        (
            "cnn1d",
            (40, 1),
            {"kernel_size": [5, 3]},
            "model.kernel_size=[5,3] has 2 entries for 3 layers; expected one a layer, or a single "
            "number for all layers",
        ),
        (
            "cnn2d",
            IMAGES,
            {"stride": [1, 1, 1]},
            "model.stride=[1,1,1] has 3 entries for 2 layers; expected one a layer, or a single "
            "number or [height,width] for all layers",
        ),
        (
            "cnn2d",
            IMAGES,
            {"kernel_size": [[1, 2, 3], 3]},
            "model.kernel_size=[[1,2,3],3] holds [1,2,3]; expected a number or [height,width]",
        ),
        (
            "cnn1d",
            (40, 1),
            {"kernel_size": {"sizes": [3, 5]}},
            "model.kernel_size={sizes:[3,5]} is unclear; several shapes in one layer are written "
            "{shapes:[3,5]}",
        ),
        (
            "cnn1d",
            (40, 1),
            {"stride": 0},
            "model.stride=0 is too small; expected numbers of at least 1",
        ),
        (
            "cnn1d",
            (40, 1),
            {"padding": [1, 1, -1]},
            "model.padding=[1,1,-1] is too small; expected numbers of at least 0",
        ),
        (
            "cnn1d",
            (40, 1),
            {"channels": [25, 0, 25]},
            "model.channels=[25,0,25] has 0 in layer 2; expected whole numbers of at least 1",
        ),
        (
            "cnn1d",
            (40, 1),
            {"channels": [4, 1, 4], "kernel_size": {"shapes": [1, 3]}},
            "model.channels=[4,1,4] has 1 in layer 2; expected at least 2, one for each shape of "
            "its kernels",
        ),
        (
            "cnn1d",
            (40, 1),
            {"channels": []},
            "model.channels=[] has no layer; expected one or more",
        ),
    ],
)
def test_sizes_that_can_not_work_are_refused_with_key_layer_and_length(
    build, model: str, shape: tuple[int, ...], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(model, shape, 2, **changes)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            "cnn2d",
            (30,),
            "model=cnn2d reads images (channels, height, width), but the data are a table "
            "(features,) of shape (30,)",
        ),
        (
            "cnn1d",
            IMAGES,
            "model=cnn1d reads a table (features,) or a series (steps, features), but the data are "
            "images (channels, height, width) of shape (1, 8, 8)",
        ),
        (
            "lstm",
            IMAGES,
            "model=lstm reads a series (steps, features), but the data are images (channels, "
            "height, width) of shape (1, 8, 8)",
        ),
        (
            "mlp",
            (2, 3, 4, 5),
            "samples of shape (2, 3, 4, 5) fit no network; expected a table (features,), a series "
            "(steps, features), images (channels, height, width)",
        ),
    ],
)
def test_a_kind_of_input_that_a_model_can_not_read_is_refused(
    build, model: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(model, shape, 2)
    assert str(refusal.value) == message
