"""What holds for every network that ships or is on a page; the table of a network's layers."""

import io
import math
from itertools import product

import pytest
import torch
from helpers.refused_calls import refusal
from helpers.sample_networks import build, parameters_of, weight_count
from torch import nn

from pipeline.networks import require_kind
from pipeline.networks.inspection import LayerRow, layer_table, operations_at_once

ModelAndInput = tuple[str, tuple[int, ...]]
INITS = ("default", "torch", "keras", "xavier", "kaiming", "orthogonal", "normal")


def test_sample_output_is_independent_of_its_batch(model_and_input: ModelAndInput) -> None:
    """A network that loads the saved weights gives the same."""
    model, shape = model_and_input
    network, fresh = build(model, shape, 4), build(model, shape, 4)
    network(torch.randn(8, *shape))  # moves the running statistics, where there are any
    samples = torch.randn(5, *shape)
    together = network.eval()(samples)
    assert together.shape == (5, 4)
    with pytest.raises(TypeError):  # the defaults stand in the YAML alone
        type(network)(shape, 4)
    alone = torch.cat([network(sample[None]) for sample in samples])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh.eval()(samples), together)
    rows = layer_table(network, shape)  # which count every weight once
    assert sum(row.parameters for row in rows) == weight_count(network)
    assert rows[-1].kind == "Linear"  # what data.positive relies on


def gradients_of(network: nn.Module) -> list[torch.Tensor]:
    """Return the gradient of each weight, which has one."""
    gradients = [weight.grad for weight in network.parameters()]
    assert None not in gradients
    return [gradient for gradient in gradients if gradient is not None]


def test_training_batch_may_be_a_single_sample(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    has_init = "init" in parameters_of(model)
    for changes in [{"init": init, "gain": 0.5} for init in INITS] if has_init else [{}]:
        network = build(model, shape, 2, **changes).train()
        network(torch.randn(1, *shape)).sum().backward()
        assert all(gradient.isfinite().all() for gradient in gradients_of(network))
        assert torch.isfinite(network(torch.randn(4, *shape))).all()


def test_network_can_memorize_one_batch(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 3)
    samples, classes = torch.randn(12, *shape), torch.arange(12) % 3
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(samples), classes).backward()
        if step == 0:  # the gradient reaches every weight
            assert all(gradient.any() for gradient in gradients_of(network))
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert torch.equal(network(samples).argmax(dim=1), classes)


PUBLISHED = [
    ("mlp", 15_210, {"hidden": [100, 100], "norm": "none", "skip": True}),
    ("mlp", 410, {"hidden": []}),
    (
        "cnn1d",
        5_210,
        {
            "channels": [25, 25, 25],
            "kernel_size": [5, 3, 3],
            "stride": 2,
            "padding": 1,
            "norm": "none",
            "pool": "none",
        },
    ),
    ("gru", 5_134, {"hidden": 6, "bidirectional": True, "readout": "flatten"}),
]


@pytest.mark.parametrize(("model", "weights", "changes"), PUBLISHED)
def test_published_network_has_its_number_of_weights(
    model: str, weights: int, changes: dict[str, object]
) -> None:
    assert weight_count(build(model, (40, 1), 10, **changes)) == weights


def test_four_dimensional_samples_fit_no_network() -> None:
    assert refusal(require_kind, "net", ("table",), (2, 3, 4, 5)) == (
        "no network takes samples of shape (2, 3, 4, 5); expected a table (features,), a series "
        "(steps, features), images (channels, height, width)"
    )


def test_convolution_parameters_equal_the_formula() -> None:
    """A layer has c_in · c_out · height · width weights and c_out biases."""
    for mixing, size in product(("full", "weighted"), ([3, 2], {"shapes": [[1, 5], 3]})):
        network = build("cnn2d", (3, 12, 12), 2, kernel_size=size, mixing=mixing)
        convolutions = [row for row in layer_table(network, (3, 12, 12)) if row.kernel]
        assert convolutions
        for row in convolutions:
            assert row.kernel is not None
            assert row.channels_in is not None
            assert row.channels_out is not None
            biases = 0 if row.name.endswith("mixing") else row.channels_out
            cells = math.prod(row.kernel)
            assert row.parameters == row.channels_in * row.channels_out * cells + biases


def test_layer_table_of_small_cnn_is_correct() -> None:
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


def test_recurrent_layer_is_one_table_row() -> None:
    """Its output is the states of all steps."""
    row = layer_table(build("lstm", (40, 1), 10), (40, 1))[0]
    assert row == LayerRow(
        name="layers.layer1.recurrent",
        kind="LSTM",
        output_shape=(40, 50),
        parameters=4 * (50 * 1 + 50 * 50 + 50 + 50),
        channels_in=None,
        channels_out=None,
        kernel=None,
        calls=40,
    )


def test_shared_work_is_one_layer_and_step() -> None:
    """The number of threads follows from it."""

    def work(model: str, shape: tuple[int, ...], **parameters: object) -> float:
        return operations_at_once(layer_table(build(model, shape, 10, **parameters), shape))

    state = 2 * 4 * (50 * 1 + 50 * 50 + 50 + 50)  # the gates of one step, by far the most work
    for steps in (20, 200):
        assert work("lstm", (steps, 1)) == pytest.approx(state, rel=0.02)
        assert work("lstm", (steps, 1), bidirectional=True) == pytest.approx(state, rel=0.02)
    sizes = {"kernel_size": 3, "stride": 2, "channels": [30], "norm": "none"}
    for steps in (400, 800):
        kernels = 2 * (5 * 30 * 3 + 30) * steps / 2
        assert work("cnn1d", (steps, 5), **sizes, pool="global") == pytest.approx(kernels, rel=0.02)
    assert work("mlp", (7,), hidden=[300, 300]) == pytest.approx(2 * 300 * 301, rel=0.1)
