"""Every option of the Trainer does what its name says, or is refused before anything is made."""

import tempfile
from pathlib import Path

import pytest
import torch
from helpers.fixture_types import Capture, Made, Patch, Train
from helpers.run_files import (
    checkpoint,
    epochs,
    events,
    final_values,
    predictions,
    values_with,
)

from pipeline.config.compose import compose

SHORT = ("model=mlp", "data=iris", "tracking=none", "verbose=0")
IRIS = (*SHORT, "trainer.max_epochs=3")
"""Three batches an epoch: 90 training rows by 32."""
SMALL = (*IRIS, "data.batch_size=23")
"""Four batches an epoch, the last of 21 rows."""

PLAIN = {
    "accelerator": "cpu",
    "devices": "[0]",
    "num_nodes": "1",
    "strategy": "auto",
    "matmul_precision": "high",
    "min_epochs": "2",
    "min_steps": "5",
    "log_every_n_steps": "1",
    "deterministic": "warn",
    "benchmark": "true",
    "inference_mode": "false",
    "detect_anomaly": "true",
    "sync_batchnorm": "true",
    "num_sanity_val_steps": "2",
    "checkpoint_seconds": "0",
    "profiler": "simple",
    "val_check_interval": "0.4",  # the validation at the end of an epoch is the one on record
}
"""Options that change how a run is carried out and not one bit of what comes of it."""
ELSEWHERE = {
    *("precision", "threads", "compile", "max_epochs", "max_steps", "max_time"),
    *("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"),
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"),
    *("fast_dev_run", "check_val_every_n_epoch"),
}
"""Options with tests of their own in this file."""


def test_every_trainer_option_is_tested_here() -> None:
    assert set(compose().trainer) == set(PLAIN) | ELSEWHERE


def test_execution_options_change_no_recorded_value(made: Made, own_folder: Path) -> None:
    plain = epochs(made(*IRIS))
    run = made(*IRIS, *(f"trainer.{option}={PLAIN[option]}" for option in PLAIN), "output=options")
    assert epochs(run) == plain
    assert "run_training_epoch" in (run / "run.log").read_text(encoding="utf-8")
    assert sorted(path.name for path in own_folder.iterdir()) == ["options", "runs"]


def test_torch_settings_end_with_their_run(made: Made) -> None:
    """The number of threads is recorded."""
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    for count, words in ((1, ()), (2, ("trainer.threads=2", "trainer.deterministic=true"))):
        run = made(*IRIS, *words, f"output={count}")
        assert events(run)[0]["params"]["trainer.threads"] == count
        config = (run / "artifacts" / "config.yaml").read_text(encoding="utf-8")
        assert f"threads: {count if words else 'null'}" in config
        assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before


UNVALIDATED = {
    "data.validation=0": "data.validation=0",
    "trainer.limit_val_batches=0.0": "trainer.limit_val_batches=0",
    "trainer.max_steps=2": "training ends before its first validation",
    "trainer.check_val_every_n_epoch=5": "training ends before its first validation",
}


@pytest.mark.parametrize("word", UNVALIDATED)
def test_early_stopping_is_off_without_validation(made: Made, capsys: Capture, word: str) -> None:
    """The last weights are kept."""
    words = ("callbacks=early_stopping", "scheduler=plateau", "verbose=2", word)
    run = made(*SHORT[:3], IRIS[-1], *words)
    notes = [line for line in capsys.readouterr().out.splitlines() if "no validation" in line]
    assert notes == [
        f"note: no validation ({UNVALIDATED[word]}): the last weights are kept, early "
        "stopping is off and the learning rate stays as it is"
    ]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert values_with(run, "val/", "best/") == {}
    assert "test/f1" in final_values(run)


def test_validation_loss_decides_between_equal_epochs(made: Made) -> None:
    run = made(*SHORT, "optimizer.lr=0.003")
    history = epochs(run)
    first = max(history, key=lambda epoch: history[epoch]["val/f1"])
    best = max(history, key=lambda epoch: (history[epoch]["val/f1"], -history[epoch]["val/loss"]))
    assert first != best
    assert final_values(run)["best/epoch"] == best


def test_early_stopping_on_training_loss_needs_no_validation(made: Made) -> None:
    stopping = ("monitor=train/loss", "min_delta=100", "patience=1")
    words = [f"callbacks.early_stopping.{word}" for word in stopping]
    run = made(*IRIS, "data.validation=0", "callbacks=early_stopping", *words)
    assert list(epochs(run)) == [1, 2]


# ── limits ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ((*IRIS, "trainer.limit_train_batches=2"), 6),
        ((*SMALL, "trainer.limit_train_batches=0.7"), 6),
        ((*SMALL, "trainer.fast_dev_run=true", "callbacks=early_stopping"), 1),
    ],
    ids=["2 of 3", "0.7 of 4", "a fast run"],
)
def test_limit_train_batches_bounds_the_steps(
    made: Made, words: tuple[str, ...], steps: int
) -> None:
    run = made(*words)
    assert checkpoint(run, "last")["global_step"] == steps
    assert len(predictions(run)) == (23 if steps == 1 else 38)


def test_all_wrong_limits_are_reported_at_once(train: Train, capsys: Capture) -> None:
    assert train(*IRIS, "trainer.limit_test_batches=0.1", "trainer.max_steps=0") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_limited_test_scores_baselines_on_same_rows(made: Made) -> None:
    run = made(*IRIS, "data.batch_size=10", "trainer.limit_test_batches=1")
    truth = [line["target"] for line in predictions(run)]
    assert len(truth) == 10
    assert "10 rows)" in (run / "artifacts" / "card.md").read_text(encoding="utf-8")
    majority = final_values(run)["naive/accuracy"]
    assert majority in [pytest.approx(truth.count(name) / 10) for name in set(truth)] + [0.0]
    run = made(*IRIS, "trainer.limit_test_batches=0", "output=none")
    assert values_with(run, "test/", "naive/") == {}
    assert not (run / "artifacts" / "test_predictions.csv").exists()


def test_overfit_batches_repeats_the_same_batches(made: Made) -> None:
    words = ("trainer.overfit_batches=2", "optimizer.lr=1e-30", "scheduler=none", "model.norm=none")
    losses = [values["train/loss"] for values in epochs(made(*SMALL, *words)).values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


VALIDATED = {
    "max_steps=5 trainer.max_epochs=3": ([1], 2),  # ends within an epoch
    "check_val_every_n_epoch=2 trainer.max_epochs=5 callbacks=early_stopping": ([2, 4], 5),
    "check_val_every_n_epoch=null trainer.val_check_interval=6 trainer.max_epochs=3": ([2], 3),
}


@pytest.mark.parametrize("words", VALIDATED)
def test_only_validated_epochs_have_validation_values(made: Made, words: str) -> None:
    validated, count = VALIDATED[words]
    run = made(*SHORT, *f"trainer.{words}".split())
    recorded = epochs(run)
    assert [epoch for epoch, values in recorded.items() if "val/f1" in values] == validated
    trained = [epoch for epoch, values in recorded.items() if "train/loss" in values]
    assert trained == [*range(1, count + 1)]
    assert final_values(run)["best/epoch"] in validated


def test_expired_max_time_ends_the_run_normally(made: Made) -> None:
    words = ("trainer.max_time=00:00:00:01", "trainer.max_epochs=100000", "scheduler=none")
    run = made(*SHORT, *words)
    assert events(run)[-1]["status"] == "FINISHED"
    last = max(epochs(run))
    assert 0 < last < 100000
    assert "val/loss" in epochs(run)[last]
    assert checkpoint(run, "last")["pipeline"]["epoch"] == last


# ── numbers ─────────────────────────────────────────────────────────────────────────────────

PRECISIONS = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}


@pytest.mark.parametrize(
    ("data", "precisions"), [("iris", list(PRECISIONS)), ("diabetes", ["bf16-true"])]
)
def test_precision_is_that_of_the_weights(made: Made, data: str, precisions: list[str]) -> None:
    """The values stay close to those of single precision."""
    words = ["model=mlp", f"data={data}", *SHORT[2:], "trainer.max_epochs=1", "model.norm=none"]
    words += ["optimizer.lr=1e-3"]
    exact = epochs(made(*words, "output=exact"))[1]
    for precision in precisions:
        run = made(*words, f"trainer.precision={precision}", f"output={precision}")
        weights, values = checkpoint(run, "last")["state_dict"], epochs(run)[1]
        assert {value.dtype for value in weights.values()} == {PRECISIONS[precision]}
        for key in ("train/loss", "val/loss", "grad/norm"):
            assert values[key] == pytest.approx(exact[key], rel=0.05), key
        if precision == "bf16-true":  # means are no half-precision ones
            losses = [values[key] for key in ("train/loss", "val/loss")]
            assert losses != [float(torch.tensor(loss).bfloat16()) for loss in losses]


def test_accumulated_batches_equal_one_larger_batch(made: Made) -> None:
    common = ("model.norm=none", "optimizer=sgd", "optimizer.momentum=0", "data.shuffle=false")
    words = (*IRIS, *common, "trainer.max_steps=1", "trainer.gradient_clip_val=null")
    whole = made(*words, "data.batch_size=64", "output=whole")
    halves = ("data.batch_size=32", "trainer.accumulate_grad_batches=2")
    parts = made(*words, *halves, "output=parts")
    first, second = (checkpoint(run, "last")["state_dict"] for run in (whole, parts))
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("algorithm", "threshold"), [("norm", "0.01"), ("value", "0.0001"), ("norm", "null")]
)
def test_clipping_takes_effect_and_is_recorded(made: Made, algorithm: str, threshold: str) -> None:
    words = (f"gradient_clip_algorithm={algorithm}", f"gradient_clip_val={threshold}")
    values = epochs(made(*IRIS, *(f"trainer.{word}" for word in words)))[1]
    if threshold == "null":
        assert values["grad/clipped"] == 0
        assert values["grad/norm_clipped"] == values["grad/norm"]
    else:
        assert values["grad/clipped"] == 1
        assert values["grad/norm_clipped"] < 0.05 < values["grad/norm"]


@pytest.mark.slow
def test_compiled_network_learns_like_the_plain_one(
    made: Made, tmp_path: Path, monkeypatch: Patch
) -> None:
    words = (*SHORT, "model.hidden=[8]", "model.norm=batch", "trainer.max_epochs=2")
    plain = made(*words, "output=plain")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    run = made(*words, "trainer.compile=true")
    assert list(tmp_path.glob("torchinductor_*")) == []
    names = checkpoint(plain, "last")["state_dict"].keys()
    assert checkpoint(run, "last")["state_dict"].keys() == names
    assert epochs(run)[2]["val/loss"] == pytest.approx(epochs(plain)[2]["val/loss"], rel=1e-3)
