"""A run that was killed and gone on with ends as one that never was."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults.processes import Training
from helpers.fixture_types import Patch
from helpers.run_files import checkpoint, epochs, only_run
from PIL import Image

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
TRUST = "trust=[killer]"
RUN = (
    *("model=mlp", "model.hidden=[16,16]", "data=iris", "data.batch_size=16"),
    *("trainer.max_epochs=6", "tracking=none", "verbose=2"),
    *(TRUST, "+callbacks.killer._target_=killer.Killer"),
    "+callbacks.rates._target_=pytorch_lightning.callbacks.LearningRateMonitor",
)
"""Six batches an epoch, the last of ten rows."""
NETWORK = ("model.norm=batch", "model.dropout=0.3")
FULL = (
    *NETWORK,
    *("callbacks=[early_stopping,ema]", "callbacks.ema.decay=0.9"),
    "callbacks.early_stopping.patience=4",
)
LAZY = "data.memory_budget=0"
SETTINGS = {
    "kept in memory": FULL,
    "by a worker": (LAZY, "data.num_workers=1"),
    "unshuffled, by a worker": ("data.shuffle=false", LAZY, "data.num_workers=1"),
    "pictures, when they are needed": ("data=images", "data.path=pictures", LAZY),
    "pictures, by two workers": ("data=images", "data.path=pictures", LAZY, "data.num_workers=2"),
    "adam cosine, accumulated": (
        *(*FULL, "optimizer=adam", "scheduler=cosine"),
        "trainer.accumulate_grad_batches=2",
    ),
    "sgd onecycle": (*FULL, "optimizer=sgd", "scheduler=onecycle"),
    "adam plateau": (*NETWORK, "scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.1"),
    "adamw step, by step": (
        *(*NETWORK, "optimizer=adamw", "scheduler=step"),
        *("scheduler.step_size=4", "scheduler.interval=step"),
    ),
    "recurrent": ("data=synthetic_control", "data.batch_size=64", "model=gru", "model.hidden=8"),
    "validated now and then": (*FULL, "trainer.check_val_every_n_epoch=2"),
    "the last weights, unshuffled": (
        *(*NETWORK, "callbacks=ema"),
        *("data.validation=0", "data.shuffle=false", "scheduler=none"),
    ),
}
QUICK = ("kept in memory", "by a worker")
AT_ONCE = "trainer.checkpoint_seconds=0"
BY_TIME = "trainer.checkpoint_seconds=1.0"
MOMENTS = (
    ("on_train_epoch_start:4", BY_TIME),
    ("on_train_batch_end:8", AT_ONCE),
    ("on_validation_epoch_end:1", AT_ONCE),
    ("on_train_epoch_end:1", AT_ONCE),
    ("on_save_checkpoint:2", AT_ONCE),
)
"""One after the other; each counts the calls of its own process.

By time, the first of three finished epochs has a checkpoint.
"""
QUICK_MOMENTS = (("on_train_batch_end:9", AT_ONCE), ("on_train_batch_end:21", BY_TIME))


def as_bytes(value: Any) -> Any:
    """Return nested values with bytes in place of tensors: what nobody has seen is NaN in both."""
    if isinstance(value, dict):
        return {key: as_bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value), *map(as_bytes, value)]
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, value.numpy().tobytes()
    return type(value), value


def comparable_result(run: Path) -> Any:
    """Return all that a run leaves but times, folders and counts of starts."""
    checkpoints = {}
    for path in (run / "checkpoints").iterdir():
        checkpoints[path.name] = content = checkpoint(run, path.stem)
        del content["loops"], content["pipeline"]["config"]["output"]
        del content["pipeline"]["config"]["resume"]
        del content["pipeline"]["config"]["trainer"]["checkpoint_seconds"]
    table = (run / "artifacts" / "test_predictions.csv").read_bytes()
    return as_bytes([checkpoints, epochs(run), table])


@pytest.mark.parametrize(
    "setting",
    [pytest.param(s, marks=[] if s in QUICK else [pytest.mark.slow]) for s in SETTINGS],
)
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(
    fork: Callable[..., Training], own_folder: Path, monkeypatch: Patch, setting: str
) -> None:
    def ended(code: int, *words: str) -> Path:
        training = fork(*words)
        assert training.end() == code, training.err
        return only_run(Path("runs"))

    (own_folder / "killer.py").write_text(KILLER, encoding="utf-8")
    for number in range(60) if "pictures" in setting else ():
        picture = own_folder / "pictures" / "ab"[number % 2] / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 4 * number, dtype=np.uint8)).save(picture)
    keys = {word.partition("=")[0] for word in SETTINGS[setting]}
    words = (*(word for word in RUN if word.partition("=")[0] not in keys), *SETTINGS[setting])
    uninterrupted = comparable_result(ended(0, *words, AT_ONCE).rename("whole"))
    moments: Sequence[tuple[str, str]] = QUICK_MOMENTS if setting in QUICK else MOMENTS
    if "data.validation=0" in words:
        moments = tuple(pair for pair in moments if "validation" not in pair[0])
    for number, (moment, seconds) in enumerate(moments):
        monkeypatch.setenv("KILL_AT", moment)
        again = (f"resume={only_run(Path('runs'))}", TRUST) if number else words
        run = ended(-signal.SIGKILL, *again, seconds)
    monkeypatch.delenv("KILL_AT")
    assert 0 < len(epochs(run)) < 6
    ended(0, f"resume={run}", TRUST, BY_TIME)
    assert comparable_result(run) == uninterrupted
