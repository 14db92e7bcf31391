"""The norms of gradients and of updates that a run tells are those of a loop written by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.fixture_types import Train
from helpers.run_files import findings_of, only_run
from helpers.sample_findings import vitals_of
from helpers.sample_networks import build
from torch import Tensor, nn

from pipeline.base.errors import DivergedError
from pipeline.base.findings import Vitals
from pipeline.callbacks.vital_signs import VitalSigns, layer_names
from pipeline.modules.epoch import WeightStatistics, WeightWatch
from pipeline.modules.task import Classifier, Optimization
from pipeline.scoring.scores import for_task

MADE: dict[str, Any] = {"dropout": 0.0, "init": "torch", "gain": None}
BATCHES = 20


def mlp() -> nn.Module:
    torch.manual_seed(0)
    dense = {"activation": "relu", "norm": "batch", "skip": True}
    return build("mlp", (6,), 3, hidden=[8, 8], **dense, **MADE)


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(BATCHES, 12, 6, generator=generator)
    targets = torch.randint(3, (BATCHES, 12), generator=generator)
    return list(zip(inputs, targets, strict=True))


def by_hand(network: nn.Module, epochs: int, lr: float) -> tuple[np.ndarray, np.ndarray]:
    """Norms of each step's gradients, and how far it moves, (steps, weights), of a plain loop."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    weights = [p for p in network.parameters() if p.ndim > 1]
    gradients, ratios = [], []
    for inputs, targets in batches() * epochs:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), targets).backward()
        before = [w.detach().numpy().copy() for w in weights]
        gradients.append([np.linalg.norm(np.asarray(w.grad)) for w in weights])
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        both = zip(weights, before, strict=True)
        ratios.append([np.linalg.norm(w.detach() - b) / np.linalg.norm(b) for w, b in both])
    return np.array(gradients), np.array(ratios)


class Repeated:
    """The same batches in the same order in each epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(batches())

    def __len__(self) -> int:
        return BATCHES


def train_with(
    signs: VitalSigns,
    network: nn.Module,
    *,
    lr: float = 0.3,
    validation: Any = None,
    **options: Any,
) -> None:
    scores = for_task("multiclass", classes=3, threshold=0.5)
    descent = Optimization(optimizer=lambda w: torch.optim.SGD(w, lr=lr), scheduler=None)
    task = Classifier(network, scores=scores, optimization=descent)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[signs],
        max_epochs=4,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=0.5 if validation is None else None,
        **options,
    )
    trainer.fit(task, Repeated(), validation)


def recorded(signs: VitalSigns) -> Vitals:
    vitals = signs.vitals()
    assert vitals is not None
    return vitals


def taken(watch: WeightWatch) -> WeightStatistics:
    statistics = watch.take()
    assert statistics is not None
    return statistics


@pytest.mark.parametrize("options", [{}, {"profiler": "simple"}], ids=["short", "lightnings"])
def test_gradients_and_updates_equal_a_plain_loop(options: dict[str, Any]) -> None:
    signs = VitalSigns()
    train_with(signs, mlp(), **options)
    vitals, (gradients, ratios) = recorded(signs), by_hand(mlp(), epochs=4, lr=0.3)
    gradients = gradients.reshape(4, BATCHES, 3)
    assert vitals.layers == ("layers.layer1.linear", "layers.layer2.layer.linear", "head")
    assert vitals.sizes.tolist() == [48, 64, 24]
    assert vitals.epochs.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(vitals.gradients, gradients.mean(1), rtol=1e-4)
    np.testing.assert_allclose(vitals.first, gradients[0, 0], rtol=1e-4)
    # Steps 0, 16 | 32 | 48 | 64 are looked at: one in 16 and the first, epochs of 20 steps.
    looked = [ratios[[0, 16]].mean(0), ratios[32], ratios[48], ratios[64]]
    np.testing.assert_allclose(vitals.updates, looked, rtol=1e-3)


def test_long_epoch_is_sampled_four_times() -> None:
    watch, weight = WeightWatch(), nn.Parameter(torch.ones(2, 2))
    watch.pace(step=4000, steps=4000)
    for _ in range(4000):
        watch.see(torch.ones(1), [weight])
        with torch.no_grad():
            weight.mul_(1.001)
    assert len(watch._updates) == 4
    watched = taken(watch)
    torch.testing.assert_close(watched.updates.float(), torch.tensor([0.001]), rtol=1e-3, atol=0)
    torch.testing.assert_close(watched.gradients.float(), torch.tensor([1.0]))


def test_nan_steps_are_not_counted() -> None:
    watch, weight = WeightWatch(), nn.Parameter(torch.ones(2, 2))
    norms = [torch.nan, 3.0, 5.0, torch.inf, torch.nan]
    for norm in norms:
        watch.see(torch.tensor([norm]), [weight])
        with torch.no_grad():
            weight.mul_(1.5 if np.isfinite(norm) else 3.0)
    watched = taken(watch)
    assert float(watched.gradients) == 4.0
    assert float(watched.first) == 3.0
    assert bool(watched.updates.isnan())  # the only step that was looked at had no gradient


def test_half_precision_is_averaged_in_single_precision() -> None:
    """Biases are not kept."""
    watch, bias = WeightWatch(), nn.Parameter(torch.ones(3))
    for _ in range(3000):
        watch.see(torch.ones(1), [bias])
    assert len(watch._norms) < 2000
    assert watch.take() is None
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    for _ in range(3000):
        watch.see(torch.ones(1, dtype=torch.bfloat16), [weight])
    assert float(taken(watch).gradients) == 1.0


def test_divergence_in_first_epoch_keeps_earlier_values() -> None:
    signs, kept = VitalSigns(), mlp()
    with torch.no_grad():
        kept.get_parameter("head.weight").mul_(1e19)
    with pytest.raises(DivergedError):
        train_with(signs, kept, lr=1e6, validation=Repeated())  # which sees it first
    vitals = recorded(signs)
    assert vitals.epochs.tolist() == [1]
    assert np.isfinite(vitals.gradients).all()
    assert np.isfinite(vitals.first).all()
    assert vitals.first.max() > 1e10


def test_layers_are_named_from_input_to_output() -> None:
    lstm = build("lstm", (5, 2), 3, hidden=4, layers=1, norm="layer", bidirectional=True)
    of = ("input", "state", "input, backwards", "state, backwards")
    expected = [*(f"layers.layer1.recurrent ({one})" for one in of), "head"]
    assert list(layer_names(lstm).values()) == expected
    assert list(layer_names(nn.Linear(3, 2)).values()) == ["weight"]
    pooled = {"pool": "learned", "pool_size": 2, "mixing": "weighted"}
    shapes = {"channels": [4, 4], "kernel_size": {"shapes": [3, 5]}}
    cnn = build("cnn1d", (16, 1), 3, **shapes, **pooled, stride=1, padding="same", norm="batch")
    names = list(layer_names(cnn).values())
    assert names[0] == "layers.layer1.convolution.shapes.0.mixing"
    assert names[-1] == "head"
    assert not any("pool" in name or "norm" in name for name in names)


@pytest.mark.slow
def test_resumed_run_reports_all_its_epochs(train: Train, own_folder: Path) -> None:
    words = ("model=mlp", "data=iris", "data.batch_size=4", "scheduler=none", "verbose=0")
    common = (*words, "tracking=none", "test=false")
    assert train(*common, "trainer.max_epochs=2", "output=parts") == 0
    parts = only_run(own_folder / "parts")
    assert train(f"resume={parts}", "trainer.max_epochs=4") == 0
    assert train(*common, "trainer.max_epochs=4", "output=whole") == 0
    found, expected = (
        vitals_of(findings_of(only_run(own_folder / name))) for name in ("parts", "whole")
    )
    # One step in 16 is looked at, also where the run goes on.
    for key in ("epochs", "gradients", "updates", "first", "sizes"):
        np.testing.assert_array_equal(getattr(found, key), getattr(expected, key))
