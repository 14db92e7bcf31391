"""Every option of the Trainer does what its name says, or is refused before anything is made."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from records import checkpoint, epochs, events, final_values, only_run

from pipeline.config.compose import compose

Train = Callable[..., int]

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
    train: Train, own_folder: Path, option: str, plain_history: dict[int, dict[str, float]]
) -> None:
    assert train(*IRIS, f"trainer.{option}={PLAIN[option]}") == 0
    assert epochs(only_run(own_folder / "runs")) == plain_history


def test_a_setting_of_torch_does_not_outlive_its_run(train: Train, own_folder: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    assert train(*IRIS, "trainer.deterministic=true", "trainer.threads=1") == 0
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before


def test_the_profilers_table_is_in_the_runs_log(train: Train, own_folder: Path) -> None:
    assert train(*IRIS, "trainer.profiler=simple") == 0
    log = (only_run(own_folder / "runs") / "run.log").read_text(encoding="utf-8")
    assert "run_training_epoch" in log
    assert sorted(path.name for path in own_folder.iterdir()) == ["runs"]


@pytest.mark.parametrize("words", [(*IRIS, "2"), (*SMALL, "0.7")], ids=["2 of 3", "0.7 of 4"])
def test_limited_training_batches_are_the_only_ones_that_train(
    train: Train, own_folder: Path, words: tuple[str, ...]
) -> None:
    assert train(*words[:-1], f"trainer.limit_train_batches={words[-1]}") == 0
    assert checkpoint(only_run(own_folder / "runs"), "last")["global_step"] == 6


def test_all_wrong_limits_are_told_at_once(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("trainer.limit_test_batches=0.1", "trainer.max_steps=0")
    assert train(*IRIS, *words) == 2
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
    train: Train, own_folder: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    words = ("callbacks=early_stopping", "scheduler=plateau", "verbose=2", word)
    assert train(*(kept for kept in IRIS if kept != "verbose=0"), *words) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "validated" in line]
    assert said == [
        f"note: nothing is validated ({UNVALIDATED[word]}): the last weights are kept, early "
        "stopping is off and the learning rate stays as it is"
    ]
    run = only_run(own_folder / "runs")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert not any(key.startswith(("val/", "best/")) for key in final_values(run))
    assert "test/f1" in final_values(run)


def test_early_stopping_on_the_training_loss_needs_no_validation(
    train: Train, own_folder: Path
) -> None:
    stopping = ("monitor=train/loss", "min_delta=100", "patience=1")
    words = [f"callbacks.early_stopping.{word}" for word in stopping]
    assert train(*IRIS, "data.validation=0", "callbacks=early_stopping", *words) == 0
    assert list(epochs(only_run(own_folder / "runs"))) == [1, 2]


def test_a_run_without_test_batches_leaves_the_test_rows_alone(
    train: Train, own_folder: Path
) -> None:
    assert train(*IRIS, "trainer.limit_test_batches=0") == 0
    run = only_run(own_folder / "runs")
    assert not any(key.startswith(("test/", "naive/")) for key in final_values(run))
    assert not (run / "artifacts" / "test_predictions.csv").exists()


def test_a_limited_test_scores_network_and_baselines_on_the_same_rows(
    train: Train, own_folder: Path
) -> None:
    assert train(*IRIS, "data.batch_size=10", "trainer.limit_test_batches=1") == 0
    run = only_run(own_folder / "runs")
    lines = (run / "artifacts" / "test_predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 10
    truth = [line.split(",")[1] for line in lines[1:]]
    majority = final_values(run)["naive/accuracy"]
    assert majority in [pytest.approx(truth.count(name) / 10) for name in set(truth)] + [0.0]


def test_overfitting_trains_on_the_same_batches_each_epoch(train: Train, own_folder: Path) -> None:
    words = ("trainer.overfit_batches=2", "optimizer.lr=1e-30", "scheduler=none", "model.norm=none")
    assert train(*SMALL, *words) == 0
    losses = [values["train/loss"] for values in epochs(only_run(own_folder / "runs")).values()]
    assert len(losses) == 3
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_fast_run_takes_one_batch_of_each_part(train: Train, own_folder: Path) -> None:
    assert train(*SMALL, "trainer.fast_dev_run=true", "callbacks=early_stopping") == 0
    run = only_run(own_folder / "runs")
    assert checkpoint(run, "last")["global_step"] == 1
    lines = (run / "artifacts" / "test_predictions.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 23


def test_a_training_that_ends_within_an_epoch_has_no_validation_of_that_epoch(
    train: Train, own_folder: Path
) -> None:
    assert train(*IRIS, "trainer.max_steps=5") == 0
    first, second = epochs(only_run(own_folder / "runs")).values()
    assert "val/loss" in first
    assert "train/loss" in second
    assert not any(key.startswith("val/") for key in second)
    assert final_values(only_run(own_folder / "runs"))["best/epoch"] == 1


def test_epochs_between_validations_have_no_values_of_an_earlier_one(
    train: Train, own_folder: Path
) -> None:
    words = ("trainer.check_val_every_n_epoch=2", "trainer.max_epochs=5")
    assert train(*IRIS[:-1], *words, "callbacks=early_stopping") == 0
    recorded = epochs(only_run(own_folder / "runs"))
    assert [epoch for epoch, values in recorded.items() if "val/f1" in values] == [2, 4]
    assert all("train/loss" in values for values in recorded.values())


def test_several_validations_in_an_epoch_record_the_one_at_its_end(
    train: Train, own_folder: Path, plain_history: dict[int, dict[str, float]]
) -> None:
    assert train(*IRIS, "trainer.val_check_interval=0.4") == 0
    assert epochs(only_run(own_folder / "runs")) == plain_history


def test_validation_by_batches_alone_may_span_epochs(train: Train, own_folder: Path) -> None:
    words = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=6")
    assert train(*IRIS, *words) == 0
    recorded = epochs(only_run(own_folder / "runs"))
    assert [epoch for epoch, values in recorded.items() if "val/f1" in values] == [2]


def test_time_that_runs_out_ends_the_run_with_what_was_trained(
    train: Train, own_folder: Path
) -> None:
    words = ("trainer.max_time=00:00:00:01", "trainer.max_epochs=100000", "scheduler=none")
    assert train(*IRIS[:-1], *words) == 0
    run = only_run(own_folder / "runs")
    assert events(run)[-1]["status"] == "FINISHED"
    last = max(epochs(run))
    assert 0 < last < 100000
    assert "val/loss" in epochs(run)[last]
    assert checkpoint(run, "last")["pipeline"]["epoch"] == last


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        ("bf16-mixed", torch.float32),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
        ("32-true", torch.float32),
    ],
)
@pytest.mark.parametrize("data", ["iris", "diabetes"])
def test_a_precision_is_that_of_the_weights_and_the_values_stay_close(
    train: Train, own_folder: Path, precision: str, kind: torch.dtype, data: str
) -> None:
    words = (f"data={data}", "trainer.max_epochs=1", "model.norm=none", "optimizer.lr=1e-3")
    assert train(*IRIS[:1], *IRIS[2:4], *words, "output=exact") == 0
    assert train(*IRIS[:1], *IRIS[2:4], *words, f"trainer.precision={precision}") == 0
    exact, run = only_run(own_folder / "exact"), only_run(own_folder / "runs")
    weights = checkpoint(run, "last")["state_dict"]
    assert {value.dtype for value in weights.values()} == {kind}
    for key in ("train/loss", "val/loss", "grad/norm"):
        assert epochs(run)[1][key] == pytest.approx(epochs(exact)[1][key], rel=0.05), key


def test_values_of_a_half_precision_run_are_no_half_precision_means(
    train: Train, own_folder: Path
) -> None:
    words = ("data=mnist1d", "trainer.max_epochs=1", "trainer.precision=bf16-true")
    assert train("model=mlp", "tracking=none", "verbose=0", *words) == 0
    values = epochs(only_run(own_folder / "runs"))[1]
    rounded = [float(torch.tensor(values[key]).bfloat16()) for key in ("train/loss", "val/loss")]
    assert [values["train/loss"], values["val/loss"]] != rounded


def test_accumulated_batches_move_the_weights_as_one_batch_of_their_size(
    train: Train, own_folder: Path
) -> None:
    common = ("model.norm=none", "optimizer=sgd", "optimizer.momentum=0", "data.shuffle=false")
    steps = ("trainer.max_steps=1", "trainer.gradient_clip_val=null")
    words = (*IRIS, *common, *steps)
    assert train(*words, "data.batch_size=64", "output=whole") == 0
    accumulated = ("data.batch_size=32", "trainer.accumulate_grad_batches=2")
    assert train(*words, *accumulated, "output=parts") == 0
    whole = checkpoint(only_run(own_folder / "whole"), "last")["state_dict"]
    parts = checkpoint(only_run(own_folder / "parts"), "last")["state_dict"]
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_clipping_acts_and_its_share_is_on_record(train: Train, own_folder: Path) -> None:
    for algorithm, threshold in (("norm", "0.01"), ("value", "0.0001"), ("norm", "null")):
        output = f"{algorithm}-{threshold}"
        words = (f"trainer.gradient_clip_algorithm={algorithm}", f"output={output}")
        assert train(*IRIS, f"trainer.gradient_clip_val={threshold}", *words) == 0
        values = epochs(only_run(own_folder / output))[1]
        if threshold == "null":
            assert values["grad/clipped"] == 0
            assert values["grad/norm_clipped"] == values["grad/norm"]
        else:
            assert values["grad/clipped"] == 1
            assert values["grad/norm_clipped"] < 0.05 < values["grad/norm"]


def test_threads_are_resolved_into_the_record(train: Train, own_folder: Path) -> None:
    assert train(*IRIS) == 0
    assert train(*IRIS, "trainer.threads=2", "output=two") == 0

    def threads(run: Path) -> object:
        return events(run)[0]["params"]["trainer.threads"]

    assert threads(only_run(own_folder / "runs")) == 1
    assert threads(only_run(own_folder / "two")) == 2
    config = (only_run(own_folder / "two") / "artifacts" / "config.yaml").read_text()
    assert json.dumps(config).count("threads: 2") == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [("model=mlp",), ("model=gru", "data=synthetic_control")])
def test_a_compiled_network_learns_what_the_plain_one_does(
    train: Train,
    own_folder: Path,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = (*words, "tracking=none", "verbose=0", "trainer.max_epochs=2")
    data = () if len(words) == 2 else ("data=iris",)
    assert train(*common, *data, "output=plain") == 0
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    assert train(*common, *data, "trainer.compile=true") == 0
    assert list(tmp_path.glob("torchinductor_*")) == []
    plain, run = only_run(own_folder / "plain"), only_run(own_folder / "runs")
    names = checkpoint(plain, "last")["state_dict"].keys()
    assert checkpoint(run, "last")["state_dict"].keys() == names
    expected = epochs(plain)[2]["val/loss"]
    assert epochs(run)[2]["val/loss"] == pytest.approx(expected, rel=1e-3)
