import pytest
import torch

from pipeline.errors import ConfigError


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_last_is_the_state_in_which_each_direction_has_read_everything(
    build, model: str, activation: str
) -> None:
    network = build(
        model, (5, 2), 3, hidden=4, bidirectional=True, readout="last", activation=activation
    )
    windows = torch.randn(6, 5, 2)
    states = network.layers(windows)  # (6, 5, 8)
    forward_end, backward_end = states[:, 4, :4], states[:, 0, 4:]
    expected = network.head(torch.cat((forward_end, backward_end), dim=1))
    torch.testing.assert_close(network(windows), expected)


def test_both_halves_of_the_last_read_out_depend_on_every_step(build) -> None:
    network = build("gru", (5, 1), 1, hidden=4, bidirectional=True, readout="last")
    windows = torch.randn(1, 5, 1, requires_grad=True)
    read = network.read(network.layers(windows))[0]
    for half in (read[:4], read[4:]):
        (gradient,) = torch.autograd.grad(half.sum(), windows, retain_graph=True)
        assert (gradient != 0).all()


def test_mean_and_flatten_read_all_states(build) -> None:
    windows = torch.randn(6, 5, 2)
    mean = build("gru", (5, 2), 3, hidden=4, readout="mean")
    flat = build("gru", (5, 2), 3, hidden=4, readout="flatten")
    states = sum(mean.layers(windows)[:, step] for step in range(5)) / 5
    torch.testing.assert_close(mean(windows), mean.head(states))
    side_by_side = torch.cat([flat.layers(windows)[:, step] for step in range(5)], dim=1)
    torch.testing.assert_close(flat(windows), flat.head(side_by_side))


def test_the_published_gru_has_5134_weights(build) -> None:
    network = build("gru", (40, 1), 10, hidden=6, bidirectional=True, readout="flatten")
    assert sum(weight.numel() for weight in network.parameters()) == 5_134


@pytest.mark.parametrize("model", ["rnn", "gru", "lstm"])
def test_a_second_layer_reads_the_normalised_states_of_the_first(build, model: str) -> None:
    network = build(model, (5, 2), 3, hidden=16, layers=2, norm="layer", bidirectional=True)
    first, second = network.layers
    states = first(torch.randn(6, 5, 2))
    torch.testing.assert_close(states.mean(dim=2), torch.zeros(6, 5), atol=1e-5, rtol=0)
    assert second.recurrent.input_size == 32


def test_dropout_acts_on_a_single_recurrent_layer_too(build) -> None:
    network = build("lstm", (5, 2), 1, hidden=400, dropout=0.3, readout="last")
    windows = torch.randn(1, 5, 2)
    share = (network.train().layers(windows)[:, -1] == 0).float().mean().item()
    assert 0.2 < share < 0.4
    assert not (network.eval().layers(windows) == 0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 0}, "model.hidden=0 is too small; expected at least 1"),
        ({"layers": -1}, "model.layers=-1 is too small; expected at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0 is out of range; expected 0 <= dropout < 1"),
    ],
)
def test_a_recurrent_network_refuses_sizes_out_of_range(
    build, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        build("lstm", (5, 2), 3, **changes)
    assert str(refusal.value) == message
