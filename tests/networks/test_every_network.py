"""What holds for every network that `conf/model/` names, and for a new one as soon as it does."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_networks import build
from torch import nn

from pipeline.errors import ConfigError
from pipeline.networks.inputs import require_kind

ModelAndInput = tuple[str, tuple[int, ...]]
NEW_NETWORK = """
from typing import Annotated

from annotated_types import Gt
from torch import nn


class Wide(nn.Sequential):
    takes = ("table",)

    def __init__(self, input_shape, outputs, *, factor: Annotated[int, Gt(0)]) -> None:
        (features,) = input_shape
        hidden = factor * features
        super().__init__(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
"""


def test_a_network_maps_each_sample_to_its_outputs(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 4)
    assert network(torch.randn(5, *shape)).shape == (5, 4)


def test_one_sample_gives_the_same_alone_and_in_a_batch(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 1).eval()
    samples = torch.randn(5, *shape)
    together = network(samples)
    alone = torch.cat([network(sample[None]) for sample in samples])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_a_training_batch_may_hold_a_single_sample(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 2).train()
    network(torch.randn(1, *shape)).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_a_saved_network_read_without_pickle_gives_the_same(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    saved, fresh = build(model, shape, 3), build(model, shape, 3)
    saved(torch.randn(8, *shape))  # moves the running statistics, where there are any
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    samples = torch.randn(5, *shape)
    assert torch.equal(fresh.eval()(samples), saved.eval()(samples))


def test_a_network_can_learn_one_batch_by_heart(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 3)
    samples, classes = torch.randn(12, *shape), torch.arange(12) % 3
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(samples), classes).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    assert torch.equal(network(samples).argmax(dim=1), classes)


def test_the_gradient_reaches_every_weight(model_and_input: ModelAndInput) -> None:
    model, shape = model_and_input
    network = build(model, shape, 3)
    loss = nn.functional.cross_entropy(network(torch.randn(64, *shape)), torch.arange(64) % 3)
    loss.backward()
    untouched = [name for name, weight in network.named_parameters() if not weight.grad.any()]
    assert not untouched


@pytest.mark.parametrize(
    "init", ["default", "torch", "keras", "xavier", "kaiming", "orthogonal", "normal"]
)
def test_every_network_starts_finite_by_every_initialisation(
    model_and_input: ModelAndInput, init: str
) -> None:
    model, shape = model_and_input
    network = build(model, shape, 3, init=init, gain=0.5)
    assert torch.isfinite(network(torch.randn(4, *shape))).all()


def test_samples_of_four_dimensions_fit_no_network() -> None:
    with pytest.raises(ConfigError) as refusal:
        require_kind("net", ("table",), (2, 3, 4, 5))
    assert str(refusal.value) == (
        "samples of shape (2, 3, 4, 5) fit no network; expected a table (features,), a series "
        "(steps, features), images (channels, height, width)"
    )


def test_a_new_network_is_one_python_file_and_one_yaml_file(
    train: Callable[..., int], own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "new_network.py").write_text(NEW_NETWORK, encoding="utf-8")
    file = own_folder / "conf" / "model" / "wide.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# Wide.\n_target_: new_network.Wide\nfactor: 3 # >= 1\n", encoding="utf-8")
    words = ("--config-dir", "conf", "trust=[new_network]", "tracking=none", "verbose=0")

    assert train(*words, "model=wide", "data=iris", "trainer.max_epochs=1") == 0
    weights = torch.load(next(own_folder.glob("runs/*-wide-iris-*/checkpoints/best.ckpt")))
    assert weights["state_dict"]["network.0.weight"].shape == (12, 4)

    for wrong, told in (
        ("model=wied", "Did you mean 'wide'?\n"),
        ("model.factor=0", "model.factor=0 is not allowed; expected a whole number > 0.\n"),
        ("data=digits", "model=wide reads a table (features,), but the data are images"),
    ):
        capsys.readouterr()
        model = () if wrong.startswith("model=") else ("model=wide",)
        assert train(*words, *model, wrong) == 2
        assert told in capsys.readouterr().err
