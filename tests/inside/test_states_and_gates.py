"""What a recurrent layer does at each step, beside its own output and one step written in numpy."""

import numpy as np
import pytest
import torch
from made_networks import build as build_model
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.inside.views import inside_of

Array = NDArray[np.float64]
STEPS, FEATURES, HIDDEN = 7, 3, 4
KINDS = {
    "rnn": ["state"],
    "gru": ["reset gate", "update gate", "candidate", "state"],
    "lstm": ["forget gate", "input gate", "output gate", "candidate", "cell", "state"],
}
ACTIVATIONS = {"tanh": np.tanh, "relu": lambda values: np.maximum(values, 0)}


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def lstm_step(
    step: Array, state: Array, cell: Array, weights: list[Array], act
) -> dict[str, Array]:
    """Gers et al. 2000, one gate after the other, for one sample."""
    w, u, b, d = weights
    i, f, g, o = (slice(HIDDEN * n, HIDDEN * (n + 1)) for n in range(4))

    def reads(gate: slice) -> Array:
        return w[gate] @ step + b[gate] + u[gate] @ state + d[gate]

    forget, write, show = sigmoid(reads(f)), sigmoid(reads(i)), sigmoid(reads(o))
    candidate = act(reads(g))
    cell = forget * cell + write * candidate
    seen = {"forget gate": forget, "input gate": write, "output gate": show}
    return {**seen, "candidate": candidate, "cell": cell, "state": show * act(cell)}


def gru_step(step: Array, state: Array, cell: Array, weights: list[Array], act) -> dict[str, Array]:
    """Cho et al. 2014, the reset gate acting after the product, as in torch."""
    w, u, b, d = weights
    r, z, n = (slice(HIDDEN * k, HIDDEN * (k + 1)) for k in range(3))
    reset = sigmoid(w[r] @ step + b[r] + u[r] @ state + d[r])
    update = sigmoid(w[z] @ step + b[z] + u[z] @ state + d[z])
    candidate = act(w[n] @ step + b[n] + reset * (u[n] @ state + d[n]))
    seen = {"reset gate": reset, "update gate": update, "candidate": candidate}
    return {**seen, "cell": cell, "state": candidate + update * (state - candidate)}


def run_by_hand(step_of, steps: Array, weights: list[Array], activation: str) -> dict[str, Array]:
    state, cell, seen = np.zeros(HIDDEN), np.zeros(HIDDEN), []
    for step in steps:
        seen.append(step_of(step, state, cell, weights, ACTIVATIONS[activation]))
        state, cell = seen[-1]["state"], seen[-1]["cell"]
    return {kind: np.stack([views[kind] for views in seen]) for kind in seen[0]}


def build(model: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    usual = {"hidden": HIDDEN, "layers": 1, "activation": "tanh", "norm": "none", "dropout": 0.3}
    more = {"bidirectional": False, "readout": "last", "init": "torch", "gain": None}
    built = build_model(model, (STEPS, FEATURES), 2, **usual | more | changes)
    for name, weight in built.layers.named_parameters():
        if "recurrent" in name:
            nn.init.normal_(weight, std=0.7)
    return built


def weights_of(layer: nn.RNNBase, direction: str) -> list[Array]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(layer, name + direction).detach().double().numpy() for name in names]


@pytest.fixture
def windows() -> Tensor:
    return torch.randn(3, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("network", ["rnn", "gru", "lstm"])
def test_recomputed_states_are_those_of_the_layer_itself(
    network: str, activation: str, norm: str, windows: Tensor
) -> None:
    changes = {"layers": 2, "bidirectional": True, "activation": activation, "norm": norm}
    built = build(network, **changes).eval()
    views = inside_of(built, windows, channels=False)
    places = [f"layers.layer{n} {way}" for n in (1, 2) for way in ("forward", "backward")]
    assert list(views) == [f"{kind}/{place}" for place in places for kind in KINDS[network]]
    inputs = windows
    with torch.no_grad():
        for number, layer in enumerate(built.layers, start=1):
            told = [views[f"state/layers.layer{number} {way}"] for way in ("forward", "backward")]
            own = layer.recurrent(inputs)[0].numpy()
            np.testing.assert_allclose(np.concatenate(told, axis=2), own, rtol=1e-5, atol=1e-5)
            inputs = layer(inputs)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("network", "step_of"), [("lstm", lstm_step), ("gru", gru_step)])
def test_gates_are_those_of_one_step_after_the_other_by_hand(
    network: str, step_of, activation: str, windows: Tensor
) -> None:
    built = build(network, bidirectional=True, activation=activation)
    views = inside_of(built, windows, channels=False)
    steps = windows.double().numpy()
    for direction, ending, way in (("forward", "", 1), ("backward", "_reverse", -1)):
        weights = weights_of(built.layers.layer1.recurrent, ending)
        for sample in range(3):
            seen = run_by_hand(step_of, steps[sample, ::way], weights, activation)
            for kind in KINDS[network]:
                told = views[f"{kind}/layers.layer1 {direction}"][sample]
                np.testing.assert_allclose(told, seen[kind][::way], rtol=1e-5, atol=1e-5)


def test_one_direction_has_the_plain_name_of_its_layer(windows: Tensor) -> None:
    assert list(inside_of(build("rnn"), windows, channels=True)) == ["state/layers.layer1"]


class Reader(nn.Module):
    """A recurrent layer of torch's, called as its owner likes."""

    def __init__(self, layer: nn.RNNBase, *, turned: bool = False, begins: bool = False) -> None:
        super().__init__()
        self.reader, self.turned, self.begins = layer, turned, begins
        self.head = nn.Linear(2, 2)

    def forward(self, windows: Tensor) -> Tensor:
        steps = windows.transpose(0, 1) if self.turned else windows
        first = torch.full((1, len(windows), HIDDEN), 0.5)
        held = {"hx": (first, -first)} if self.begins else {}
        return self.head(self.reader(steps, **held)[0].mean(dim=1)[..., :2])


def test_layers_of_ones_own_are_read_in_their_own_order_and_from_their_own_start(
    windows: Tensor,
) -> None:
    turned = nn.GRU(FEATURES, HIDDEN, num_layers=2, bidirectional=True, bias=False)
    views = inside_of(Reader(turned, turned=True), windows, channels=False)
    with torch.no_grad():
        own = turned(windows.transpose(0, 1))[0].transpose(0, 1).numpy()
    told = [views[f"state/reader {way} 2"] for way in ("forward", "backward")]
    np.testing.assert_allclose(np.concatenate(told, axis=2), own, atol=1e-5)
    begun = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
    first = torch.full((1, len(windows), HIDDEN), 0.5)
    views = inside_of(Reader(begun, begins=True), windows, channels=False)
    with torch.no_grad():
        own = begun(windows, (first, -first))[0].numpy()
    np.testing.assert_allclose(views["state/reader"], own, atol=1e-5)
    assert "cell/reader" in views


class Halved(nn.LSTM):
    """An LSTM with a rule of its own, which nobody can know."""

    def forward(self, windows: Tensor) -> tuple[Tensor, None]:
        return super().forward(windows)[0] / 2, None


def test_of_a_rule_that_is_not_known_only_the_states_are_told(windows: Tensor) -> None:
    layer = Halved(FEATURES, HIDDEN, batch_first=True)
    views = inside_of(Reader(layer), windows, channels=False)
    assert list(views) == ["state/reader"]
    with torch.no_grad():
        np.testing.assert_allclose(views["state/reader"], layer(windows)[0].numpy(), atol=1e-6)
    projected = nn.LSTM(FEATURES, HIDDEN, proj_size=2, batch_first=True)
    assert list(inside_of(Reader(projected), windows, channels=False)) == ["state/reader"]


def test_half_precision_and_two_directions_keep_their_gates_apart() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(FEATURES, 30, num_layers=2, bidirectional=True, batch_first=True)
    views = inside_of(Reader(layer).bfloat16(), torch.randn(2, 40, FEATURES), channels=False)
    assert {f"update gate/reader {way} 2" for way in ("forward", "backward")} <= set(views)
    halved = Halved(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
    views = inside_of(Reader(halved), torch.randn(2, 5, FEATURES), channels=False)
    assert [*views] == ["state/reader forward", "state/reader backward"]


def test_long_windows_and_wide_states_are_thinned_and_say_so() -> None:
    network = build("rnn", hidden=70)
    windows = torch.randn(2, 600, FEATURES)
    views = inside_of(network, windows, channels=False)
    assert list(views) == ["state/layers.layer1 (every 3rd step, 64 of 70 units)"]
    network.eval()
    with torch.no_grad():
        own = network.layers(windows)[:, ::3, :64].numpy()
    (told,) = views.values()
    np.testing.assert_allclose(told, own, rtol=1e-4, atol=1e-4)
