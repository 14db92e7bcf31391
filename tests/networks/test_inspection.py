import pytest
import torch
from made_networks import build
from torch import nn

from pipeline.networks.inspection import LayerRow, layer_table

ModelAndInput = tuple[str, tuple[int, ...]]


def test_the_rows_count_every_weight_once(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 3)
    total = sum(weight.numel() for weight in network.parameters())
    assert sum(row.parameters for row in layer_table(network, shape)) == total


@pytest.mark.parametrize("mixing", ["full", "weighted"])
@pytest.mark.parametrize("kernel_size", [[3, 2], {"shapes": [[1, 5], 3]}])
def test_a_convolution_has_ci_co_kh_kw_weights_and_co_biases(
    mixing: str, kernel_size: object
) -> None:
    network = build("cnn2d", (3, 12, 12), 2, kernel_size=kernel_size, mixing=mixing)
    convolutions = [row for row in layer_table(network, (3, 12, 12)) if row.kernel]
    assert convolutions
    for row in convolutions:
        height, width = row.kernel
        biases = 0 if row.name.endswith("mixing") else row.channels_out
        assert row.parameters == row.channels_in * row.channels_out * height * width + biases


def test_the_table_of_a_small_cnn_reads_as_worked_out_by_hand() -> None:
    network = build("cnn2d", (1, 8, 8), 10, channels=[8], pool="learned", dropout=0.1)
    rows = [
        (row.name, row.kind, row.output_shape, row.parameters)
        for row in layer_table(network, (1, 8, 8))
    ]
    assert rows == [
        ("layers.layer1.convolution.kernel", "Conv2d", (8, 8, 8), 1 * 8 * 3 * 3 + 8),
        ("layers.layer1.activation", "ReLU", (8, 8, 8), 0),
        ("layers.layer1.pool", "LearnedPool", (8, 4, 4), 8 * 2 * 2),
        ("layers.layer1.dropout", "Dropout", (8, 4, 4), 0),
        ("head", "Linear", (10,), 128 * 10 + 10),
    ]


def test_a_recurrent_layer_is_one_row_with_its_states_as_output() -> None:
    row = layer_table(build("lstm", (40, 1), 10), (40, 1))[0]
    assert row == LayerRow(
        name="layers.layer1.recurrent",
        kind="LSTM",
        output_shape=(40, 50),
        parameters=4 * (50 * 1 + 50 * 50 + 50 + 50),
        channels_in=None,
        channels_out=None,
        kernel=None,
    )


def test_the_table_leaves_the_network_and_the_random_state_alone() -> None:
    network = build("mlp", (6,), 2, dropout=0.5).train()
    network.layers[1].eval()
    modes = [module.training for module in network.modules()]
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    before = torch.get_rng_state()
    layer_table(network, (6,))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_that_draws_in_its_forward_leaves_the_random_state_too() -> None:
    class Noisy(nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return samples + torch.randn_like(samples)

    before = torch.get_rng_state()
    layer_table(Noisy(), (6,))
    assert torch.equal(torch.get_rng_state(), before)
