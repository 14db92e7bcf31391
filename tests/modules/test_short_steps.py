"""The shorter way of a step leaves what Lightning's own way leaves, to the last bit.

Under a profiler Lightning's own way is taken, so that its table says where the time goes.
"""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fixture_types import Train
from helpers.run_files import checkpoint, epochs, only_run
from modules.hook_watcher import LOG

IRIS = ("model=mlp", "data=iris", "tracking=none", "verbose=0", "test=false")
MLP = (*IRIS, "trainer.max_epochs=3")
WATCHED = ("trust=[hook_watcher]", "+callbacks.watch._target_=hook_watcher.HookWatcher")
LIGHTNINGS_WAY = "trainer.profiler=simple"

SETTINGS = {
    "clipped by norm, a schedule by step": (
        *("model.dropout=0.2", "trainer.gradient_clip_val=0.1"),
        *("scheduler=onecycle", "optimizer=sgd"),
    ),
    "clipped by value, a schedule by epoch": (
        *("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value"),
        *("scheduler=step", "scheduler.step_size=1"),
    ),
    "not clipped, averaged weights, limited batches": (
        *("trainer.gradient_clip_val=null", "trainer.limit_train_batches=2"),
        *("callbacks=ema", "callbacks.ema.decay=0.9"),
    ),
    "a plateau, validated within an epoch": (
        *("scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.1"),
        "trainer.val_check_interval=1",
    ),
    "steps that end within an epoch, read lazily": ("trainer.max_steps=8", "data.memory_budget=0"),
    "overfitted, anomalies looked for": (
        *("trainer.overfit_batches=1", "trainer.detect_anomaly=true"),
    ),
}


def ends(output: Path) -> dict[str, Any]:
    """All that a run leaves but times, folders and the loops' own counters."""
    run = only_run(output)
    content = checkpoint(run, "last")
    return {
        "epochs": epochs(run),
        "step": content["global_step"],
        "weights": content["state_dict"],
        "optimizer": content["optimizer_states"],
        "schedules": content["lr_schedulers"],
        "plateau": content.get("plateau"),
    }


def assert_same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("words", SETTINGS.values(), ids=SETTINGS)
def test_short_steps_equal_lightning_steps(
    train: Train, own_folder: Path, words: tuple[str, ...]
) -> None:
    assert train(*MLP, *words, "output=short") == 0
    assert train(*MLP, *words, LIGHTNINGS_WAY, "output=whole") == 0
    short, whole = ends(own_folder / "short"), ends(own_folder / "whole")
    assert short.pop("epochs") == whole.pop("epochs")
    assert repr(short.pop("schedules")) == repr(whole.pop("schedules"))
    assert short.pop("plateau") == whole.pop("plateau")
    assert_same(short, whole)


def test_hooks_run_in_the_order_of_lightning(train: Train, own_folder: Path) -> None:
    """They get the same arguments."""
    seen = []
    for way in ((), (LIGHTNINGS_WAY,)):
        assert train(*MLP, *WATCHED, "scheduler=onecycle", *way) == 0
        seen.append((own_folder / LOG).read_text(encoding="utf-8").splitlines())
        (own_folder / LOG).unlink()
    short, whole = seen
    assert short == whole
    assert [line.split()[:2] for line in short[:6]] == [
        ["on_train_batch_start", "0"],
        ["on_before_zero_grad", "0"],
        ["on_before_backward", "0"],
        ["on_after_backward", "0"],
        ["on_before_optimizer_step", "0"],
        ["on_train_batch_end", "1"],
    ]


def test_resumed_run_may_take_the_other_way(train: Train, own_folder: Path) -> None:
    words = (*IRIS, "scheduler=step", "scheduler.step_size=2", "callbacks=ema")
    assert train(*words, "trainer.max_epochs=4", "output=whole") == 0
    expected = ends(own_folder / "whole")
    assert expected["step"] == 12
    ways = ("trainer.profiler=null", LIGHTNINGS_WAY)
    for number, (begin, end) in enumerate(permutations(ways)):
        output = own_folder / f"parts{number}"
        assert train(*words, "trainer.max_epochs=2", begin, f"output={output}") == 0
        assert train(f"resume={only_run(output)}", "trainer.max_epochs=4", end) == 0
        found = ends(output)
        assert found["epochs"] == expected["epochs"]
        for key in ("step", "weights", "optimizer"):
            assert_same(found[key], expected[key])


def test_optimizer_may_evaluate_the_loss_twice(train: Train, own_folder: Path) -> None:
    optimizer = ("optimizer=sgd", "optimizer._target_=hook_watcher.Ascent")
    assert train(*IRIS, *WATCHED, *optimizer, "trainer.max_epochs=1") == 0
    lines = (own_folder / LOG).read_text(encoding="utf-8").splitlines()
    asked = [line for line in lines if line.startswith("on_before_backward")]
    assert len(asked) == 2 * 3


def test_accumulated_batches_make_one_step(train: Train, own_folder: Path) -> None:
    later = ("trust=[hook_watcher]", "+callbacks.later._target_=hook_watcher.MoreLater")
    assert train(*MLP, *later) == 0
    assert checkpoint(only_run(own_folder / "runs"), "last")["global_step"] == 3 + 3 + 1
