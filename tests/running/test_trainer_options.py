"""Every option of the Trainer does what its name says, or is refused before anything is made."""

import tempfile
from pathlib import Path

import pytest
import torch
from fixture_types import Capture, Made, Patch, Train
from records import checkpoint, epochs, events, final_values, only_run, predictions

from pipeline.config.compose import compose

IRIS = ("model=mlp", "data=iris", "tracking=none", "verbose=0", "trainer.max_epochs=3")
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
    "profiler": "simple",
}
"""Options that change how a run is carried out and not one bit of what comes of it."""
ELSEWHERE = {
    "precision",
    "threads",
    "compile",
    "max_epochs",
    "max_steps",
    "max_time",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "overfit_batches",
    "fast_dev_run",
    "val_check_interval",
    "check_val_every_n_epoch",
}
"""Options with tests of their own in this file."""


def test_every_option_of_the_trainer_is_run_by_a_test_of_this_file() -> None:
    assert set(compose().trainer) == set(PLAIN) | ELSEWHERE


@pytest.fixture(scope="module")
def plain_history(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, float]]:
    """The values of an ordinary run."""
    from pipeline.train import main

    output = tmp_path_factory.mktemp("plain")
    assert main([*IRIS, f"output={output}"]) == 0
    return epochs(only_run(output))


@pytest.mark.parametrize("option", PLAIN)
def test_an_option_of_how_changes_no_value_that_is_recorded(
    made: Made, own_folder: Path, option: str, plain_history: dict[int, dict[str, float]]
) -> None:
    run = made(*IRIS, f"trainer.{option}={PLAIN[option]}")
    assert epochs(run) == plain_history
    if option == "profiler":
        assert "run_training_epoch" in (run / "run.log").read_text(encoding="utf-8")
        assert sorted(path.name for path in own_folder.iterdir()) == ["runs"]


def test_a_setting_of_torch_does_not_outlive_its_run(made: Made) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    made(*IRIS, "trainer.deterministic=true", "trainer.threads=1")
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before


@pytest.mark.parametrize("words", [(*IRIS, "2"), (*SMALL, "0.7")], ids=["2 of 3", "0.7 of 4"])
def test_limited_training_batches_are_the_only_ones_that_train(
    made: Made, words: tuple[str, ...]
) -> None:
    run = made(*words[:-1], f"trainer.limit_train_batches={words[-1]}")
    assert checkpoint(run, "last")["global_step"] == 6


def test_all_wrong_limits_are_told_at_once(train: Train, capsys: Capture) -> None:
    assert train(*IRIS, "trainer.limit_test_batches=0.1", "trainer.max_steps=0") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


UNVALIDATED = {
    "data.validation=0": "data.validation=0",
    "trainer.limit_val_batches=0": "trainer.limit_val_batches=0",
    "trainer.limit_val_batches=0.0": "trainer.limit_val_batches=0",
    "trainer.max_steps=2": "training ends before its first validation",
    "trainer.check_val_every_n_epoch=5": "training ends before its first validation",
}


@pytest.mark.parametrize("word", UNVALIDATED)
def test_without_validation_early_stopping_is_off_and_the_last_weights_are_kept(
    made: Made, capsys: Capture, word: str
) -> None:
    words = ("callbacks=early_stopping", "scheduler=plateau", "verbose=2", word)
    run = made(*(kept for kept in IRIS if kept != "verbose=0"), *words)
    said = [line for line in capsys.readouterr().out.splitlines() if "validated" in line]
    assert said == [
        f"note: nothing is validated ({UNVALIDATED[word]}): the last weights are kept, early "
        "stopping is off and the learning rate stays as it is"
    ]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not any(key.startswith(("val/", "best/")) for key in final_values(run))
    assert "test/f1" in final_values(run)


def test_early_stopping_on_the_training_loss_needs_no_validation(made: Made) -> None:
    stopping = ("monitor=train/loss", "min_delta=100", "patience=1")
    words = [f"callbacks.early_stopping.{word}" for word in stopping]
    run = made(*IRIS, "data.validation=0", "callbacks=early_stopping", *words)
    assert list(epochs(run)) == [1, 2]


def test_a_run_without_test_batches_leaves_the_test_rows_alone(made: Made) -> None:
    run = made(*IRIS, "trainer.limit_test_batches=0")
    assert not any(key.startswith(("test/", "naive/")) for key in final_values(run))
    assert not (run / "artifacts" / "test_predictions.csv").exists()


def test_a_limited_test_scores_network_and_baselines_on_the_same_rows(made: Made) -> None:
    run = made(*IRIS, "data.batch_size=10", "trainer.limit_test_batches=1")
    truth = [line["target"] for line in predictions(run)]
    assert len(truth) == 10
    majority = final_values(run)["naive/accuracy"]
    assert majority in [pytest.approx(truth.count(name) / 10) for name in set(truth)] + [0.0]


def test_overfitting_trains_on_the_same_batches_each_epoch(made: Made) -> None:
    words = ("trainer.overfit_batches=2", "optimizer.lr=1e-30", "scheduler=none", "model.norm=none")
    losses = [values["train/loss"] for values in epochs(made(*SMALL, *words)).values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_fast_run_takes_one_batch_of_each_part(made: Made) -> None:
    run = made(*SMALL, "trainer.fast_dev_run=true", "callbacks=early_stopping")
    assert checkpoint(run, "last")["global_step"] == 1
    assert len(predictions(run)) == 23


VALIDATED = {
    "trainer.max_steps=5": ([1], 2),  # ends within an epoch
    "trainer.check_val_every_n_epoch=2 trainer.max_epochs=5 callbacks=early_stopping": ([2, 4], 5),
    "trainer.check_val_every_n_epoch=null trainer.val_check_interval=6": ([2], 3),
}


@pytest.mark.parametrize("words", VALIDATED)
def test_only_epochs_that_end_with_a_validation_have_its_values(made: Made, words: str) -> None:
    validated, count = VALIDATED[words]
    given = words.split()
    run = made(*(IRIS[:-1] if "trainer.max_epochs=5" in given else IRIS), *given)
    recorded = epochs(run)
    assert [epoch for epoch, values in recorded.items() if "val/f1" in values] == validated
    assert [epoch for epoch, values in recorded.items() if "train/loss" in values] == [
        *range(1, count + 1)
    ]
    assert final_values(run)["best/epoch"] in validated


def test_several_validations_in_an_epoch_record_the_one_at_its_end(
    made: Made, plain_history: dict[int, dict[str, float]]
) -> None:
    assert epochs(made(*IRIS, "trainer.val_check_interval=0.4")) == plain_history


def test_time_that_runs_out_ends_the_run_with_what_was_trained(made: Made) -> None:
    words = ("trainer.max_time=00:00:00:01", "trainer.max_epochs=100000", "scheduler=none")
    run = made(*IRIS[:-1], *words)
    assert events(run)[-1]["status"] == "FINISHED"
    last = max(epochs(run))
    assert 0 < last < 100000
    assert "val/loss" in epochs(run)[last]
    assert checkpoint(run, "last")["pipeline"]["epoch"] == last


PRECISIONS = {"bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}


@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_a_precision_is_that_of_the_weights_and_the_values_stay_close(
    made: Made, data: str
) -> None:
    words = ("model=mlp", f"data={data}", *IRIS[2:4], "trainer.max_epochs=1", "model.norm=none")
    words = (*words, "optimizer.lr=1e-3")
    exact = made(*words, "output=exact")
    for precision, kind in PRECISIONS.items():
        run = made(*words, f"trainer.precision={precision}", f"output={precision}")
        weights = checkpoint(run, "last")["state_dict"]
        assert {value.dtype for value in weights.values()} == {kind}
        for key in ("train/loss", "val/loss", "grad/norm"):
            assert epochs(run)[1][key] == pytest.approx(epochs(exact)[1][key], rel=0.05), key
        if precision == "bf16-true":  # means are no half-precision ones
            losses = [epochs(run)[1][key] for key in ("train/loss", "val/loss")]
            assert losses != [float(torch.tensor(loss).bfloat16()) for loss in losses]


def test_accumulated_batches_move_the_weights_as_one_batch_of_their_size(made: Made) -> None:
    common = ("model.norm=none", "optimizer=sgd", "optimizer.momentum=0", "data.shuffle=false")
    words = (*IRIS, *common, "trainer.max_steps=1", "trainer.gradient_clip_val=null")
    accumulated = ("data.batch_size=32", "trainer.accumulate_grad_batches=2")
    whole = made(*words, "data.batch_size=64", "output=whole")
    first, second = (
        checkpoint(run, "last")["state_dict"]
        for run in (whole, made(*words, *accumulated, "output=parts"))
    )
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-7)


def test_clipping_acts_and_its_share_is_on_record(made: Made) -> None:
    for algorithm, threshold in (("norm", "0.01"), ("value", "0.0001"), ("norm", "null")):
        words = (f"trainer.gradient_clip_algorithm={algorithm}", f"output={algorithm}-{threshold}")
        values = epochs(made(*IRIS, f"trainer.gradient_clip_val={threshold}", *words))[1]
        if threshold == "null":
            assert values["grad/clipped"] == 0
            assert values["grad/norm_clipped"] == values["grad/norm"]
        else:
            assert values["grad/clipped"] == 1
            assert values["grad/norm_clipped"] < 0.05 < values["grad/norm"]


def test_threads_are_resolved_into_the_record(made: Made) -> None:
    for count, words in ((1, ()), (2, ("trainer.threads=2",))):
        run = made(*IRIS, *words, f"output={count}")
        assert events(run)[0]["params"]["trainer.threads"] == count
        config = (run / "artifacts" / "config.yaml").read_text(encoding="utf-8")
        assert f"threads: {count if words else 'null'}" in config


@pytest.mark.slow
@pytest.mark.parametrize("data", ["iris", "synthetic_control"])
def test_a_compiled_network_learns_what_the_plain_one_does(
    made: Made, data: str, tmp_path: Path, monkeypatch: Patch
) -> None:
    model = "model=mlp" if data == "iris" else "model=gru"
    words = (model, f"data={data}", "tracking=none", "verbose=0", "trainer.max_epochs=2")
    plain = made(*words, "output=plain")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    run = made(*words, "trainer.compile=true")
    assert list(tmp_path.glob("torchinductor_*")) == []
    names = checkpoint(plain, "last")["state_dict"].keys()
    assert checkpoint(run, "last")["state_dict"].keys() == names
    assert epochs(run)[2]["val/loss"] == pytest.approx(epochs(plain)[2]["val/loss"], rel=1e-3)
