"""A run that was killed and gone on with ends as one that never was."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.processes import Training
from fixture_types import Patch
from PIL import Image
from records import checkpoint, epochs, only_run

Start = Callable[..., Training]

KILLER = '''
import os
import signal
from pytorch_lightning import Callback

class Killer(Callback):
    """Kills its own process the n-th time that a hook is called, as the environment says."""

HOOK, _, COUNT = os.environ.get("KILL_AT", "").partition(":")
calls = []

def called(*_):
    calls.append(HOOK)
    if len(calls) == int(COUNT):
        os.kill(os.getpid(), signal.SIGKILL)

if HOOK:
    setattr(Killer, HOOK, called)
'''

RUN = (
    "data=iris",
    "data.batch_size=16",
    "trainer.max_epochs=6",
    "verbose=2",
    "trust=[killer]",
    "+callbacks.killer._target_=killer.Killer",
)
"""Six batches an epoch, the last of ten rows."""
NETWORK = ("model=mlp", "model.norm=batch", "model.dropout=0.3", "model.hidden=[16,16]")
STOPPING = (
    "callbacks=[early_stopping,ema]",
    "callbacks.ema.decay=0.9",
    "callbacks.early_stopping.patience=4",
)


@pytest.fixture(autouse=True)
def killer(own_folder: Path) -> None:
    (own_folder / "killer.py").write_text(KILLER, encoding="utf-8")


def finished(start: Start, *words: str) -> None:
    training = start(*words)
    assert training.end() == 0, training.err


def killed(start: Start, monkeypatch: Patch, moment: str, *words: str) -> Path:
    """Start a run that kills itself, and return its folder."""
    monkeypatch.setenv("KILL_AT", moment)
    training = start(*words)
    assert training.end() == -signal.SIGKILL, training.err
    monkeypatch.delenv("KILL_AT")
    output = next(word.partition("=")[2] for word in words if word.startswith("output="))
    return only_run(Path(output))


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Compare nested values to the last bit, and name the place of a difference."""
    assert type(found) is type(expected), where
    if isinstance(found, dict):
        assert found.keys() == expected.keys(), where
        for key in found:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif isinstance(found, torch.Tensor):
        assert found.shape == expected.shape, where
        assert found.dtype == expected.dtype, where
        # As bytes, for what nobody has looked at is NaN in both.
        assert found.numpy().tobytes() == expected.numpy().tobytes(), where
    else:
        assert found == expected, where


def assert_ends_alike(resumed: Path, whole: Path) -> None:
    """Compare all that two runs leave but times and folders."""
    names = sorted(path.stem for path in (whole / "checkpoints").iterdir())
    assert sorted(path.stem for path in (resumed / "checkpoints").iterdir()) == names
    for name in names:
        found, expected = checkpoint(resumed, name), checkpoint(whole, name)
        for content in (found, expected):
            for key in ("output", "resume"):
                del content["pipeline"]["config"][key]
            del content["loops"]  # counts of starts, which may differ
        assert_same(found, expected, name)
    assert epochs(resumed) == epochs(whole)
    test = "artifacts/test_predictions.csv"
    assert (resumed / test).read_bytes() == (whole / test).read_bytes()


def test_a_killed_run_ends_to_the_last_bit_as_one_that_never_was(
    fork: Start, own_folder: Path, monkeypatch: Patch
) -> None:
    words = (*RUN, *NETWORK, *STOPPING, "tracking=none")
    finished(fork, *words, "output=whole")
    run = killed(fork, monkeypatch, "on_train_batch_end:15", *words, "output=runs")
    assert list(epochs(run)) == [1, 2]
    finished(fork, f"resume={run}", "trust=[killer]")
    assert_ends_alike(run, only_run(own_folder / "whole"))


WAYS_OF_LOADING = {
    "by a worker": ("data.memory_budget=0", "data.num_workers=1"),
    "by two workers": ("data.memory_budget=0", "data.num_workers=2"),
    "unshuffled": ("data.shuffle=false",),
    "unshuffled, by a worker": ("data.shuffle=false", "data.memory_budget=0", "data.num_workers=1"),
    "pictures, when they are needed": ("data=images", "data.memory_budget=0"),
    "pictures, by two workers": ("data=images", "data.memory_budget=0", "data.num_workers=2"),
}
"""Beside rows in memory, which the test above shuffles, and `read lazily` below."""


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[] if way == "by a worker" else [pytest.mark.slow])
        for way in WAYS_OF_LOADING
    ],
)
def test_a_resumed_run_reads_the_same_batches_however_they_are_loaded(
    fork: Start, own_folder: Path, monkeypatch: Patch, way: str
) -> None:
    given = WAYS_OF_LOADING[way]
    if "data=images" in given:
        for number in range(60):
            picture = own_folder / "pictures" / "ab"[number % 2] / f"{number}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4), 4 * number, dtype=np.uint8)).save(picture)
        given = (*given, "data.path=pictures")
    keys = {word.partition("=")[0] for word in given} | {"trainer.max_epochs"}
    words = (*(word for word in RUN if word.partition("=")[0] not in keys), *given)
    words = (*words, "model=mlp", "model.hidden=[4]", "trainer.max_epochs=4", "tracking=none")
    finished(fork, *words, "output=whole")
    run = killed(fork, monkeypatch, "on_train_epoch_start:3", *words, "output=runs")
    finished(fork, f"resume={run}", "trust=[killer]")
    assert_ends_alike(run, only_run(own_folder / "whole"))


MOMENTS = (
    "on_train_batch_end:9",
    "on_train_epoch_start:3",
    "on_validation_epoch_end:3",
    "on_train_epoch_end:4",
    "on_save_checkpoint:5",
)
SETTINGS = {
    "adam cosine": (*NETWORK, *STOPPING, "optimizer=adam", "scheduler=cosine"),
    "sgd onecycle": (*NETWORK, *STOPPING, "optimizer=sgd", "scheduler=onecycle"),
    "adam plateau": (*NETWORK, "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.1"),
    "sgd none": (*NETWORK, *STOPPING, "optimizer=sgd", "scheduler=none"),
    "adamw step, by step": (
        *NETWORK,
        "optimizer=adamw",
        "scheduler=step",
        "scheduler.step_size=4",
        "scheduler.interval=step",
    ),
    "accumulated": (*NETWORK, *STOPPING, "trainer.accumulate_grad_batches=2"),
    "read lazily": (*NETWORK, *STOPPING, "data.memory_budget=0"),
    "recurrent": ("data=synthetic_control", "data.batch_size=64", "model=gru", "model.hidden=8"),
    "validated now and then": (*NETWORK, *STOPPING, "trainer.check_val_every_n_epoch=2"),
    "the last weights": (*NETWORK, "callbacks=ema", "data.validation=0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_kind_of_run_killed_at_any_moment_ends_as_one_that_never_was(
    fork: Start, own_folder: Path, monkeypatch: Patch, setting: str
) -> None:
    given = SETTINGS[setting]
    keys = {word.partition("=")[0] for word in given}
    words = (*(word for word in RUN if word.partition("=")[0] not in keys), *given)
    words = (*words, "tracking=none")
    finished(fork, *words, "output=whole")
    whole = only_run(own_folder / "whole")
    unvalidated = "data.validation=0" in given
    moments = [one for one in MOMENTS if not (unvalidated and "validation" in one)]
    for number, moment in enumerate(moments):
        run = killed(fork, monkeypatch, moment, *words, f"output=killed{number}")
        finished(fork, f"resume={run}", "trust=[killer]")
        assert_ends_alike(run, whole)
