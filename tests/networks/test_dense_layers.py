"""The perceptron, and the parts that all networks share: norms, first weights, pooling."""

import math
from fractions import Fraction

import pytest
import torch
from helpers.case_tables import cases, from_yaml
from helpers.sample_networks import build, head_of, layers_of, module_of, recurrent_of
from torch import nn

from pipeline.networks.layers import LearnedPool


def test_mlp_without_hidden_layer_is_logistic_regression() -> None:
    network = build("mlp", (40, 1), 10, hidden=[])
    weights, bias = network.parameters()
    samples = torch.randn(3, 40, 1)
    torch.testing.assert_close(network(samples), samples[:, :, 0] @ weights.T + bias)


def test_layer_norm_standardizes_each_sample() -> None:
    network = build("mlp", (6,), 2, hidden=[16], norm="layer", activation="identity")
    values = layers_of(network)(torch.randn(5, 6) * 10 + 3)
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.var(dim=1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_dropout_is_active_only_in_training() -> None:
    dense = {"hidden": [1000], "norm": "none", "activation": "sigmoid"}
    for model, shape, more in (("mlp", (6,), dense), ("lstm", (5, 2), {"hidden": 400})):
        network, samples = build(model, shape, 2, dropout=0.3, **more), torch.randn(1, *shape)
        share = (layers_of(network.train())(samples)[..., -1, :] == 0).float().mean().item()
        assert 0.2 < share < 0.4
        assert not (layers_of(network.eval())(samples) == 0).any()


AT_MINUS_ONE = """
relu → 0.0
leaky_relu → -0.01
elu → -0.6321206
gelu → -0.1586553
silu → -0.2689414
tanh → -0.7615942
sigmoid → 0.2689414
softplus → 0.3132617
identity → -1.0
"""


@pytest.mark.parametrize(("name", "value"), cases(AT_MINUS_ONE))
def test_activation_has_its_textbook_value(name: str, value: str) -> None:
    network = build("mlp", (1,), 1, hidden=[1], activation=name)
    activation = module_of(network, "layers.layer1.activation", nn.Module)
    assert activation(torch.tensor(-1.0)).item() == pytest.approx(float(value))


def first_weight(**changes: object) -> torch.Tensor:
    network = build("mlp", (300,), 2, hidden=[400], norm="none", **changes)
    return module_of(network, "layers.layer1.linear", nn.Linear).weight.detach()


# The variance of the weights of a layer with 300 inputs and 400 outputs.
VARIANCES = """
default → relu → null → 2/300
default → tanh → null → 50/6300
default → sigmoid → null → 2/700
xavier → relu → null → 4/700
kaiming → sigmoid → null → 1/300
kaiming → relu → 3.0 → 9/300
keras → relu → null → 2/700
normal → relu → null → 0.0004
normal → relu → 0.5 → 0.25
torch → relu → null → 1/900
torch → relu → 2.0 → 4/900
"""


@pytest.mark.parametrize(("init", "activation", "gain", "variance"), cases(VARIANCES))
def test_initial_weights_have_the_expected_variance(
    init: str, activation: str, gain: str, variance: str
) -> None:
    # 120,000 draws: their deviation lies within 1 % of the true one.
    weight = first_weight(init=init, activation=activation, **from_yaml(f"gain: {gain}"))
    assert weight.std().item() == pytest.approx(math.sqrt(Fraction(variance)), rel=0.01)


def test_orthogonal_init_is_orthogonal_with_gain() -> None:
    weight = first_weight(init="orthogonal", gain=3.0)  # (400, 300)
    torch.testing.assert_close(weight.T @ weight, 9 * torch.eye(300), atol=1e-4, rtol=0)


def test_keras_init_of_lstm_equals_keras() -> None:
    network = build("lstm", (9, 1), 1, hidden=50, init="keras", readout="last")
    layer = recurrent_of(network)
    limit = math.sqrt(6 / (1 + 4 * 50))
    largest = layer.get_parameter("weight_ih_l0").abs().max().item()
    assert 0.9 * limit < largest <= limit
    states = layer.get_parameter(
        "weight_hh_l0"
    ).detach()  # (200, 50): orthonormal columns over all gates
    torch.testing.assert_close(states.T @ states, torch.eye(50), atol=1e-5, rtol=0)
    bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).view(
        4, 50
    )  # gates i, f, g, o
    assert torch.equal(bias, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 50))
    assert head_of(network).bias.item() == 0


@pytest.mark.parametrize(("model", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_default_init_makes_each_gate_orthogonal(model: str, gates: int) -> None:
    layer = recurrent_of(build(model, (9, 2), 1, hidden=8, bidirectional=True))
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        for gate in layer.get_parameter(name).detach().view(gates, 8, 8):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)


def test_torch_init_keeps_the_weights_of_torch() -> None:
    torch.manual_seed(3)
    ours = recurrent_of(build("lstm", (9, 2), 1, hidden=8, init="torch"))
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(2, 8)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def pool_of(model: str, shape: tuple[int, ...], **sizes: object) -> nn.Module:
    """Return the pooling of a network of one layer."""
    network = build(model, shape, 1, kernel_size=1, stride=1, **sizes)
    return module_of(network, "layers.layer1.pool", nn.Module)


def learned_pool(
    model: str, shape: tuple[int, ...], logits: torch.Tensor | None, **sizes: object
) -> LearnedPool:
    pool = pool_of(model, shape, pool="learned", **sizes)
    assert isinstance(pool, LearnedPool)
    if logits is not None:
        pool.logits.data = logits
    return pool


def test_learned_pooling_begins_as_an_average() -> None:
    images = torch.randn(2, 3, 7, 6)
    pool = learned_pool("cnn2d", (3, 7, 6), None, channels=[3], pool_size=[3, 2])
    torch.testing.assert_close(pool(images), nn.functional.avg_pool2d(images, (3, 2)))


def test_learned_pooling_is_a_weighted_average() -> None:
    # A softmax of the logarithms of 1, 2, 3, 4 gives the weights .1, .2, .3, .4.
    logits = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]).log()
    pool = learned_pool("cnn2d", (1, 4, 4), logits, channels=[1], pool_size=2)
    by_hand = [
        [0.1 * 0 + 0.2 * 1 + 0.3 * 4 + 0.4 * 5, 0.1 * 2 + 0.2 * 3 + 0.3 * 6 + 0.4 * 7],
        [0.1 * 8 + 0.2 * 9 + 0.3 * 12 + 0.4 * 13, 0.1 * 10 + 0.2 * 11 + 0.3 * 14 + 0.4 * 15],
    ]
    shrunk = pool(torch.arange(16.0).view(1, 1, 4, 4))
    torch.testing.assert_close(shrunk[0, 0], torch.tensor(by_hand))


def test_each_channel_has_its_own_learned_pooling() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [100.0, 0.0]])
    pool = learned_pool("cnn1d", (2, 1), logits, channels=[2], pool_size=2)
    pooled = pool(torch.tensor([[[4.0, 8.0], [4.0, 8.0]]])).flatten()
    torch.testing.assert_close(pooled, torch.tensor([7.0, 4.0]))


@pytest.mark.parametrize(("pool", "expected"), [("max", 3.0), ("avg", 2.0)])
def test_pool_takes_maximum_or_mean_of_window(pool: str, expected: float) -> None:
    for model, shape, window in (("cnn1d", (2, 1), 2), ("cnn2d", (1, 2, 1), [2, 1])):
        layer = pool_of(model, shape, channels=[1], pool=pool, pool_size=window)
        values = torch.tensor([1.0, 3.0]).view(1, 1, 2, *shape[2:])
        assert layer(values).flatten().tolist() == [expected]
