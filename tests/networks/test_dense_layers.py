"""The perceptron, and the parts that all networks share: norms, first weights, pooling."""

import math

import pytest
import torch
from helpers.sample_networks import build
from torch import nn


def test_published_mlp_has_15210_weights_and_a_skip() -> None:
    network = build("mlp", (40, 1), 10, hidden=[100, 100], norm="none", skip=True)
    assert sum(weight.numel() for weight in network.parameters()) == 15_210
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    (w1, b1), (w2, b2), (w3, b3) = [(layer.weight, layer.bias) for layer in linears]
    samples = torch.randn(7, 40, 1)
    first = (samples[:, :, 0] @ w1.T + b1).clamp(min=0)
    second = first + (first @ w2.T + b2).clamp(min=0)
    torch.testing.assert_close(network(samples), second @ w3.T + b3)


def test_mlp_without_hidden_layer_is_logistic_regression() -> None:
    """It has 410 weights."""
    network = build("mlp", (40, 1), 10, hidden=[])
    assert sum(weight.numel() for weight in network.parameters()) == 410
    weights, bias = network.parameters()
    samples = torch.randn(3, 40, 1)
    torch.testing.assert_close(network(samples), samples[:, :, 0] @ weights.T + bias)


def test_layer_norm_standardizes_each_sample() -> None:
    network = build("mlp", (6,), 2, hidden=[16], norm="layer", activation="identity")
    values = network.layers(torch.randn(5, 6) * 10 + 3)
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.var(dim=1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_dropout_is_active_only_in_training() -> None:
    dense = {"hidden": [1000], "norm": "none", "activation": "sigmoid"}
    for model, shape, more in (("mlp", (6,), dense), ("lstm", (5, 2), {"hidden": 400})):
        network, samples = build(model, shape, 2, dropout=0.3, **more), torch.randn(1, *shape)
        share = (network.train().layers(samples)[..., -1, :] == 0).float().mean().item()
        assert 0.2 < share < 0.4
        assert not (network.eval().layers(samples) == 0).any()


AT_MINUS_ONE = {
    **{"relu": 0.0, "leaky_relu": -0.01, "elu": -0.6321206, "gelu": -0.1586553},
    **{"silu": -0.2689414, "tanh": -0.7615942, "sigmoid": 0.2689414, "softplus": 0.3132617},
    "identity": -1.0,
}


def test_activations_have_textbook_values_at_minus_one() -> None:
    for name, value in AT_MINUS_ONE.items():
        layer = build("mlp", (1,), 1, hidden=[1], activation=name).layers.layer1
        assert layer.activation(torch.tensor(-1.0)).item() == pytest.approx(value), name


WIDE = {"hidden": [400], "norm": "none"}


def first_weight(**changes: object) -> torch.Tensor:
    return build("mlp", (300,), 2, **WIDE, **changes).layers[0].linear.weight.detach()


DEVIATIONS = [
    ("default", "relu", None, math.sqrt(2 / 300)),
    ("default", "tanh", None, 5 / 3 * math.sqrt(2 / 700)),
    ("default", "sigmoid", None, math.sqrt(2 / 700)),
    ("xavier", "relu", None, math.sqrt(2) * math.sqrt(2 / 700)),
    ("kaiming", "sigmoid", None, math.sqrt(1 / 300)),
    ("kaiming", "relu", 3.0, 3 * math.sqrt(1 / 300)),
    ("keras", "relu", None, math.sqrt(2 / 700)),
    ("normal", "relu", None, 0.02),
    ("normal", "relu", 0.5, 0.5),
    ("torch", "relu", None, math.sqrt(1 / 300 / 3)),
    ("torch", "relu", 2.0, 2 * math.sqrt(1 / 300 / 3)),
]


@pytest.mark.parametrize(("init", "activation", "gain", "deviation"), DEVIATIONS)
def test_initial_weights_have_the_expected_deviation(
    init: str, activation: str, gain: float | None, deviation: float
) -> None:
    # 120,000 draws: their deviation lies within 1 % of the true one.
    weight = first_weight(init=init, activation=activation, gain=gain)
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)


def test_orthogonal_init_is_orthogonal_with_gain() -> None:
    weight = first_weight(init="orthogonal", gain=3.0)  # (400, 300)
    torch.testing.assert_close(weight.T @ weight, 9 * torch.eye(300), atol=1e-4, rtol=0)


def test_keras_init_of_lstm_equals_keras() -> None:
    network = build("lstm", (9, 1), 1, hidden=50, init="keras", readout="last")
    layer = network.layers[0].recurrent
    limit = math.sqrt(6 / (1 + 4 * 50))
    largest = layer.weight_ih_l0.abs().max().item()
    assert 0.9 * limit < largest <= limit
    states = layer.weight_hh_l0.detach()  # (200, 50): orthonormal columns over all gates
    torch.testing.assert_close(states.T @ states, torch.eye(50), atol=1e-5, rtol=0)
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0).view(4, 50)  # gates i, f, g, o
    assert torch.equal(bias, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 50))
    assert network.head.bias.item() == 0


@pytest.mark.parametrize(("model", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_default_init_makes_each_gate_orthogonal(model: str, gates: int) -> None:
    layer = build(model, (9, 2), 1, hidden=8, bidirectional=True).layers[0].recurrent
    for weight in (layer.weight_hh_l0, layer.weight_hh_l0_reverse):
        for gate in weight.detach().view(gates, 8, 8):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)


def test_torch_init_keeps_the_weights_of_torch() -> None:
    torch.manual_seed(3)
    ours = build("lstm", (9, 2), 1, hidden=8, init="torch").layers[0].recurrent
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(2, 8)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_learned_pooling_is_a_weighted_average() -> None:
    wide = build("cnn2d", (3, 7, 6), 1, channels=[3], pool="learned", pool_size=[3, 2])
    images = torch.randn(2, 3, 7, 6)
    at_first = torch.nn.functional.avg_pool2d(images, (3, 2))
    torch.testing.assert_close(wide.layers[0].pool(images), at_first)
    pool = build("cnn2d", (1, 4, 4), 1, channels=[1], pool="learned", pool_size=2).layers[0].pool
    # A softmax of the logarithms of 1, 2, 3, 4 gives the weights .1, .2, .3, .4.
    pool.logits.data = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).log()
    by_hand = [
        [0.1 * 0 + 0.2 * 1 + 0.3 * 4 + 0.4 * 5, 0.1 * 2 + 0.2 * 3 + 0.3 * 6 + 0.4 * 7],
        [0.1 * 8 + 0.2 * 9 + 0.3 * 12 + 0.4 * 13, 0.1 * 10 + 0.2 * 11 + 0.3 * 14 + 0.4 * 15],
    ]
    shrunk = pool(torch.arange(16.0).view(1, 1, 4, 4))
    torch.testing.assert_close(shrunk[0, 0], torch.tensor(by_hand))
    plain = {"kernel_size": 1, "stride": 1, "pool": "learned", "pool_size": 2}
    each = build("cnn1d", (2, 1), 1, channels=[2], **plain)
    each.layers[0].pool.logits.data = torch.tensor([[0.0, math.log(3)], [100.0, 0.0]])
    series = torch.tensor([[[4.0, 8.0], [4.0, 8.0]]])
    pooled = each.layers[0].pool(series).flatten()
    torch.testing.assert_close(pooled, torch.tensor([7.0, 4.0]))  # each channel by its own


@pytest.mark.parametrize(("pool", "expected"), [("max", 3.0), ("avg", 2.0), ("learned", 2.0)])
def test_pool_takes_maximum_or_mean_of_window(pool: str, expected: float) -> None:
    one = {"channels": [1], "kernel_size": 1, "stride": 1, "pool": pool}
    for model, shape, window in (("cnn1d", (2, 1), 2), ("cnn2d", (1, 2, 1), [2, 1])):
        layer = build(model, shape, 1, **one, pool_size=window).layers[0].pool
        values = torch.tensor([1.0, 3.0]).view(1, 1, 2, *shape[2:])
        assert layer(values).flatten().tolist() == [expected]
