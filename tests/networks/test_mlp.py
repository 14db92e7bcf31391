import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.networks.activation import build_activation
from pipeline.networks.mlp import MLP


def test_the_published_mlp_has_15210_weights_and_adds_its_second_layer_to_the_first(build) -> None:
    network = build("mlp", (40, 1), 10, hidden=[100, 100], norm="none", skip=True)
    assert sum(weight.numel() for weight in network.parameters()) == 15_210
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    (w1, b1), (w2, b2), (w3, b3) = [(layer.weight, layer.bias) for layer in linears]
    samples = torch.randn(7, 40, 1)
    first = (samples[:, :, 0] @ w1.T + b1).clamp(min=0)
    second = first + (first @ w2.T + b2).clamp(min=0)
    torch.testing.assert_close(network(samples), second @ w3.T + b3)


def test_no_hidden_layer_is_logistic_regression_with_410_weights(build) -> None:
    network = build("mlp", (40, 1), 10, hidden=[])
    assert sum(weight.numel() for weight in network.parameters()) == 410
    weights, bias = network.parameters()
    samples = torch.randn(3, 40, 1)
    torch.testing.assert_close(network(samples), samples[:, :, 0] @ weights.T + bias)


def test_layer_norm_gives_each_sample_mean_zero_before_the_activation(build) -> None:
    network = build("mlp", (6,), 2, hidden=[16], norm="layer", activation="identity")
    values = network.layers(torch.randn(5, 6) * 10 + 3)
    torch.testing.assert_close(values.mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.var(dim=1, correction=0), torch.ones(5), atol=1e-3, rtol=0)


def test_dropout_zeroes_values_in_training_and_none_in_evaluation(build) -> None:
    network = build("mlp", (6,), 2, hidden=[1000], norm="none", activation="sigmoid", dropout=0.3)
    samples = torch.randn(1, 6)
    share = (network.train().layers(samples) == 0).float().mean().item()
    assert 0.2 < share < 0.4
    assert not (network.eval().layers(samples) == 0).any()


@pytest.mark.parametrize(
    ("name", "at_minus_one"),
    [
        ("relu", 0.0),
        ("leaky_relu", -0.01),
        ("elu", -0.6321206),
        ("gelu", -0.1586553),
        ("silu", -0.2689414),
        ("tanh", -0.7615942),
        ("sigmoid", 0.2689414),
        ("softplus", 0.3132617),
        ("identity", -1.0),
    ],
)
def test_an_activation_has_its_textbook_value_at_minus_one(name: str, at_minus_one: float) -> None:
    assert build_activation(name)(torch.tensor(-1.0)).item() == pytest.approx(at_minus_one)


def test_a_hidden_width_of_zero_is_refused_with_its_layer(build) -> None:
    message = r"^model\.hidden=\[8,0\] has 0 in layer 2; expected whole numbers of at least 1$"
    with pytest.raises(ConfigError, match=message):
        build("mlp", (6,), 2, hidden=[8, 0])


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_a_dropout_outside_zero_to_one_is_refused(build, dropout: float) -> None:
    message = rf"^model\.dropout={dropout} is out of range; expected 0 <= dropout < 1$"
    with pytest.raises(ConfigError, match=message):
        build("mlp", (6,), 2, dropout=dropout)


def test_every_parameter_must_be_given_by_its_name() -> None:
    with pytest.raises(TypeError, match="hidden"):
        MLP((6,), 2)
