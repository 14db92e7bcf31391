import math

import pytest
import torch

WIDE = {"hidden": [400], "norm": "none"}


def first_weight(build, **changes: object) -> torch.Tensor:
    return build("mlp", (300,), 2, **WIDE, **changes).layers[0].linear.weight.detach()


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"init": "default", "activation": "relu"}, math.sqrt(2 / 300)),
        ({"init": "default", "activation": "tanh"}, 5 / 3 * math.sqrt(2 / 700)),
        ({"init": "default", "activation": "sigmoid"}, math.sqrt(2 / 700)),
        ({"init": "xavier", "activation": "relu"}, math.sqrt(2) * math.sqrt(2 / 700)),
        ({"init": "kaiming", "activation": "sigmoid"}, math.sqrt(1 / 300)),
        ({"init": "kaiming", "activation": "relu", "gain": 3.0}, 3 * math.sqrt(1 / 300)),
        ({"init": "keras", "activation": "relu"}, math.sqrt(2 / 700)),
        ({"init": "normal", "activation": "relu"}, 0.02),
        ({"init": "normal", "activation": "relu", "gain": 0.5}, 0.5),
        ({"init": "torch", "activation": "relu"}, math.sqrt(1 / 300 / 3)),
        ({"init": "torch", "activation": "relu", "gain": 2.0}, 2 * math.sqrt(1 / 300 / 3)),
    ],
)
def test_first_weights_have_the_deviation_of_their_scheme(
    build, changes: dict[str, object], deviation: float
) -> None:
    # 120,000 draws: their deviation lies within 1 % of the true one.
    assert first_weight(build, **changes).std().item() == pytest.approx(deviation, rel=0.01)


def test_orthogonal_weights_are_orthogonal_with_the_gain_as_length(build) -> None:
    weight = first_weight(build, init="orthogonal", gain=3.0)  # (400, 300)
    torch.testing.assert_close(weight.T @ weight, 9 * torch.eye(300), atol=1e-4, rtol=0)


def test_keras_starts_an_lstm_as_keras_does(build) -> None:
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
def test_the_default_gives_each_gate_an_orthogonal_matrix_in_both_directions(
    build, model: str, gates: int
) -> None:
    layer = build(model, (9, 2), 1, hidden=8, bidirectional=True).layers[0].recurrent
    for weight in (layer.weight_hh_l0, layer.weight_hh_l0_reverse):
        for gate in weight.detach().view(gates, 8, 8):
            torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)


def test_torch_leaves_a_recurrent_layer_as_torch_draws_it(build) -> None:
    torch.manual_seed(3)
    ours = build("lstm", (9, 2), 1, hidden=8, init="torch").layers[0].recurrent
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(2, 8)
    assert all(
        torch.equal(one, other)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_a_saturating_network_of_ten_layers_keeps_its_gradient_by_default_alone(build) -> None:
    def first_gradient(**changes: object) -> float:
        torch.manual_seed(0)
        network = build(
            "mlp", (20,), 1, hidden=[50] * 10, norm="none", activation="tanh", **changes
        )
        network(torch.randn(64, 20)).sum().backward()
        return network.layers[0].linear.weight.grad.norm().item()

    assert first_gradient() > 1000 * first_gradient(init="normal")
