"""Settings far from usual are named first where a run is poor, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from doctor.sick_findings import overfitted, poorly, with_history
from helpers.sample_findings import config_of, made_findings, scored_rows, with_test

from pipeline.base.findings import Findings
from pipeline.base.paths import conf_folder
from pipeline.doctor.diagnosis import diagnose
from pipeline.doctor.evidence import Evidence
from pipeline.doctor.unusual_settings import unusual_settings

TABLE = ("data=wine", "model=mlp")

#: Words of a command line, with the verdict and the first cure of a poor run.
UNUSUAL = {
    "optimizer.momentum=0.999 optimizer=sgd": ("lr_too_high", "optimizer.momentum=0.9"),
    "optimizer.dampening=0.99 optimizer=sgd": ("lr_too_low", "optimizer.dampening=0.0"),
    "optimizer.eps=1.0 optimizer=adam": ("lr_too_low", "optimizer.eps=1e-8"),
    "optimizer.lr=1 optimizer=adam": ("lr_too_high", "optimizer.lr=0.0"),
    "optimizer.betas=[0.999,0.999] optimizer=adam": (
        "lr_too_high",
        "optimizer.betas=[0.9,0.999]",
    ),
    "optimizer.weight_decay=0.5 optimizer=adam": ("underfitting", "optimizer.weight_decay=0.0"),
    "optimizer.weight_decay=5 optimizer=adamw": ("underfitting", "optimizer.weight_decay=0.01"),
    "model.dropout=0.8": ("underfitting", "model.dropout=0.0"),
    "loss.label_smoothing=0.9": ("underfitting", "loss.label_smoothing=0.0"),
    "loss.class_weights=[1,1,60]": ("class_collapse", "loss.class_weights=null"),
    "model.activation=identity": ("underfitting", "model.activation=relu"),
    "model.hidden=[64,1,64]": ("underfitting", "model.hidden=[256,16,256]"),
    "model.gain=20 model.norm=none": ("exploding_gradient", "model.gain=null"),
    "model.gain=0.001 model.norm=none": ("vanishing_gradient", "model.gain=null"),
    "data.shuffle=false": ("underfitting", "data.shuffle=true"),
    "trainer.limit_train_batches=0.05": ("too_few_steps", "trainer.limit_train_batches=1.0"),
}
#: Experiments that show what an unusual setting does, with its cure.
MEANT_TO_FAIL = {"notes_normalisation": ["model.gain=null"]}
EXPERIMENTS = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))


def poor(*words: str) -> Findings:
    return poorly(made_findings(config=config_of(*TABLE, *words)))


@pytest.mark.parametrize("words", UNUSUAL)
def test_unusual_setting_is_the_first_thing_to_change(words: str) -> None:
    verdict_name, cure = UNUSUAL[words]
    verdict = diagnose(poor(*words.split())).verdicts[0]
    assert verdict.name == verdict_name
    assert verdict.cures[0].startswith(cure)
    key, _, _ = words.split(maxsplit=1)[0].partition("=")
    assert f"; {key}=" in verdict.evidence


@pytest.mark.parametrize("words", UNUSUAL)
def test_setting_of_a_good_run_is_not_blamed(words: str) -> None:
    good = made_findings(config=config_of(*TABLE, *words.split()))
    good = replace(good, training={"accuracy": 0.99, "recall": 0.99, "loss": 0.03})
    assert unusual_settings(Evidence(good)) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_of_experiments_are_usual(experiment: str) -> None:
    made = made_findings(config=config_of(f"experiment={experiment}"))
    made = replace(made, training={"accuracy": 0.6, "recall": 0.6})
    cures = [setting.cure for setting in unusual_settings(Evidence(made))]
    assert cures == MEANT_TO_FAIL.get(experiment, [])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "nadam", "rmsprop"])
@pytest.mark.parametrize("model", ["mlp", "cnn1d", "rnn", "gru", "lstm"])
def test_default_settings_are_usual(model: str, optimizer: str) -> None:
    made = poorly(made_findings(config=config_of(f"model={model}", f"optimizer={optimizer}")))
    assert unusual_settings(Evidence(made)) == []


def test_rate_that_falls_too_soon_is_named() -> None:
    rates = 0.01 * 0.1 ** np.arange(12)
    words = ("scheduler=exponential", "scheduler.gamma=0.1")
    verdict = diagnose(with_history(poor(*words), lr=rates)).verdicts[0]
    assert verdict.name == "lr_too_low"
    assert verdict.cures[0] == "scheduler.gamma=0.83"
    assert "after epoch 3" in verdict.evidence


def test_network_that_overfits_is_not_held_down() -> None:
    words = (*TABLE, "model.dropout=0.8", "optimizer.weight_decay=0.5", "optimizer=adam")
    findings = replace(overfitted(), training={"accuracy": 0.9}, config=config_of(*words))
    findings = replace(findings, metrics={**findings.metrics, "best/val/accuracy": 0.5})
    assert diagnose(findings).names == "overfitting"


@pytest.mark.parametrize(("window", "is_named"), [(3, True), (9, False)])
def test_season_outside_a_short_window_is_named(window: int, is_named: bool) -> None:
    words = ("data=sunspots", "model=lstm", f"data.window={window}", "data.difference=null")
    made = poorly(made_findings(task="regression", kind="series", config=config_of(*words)))
    season = np.tile([5.0, *[0.0] * 11], 20)
    values = (season + np.random.default_rng(0).normal(size=240))[:, None].astype(np.float32)
    outputs = np.zeros_like(values)
    assert len(scored_rows(made).targets) == len(values)
    settings = unusual_settings(Evidence(with_test(made, targets=values, outputs=outputs)))
    cures = [setting.cure for setting in settings]
    assert cures == (["data.window=13"] if is_named else [])
