"""What lies inside a network: maps, gates and states, beside loops written in numpy."""

import numpy as np
import pytest
import torch
from helpers.numpy_cells import run_by_hand
from helpers.refused_calls import refusal
from helpers.sample_data import inputs_of, labelled, prepared_of, series, validation_of, valued
from helpers.sample_networks import (
    build,
    layers_of,
    module_of,
    recurrent_of,
    sum_of_the_notes,
)
from sklearn.datasets import load_digits
from torch import Tensor, nn

from pipeline.data.preparation.prepare import Prepared
from pipeline.inside.shown_rows import choose_rows
from pipeline.inside.views import inside_of

COMMON = {"norm": "none", "dropout": 0.0, "init": "default", "gain": None}
SIZES = {"stride": 1, "padding": "same", "dilation": 1, "pool": "none", "pool_size": 2}
CONVOLUTION = {**SIZES, "mixing": "full", "hidden": [], "activation": "relu", **COMMON}
SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
CORNER = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0], [0.0, 0.0, 5.0]])


STEP = np.where(np.arange(8) < 4, 0.0, 1.0) * np.ones((8, 1))
DIGIT = load_digits().images[3] / 16


@pytest.mark.parametrize("pool", ["none", "max"])  # a map is taken before its pooling
def test_feature_map_of_edge_filter_equals_numpy(pool: str) -> None:
    """The grey picture is the sum of all channels after their activation, no kernel flipped."""
    kernels = np.stack([SOBEL, SOBEL.T, CORNER])
    sizes = {"channels": [3], "kernel_size": 3, "pool": pool}
    network = build("cnn2d", (1, 8, 8), 2, **CONVOLUTION | sizes)
    convolution = module_of(network, "layers.layer1.convolution.kernel", nn.Conv2d)
    convolution.weight.data = torch.tensor(kernels[:, None], dtype=torch.float32)
    nn.init.zeros_(convolution.get_parameter("bias"))
    inputs = torch.tensor(np.stack([STEP, DIGIT])[:, None], dtype=torch.float32)
    views = inside_of(network, inputs, channels=True)
    for n, image in enumerate((STEP, DIGIT)):
        each = np.stack([np.maximum(sum_of_the_notes(image, kernel), 0) for kernel in kernels])
        np.testing.assert_allclose(views["feature map/layers.layer1"][n], each.sum(0), atol=1e-5)
        np.testing.assert_allclose(views["channels/layers.layer1"][n], each, atol=1e-5)
    np.testing.assert_array_equal(views["kernels/layers.layer1"][:, 0], np.float32(kernels))
    assert views["channels/layers.layer1"][0, 0, 4].tolist() == [0, 0, 0, 4, 4, 0, 0, 0]


@pytest.mark.parametrize("mixing", ["full", "weighted"])
def test_kernels_of_several_shapes_are_one_layer(mixing: str) -> None:
    """Each shape has a picture."""
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
def test_activations_of_skip_mlp_equal_numpy(norm: str) -> None:
    parameters = COMMON | {"norm": norm, "activation": "tanh", "skip": True}
    network = build("mlp", (2, 3), 2, hidden=[5, 5], **parameters)
    samples = np.random.default_rng(1).normal(size=(4, 2, 3))
    views = inside_of(network, torch.tensor(samples, dtype=torch.float32), channels=False)
    values = samples.reshape(4, 6)
    for number, path in enumerate(("layers.layer1", "layers.layer2.layer"), start=1):
        linear = module_of(network, f"{path}.linear", nn.Linear)
        passed = values @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
        if norm == "layer":
            mean, variance = passed.mean(axis=1), passed.var(axis=1)
            passed = (passed - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
        values = np.tanh(passed) + (values if number == 2 else 0)
        np.testing.assert_allclose(views[f"activation/layers.layer{number}"], values, atol=1e-5)
    assert len(views) == 2  # what the head says is no hidden layer


def test_own_network_is_seen_through_its_modules() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2)),
        *(nn.Flatten(), nn.Linear(16, 5), nn.Sigmoid(), nn.Linear(5, 2)),
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
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += 1
        return nn.functional.dropout(rows @ self.weight)  # draws, whatever the mode


def test_inspected_network_is_unchanged() -> None:
    own, state = Own(), torch.get_rng_state()
    assert inside_of(own, torch.ones(2, 3), channels=True) == {}
    assert own.calls == 0
    assert torch.equal(torch.get_rng_state(), state)
    changes = {"channels": [4], "kernel_size": 3, "norm": "batch", "dropout": 0.5}
    network = build("cnn2d", (1, 8, 8), 2, **CONVOLUTION | changes).train()
    module_of(network, "layers.layer1.norm", nn.Module).eval()
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


def test_large_views_are_thinned_and_say_so() -> None:
    network = build("cnn2d", (1, 300, 150), 2, **CONVOLUTION | {"channels": [40], "kernel_size": 3})
    inputs = torch.randn(2, 1, 300, 150)
    views = inside_of(network, inputs, channels=True)
    with torch.no_grad():
        channels = layers_of(network)(inputs)
    told = views["feature map/layers.layer1 (every 3rd pixel)"]
    np.testing.assert_allclose(told, channels.sum(dim=1)[:, ::3, ::3], rtol=1e-5)
    told = views["channels/layers.layer1 (32 of 40 channels, every 3rd pixel)"]
    np.testing.assert_array_equal(told, channels[:, :32, ::3, ::3])
    network = recurrent_network("rnn", hidden=70).eval()
    windows = torch.randn(2, 600, FEATURES)
    # One direction has the plain name of its layer.
    ((name, told),) = inside_of(network, windows, channels=False).items()
    assert name == "state/layers.layer1 (every 3rd step, 64 of 70 units)"
    with torch.no_grad():
        own = layers_of(network)(windows)[:, ::3, :64].numpy()
    np.testing.assert_allclose(told, own, rtol=1e-4, atol=1e-4)


STEPS, FEATURES, HIDDEN = 7, 3, 4
KINDS = {
    "rnn": ["state"],
    "gru": ["reset gate", "update gate", "candidate", "state"],
    "lstm": ["forget gate", "input gate", "output gate", "candidate", "cell", "state"],
}


def recurrent_network(model: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    usual = {"hidden": HIDDEN, "layers": 1, "activation": "tanh", "norm": "none", "dropout": 0.3}
    more = {"bidirectional": False, "readout": "last", "init": "torch", "gain": None}
    built = build(model, (STEPS, FEATURES), 2, **usual | more | changes)
    for name, weight in built.named_parameters():
        if "recurrent" in name:
            nn.init.normal_(weight, std=0.7)
    return built


@pytest.fixture
def windows() -> Tensor:
    return torch.randn(3, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("network", ["rnn", "gru", "lstm"])
def test_recomputed_states_equal_those_of_the_layer(
    network: str, activation: str, norm: str, windows: Tensor
) -> None:
    changes = {"layers": 2, "bidirectional": True, "activation": activation, "norm": norm}
    built = recurrent_network(network, **changes).eval()
    views = inside_of(built, windows, channels=False)
    places = [f"layers.layer{n} {way}" for n in (1, 2) for way in ("forward", "backward")]
    assert list(views) == [f"{kind}/{place}" for place in places for kind in KINDS[network]]
    inputs = windows
    with torch.no_grad():
        for number, layer in enumerate(layers_of(built), start=1):
            told = [views[f"state/layers.layer{number} {way}"] for way in ("forward", "backward")]
            own = recurrent_of(built, number)(inputs)[0].numpy()
            np.testing.assert_allclose(np.concatenate(told, axis=2), own, rtol=1e-5, atol=1e-5)
            inputs = layer(inputs)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("network", ["lstm", "gru"])
def test_gates_equal_a_loop_over_steps(network: str, activation: str, windows: Tensor) -> None:
    built = recurrent_network(network, bidirectional=True, activation=activation)
    views = inside_of(built, windows, channels=False)
    layer = recurrent_of(built)
    for word, ending, way in (("forward", "", 1), ("backward", "_reverse", -1)):
        for sample, steps in enumerate(windows.double().numpy()):
            seen = run_by_hand(network, activation, layer, steps[::way], direction=ending)
            for kind in KINDS[network]:
                told = views[f"{kind}/layers.layer1 {word}"][sample]
                np.testing.assert_allclose(told, seen[kind][::way], rtol=1e-5, atol=1e-5)


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
        values: Tensor = self.head(self.reader(steps, **held)[0].mean(dim=1)[..., :2])
        return values


def test_own_recurrent_layers_keep_order_and_start(windows: Tensor) -> None:
    """Their axes may be in another order, and their first state is their own."""
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

    # torch declares a second input and packed sequences, which nobody passes here.
    def forward(self, windows: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(windows)[0] / 2, None


def test_unknown_recurrence_shows_only_its_states(windows: Tensor) -> None:
    layer = Halved(FEATURES, HIDDEN, batch_first=True)
    views = inside_of(Reader(layer), windows, channels=False)
    assert list(views) == ["state/reader"]
    with torch.no_grad():
        np.testing.assert_allclose(views["state/reader"], layer(windows)[0].numpy(), atol=1e-6)
    projected = nn.LSTM(FEATURES, HIDDEN, proj_size=2, batch_first=True)
    assert list(inside_of(Reader(projected), windows, channels=False)) == ["state/reader"]


def test_gates_of_both_directions_have_separate_views() -> None:
    """They are read in half precision too."""
    torch.manual_seed(0)
    layer = nn.GRU(FEATURES, 30, num_layers=2, bidirectional=True, batch_first=True)
    views = inside_of(Reader(layer).bfloat16(), torch.randn(2, 40, FEATURES), channels=False)
    assert {f"update gate/reader {way} 2" for way in ("forward", "backward")} <= set(views)
    halved = Halved(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
    views = inside_of(Reader(halved), torch.randn(2, 5, FEATURES), channels=False)
    assert [*views] == ["state/reader forward", "state/reader backward"]


# ── the rows that are looked at ──────────────────────────────────────────────────────────────

TARGETS = np.random.default_rng(0).integers(0, 4, size=120)


def many_rows(**changes: object) -> Prepared:
    return prepared_of(labelled(TARGETS), **changes)


def test_first_test_row_of_each_class_is_chosen() -> None:
    prepared = many_rows()
    rows, labels, inputs = choose_rows(prepared, None)
    assert labels == ("a", "b", "c", "d")
    test = [int(row) for row in prepared.test.rows]
    firsts = [next(row for row in test if TARGETS[row] == target) for target in range(4)]
    assert rows.tolist() == firsts
    expected = torch.stack([inputs_of(prepared.test)[test.index(row)] for row in firsts])
    assert torch.equal(inputs, expected)
    streamed = choose_rows(many_rows(memory_budget=0), None)  # read as needed
    assert torch.equal(inputs, streamed.inputs)
    assert rows.tolist() == streamed.rows.tolist()

    # Of many classes the first twelve are looked at.
    names = tuple(f"class {number}" for number in range(100))
    content = labelled(np.arange(1000) % 100, classes=names)
    assert choose_rows(prepared_of(content), None).labels == names[:12]


def test_named_rows_are_taken_from_any_part() -> None:
    """They keep the given order."""
    prepared = many_rows()
    parts = (prepared.train, prepared.test, validation_of(prepared))
    wanted = [int(part.rows[1]) for part in parts]
    rows, labels, inputs = choose_rows(prepared, [*wanted, wanted[0]])
    assert rows.tolist() == wanted
    assert labels == tuple("abcd"[TARGETS[row]] for row in wanted)
    assert torch.equal(inputs, torch.stack([inputs_of(part)[1] for part in parts]))


def test_unknown_or_too_many_rows_are_refused() -> None:
    prepared = many_rows()
    first, second, third = (int(row) for row in prepared.test.rows[:3])
    assert refusal(choose_rows, prepared, [first, 500, 7000]) == (
        f"feature_maps.samples=[{first},500,7000]: the data have no rows 500, 7000; "
        f"expected row numbers of the source, such as {first}, {second}, {third}, … "
        "of the test part"
    )
    assert len(choose_rows(prepared, range(16)).rows) == 16
    problem = "feature_maps.samples names 17 rows; expected at most 16"
    assert refusal(choose_rows, prepared, range(17)) == problem


def test_regression_rows_are_spread_and_named_by_value() -> None:
    inputs = np.random.default_rng(2).normal(size=(200, 3))
    targets = 1000 + 50 * inputs[:, :1]
    prepared = prepared_of(valued(inputs, targets), scale="standard")
    rows, labels, _ = choose_rows(prepared, None)
    places = np.linspace(0, len(prepared.test) - 1, 6).round().astype(int)
    assert rows.tolist() == prepared.test.rows[places].tolist()
    assert labels == tuple(f"{targets[row, 0]:.4g}" for row in rows)
    # A forecast is named in units, before differencing.
    values = np.random.default_rng(3).normal(size=(120, 1)).cumsum(axis=0)
    prepared = prepared_of(series(values), window=5, difference=1, scale="standard")
    rows, labels, windows = choose_rows(prepared, None)
    assert windows.shape == (6, 5, 1)
    np.testing.assert_allclose([float(label) for label in labels], values[rows, 0], rtol=1e-3)
