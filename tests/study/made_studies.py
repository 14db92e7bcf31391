"""Real studies of Optuna's over a function that behaves like a network, and their rows."""

import math
import random

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.study.ledger.rows import Row, RowState

CLIP = "trainer.gradient_clip_val"
ALGORITHM = "trainer.gradient_clip_algorithm"
STATES: dict[TrialState, RowState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
RANGES = {"norm": (0.1, 10.0), "value": (0.01, 1.0)}


def lr_epochs_clip(trials: int, *, objectives: int = 1, choices: bool = True) -> optuna.Study:
    """A study of learning rate, epochs and clipping, in which some trials diverge or are pruned."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name="lr_epochs_clip-lstm-mnist1d",
        directions=["maximize", "minimize"][:objectives],
        sampler=optuna.samplers.TPESampler(seed=1),
    )
    for _ in range(trials):
        trial = study.ask()
        _train(study, trial, objectives=objectives, choices=choices)
    return study


def rows_of(study: optuna.Study) -> list[Row]:
    """The trials as the program's own plain records."""
    return [_row(trial) for trial in study.trials]


def _train(study: optuna.Study, trial: Trial, *, objectives: int, choices: bool) -> None:
    lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
    epochs = trial.suggest_int("trainer.max_epochs", 5, 40)
    algorithm = trial.suggest_categorical(ALGORITHM, ["norm", "value"]) if choices else "norm"
    name = f"{CLIP} ({algorithm})"
    clip = None
    if trial.suggest_categorical(f"{name} on", (True, False)):
        clip = trial.suggest_float(name, *RANGES[algorithm], log=True)
    noise = random.Random(trial.number).gauss(0, 0.01)
    f1 = 0.85 - 0.08 * (math.log10(lr) + 2.3) ** 2 + 0.002 * epochs + noise
    if clip is None:
        f1 -= 0.05
    if lr > 0.03 and clip is None:
        trial.set_user_attr("reason", "diverged")
        trial.set_user_attr("message", "the loss became nan in epoch 2")
        study.tell(trial, state=TrialState.FAIL)
    elif f1 < 0.72 and objectives == 1:
        trial.report(f1, 3)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("seconds", 0.11 * epochs)
        study.tell(trial, [f1, 0.11 * epochs][:objectives])


def _row(trial: FrozenTrial) -> Row:
    attributes = {key: value for key, value in trial.user_attrs.items() if key != "reason"}
    state = STATES[trial.state]
    return Row(
        number=trial.number,
        state=state,
        reason="pruned" if state == "pruned" else trial.user_attrs.get("reason"),
        values=tuple(trial.values) if state == "complete" else (),
        params=trial.params,
        overrides=_overrides(trial.params),
        attributes=attributes,
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )


def _overrides(params: dict[str, object]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in params.items():
        key = name.partition(" ")[0]
        if name.endswith(" on"):
            texts[key] = "null"
        else:
            texts[key] = str(value)
    return texts


def models_by_data(models: list[str], data: list[str], seeds: int) -> list[Row]:
    """The trials of a table of models, data and seeds; rnn's third seed diverges each time."""
    rows: list[Row] = []
    for source in data:
        for model in models:
            rows += [_repeat(len(rows) + s, model, source, s) for s in range(seeds)]
    return rows


def _repeat(number: int, model: str, data: str, seed: int) -> Row:
    swept = {"data": data, "model": model, "seed": str(seed)}
    if model == "rnn" and seed == 2:
        return Row(number=number, state="failed", reason="diverged", overrides=swept)
    noise = random.Random(f"{model}{data}{seed}").gauss(0, 0.004)
    luck = random.Random(f"{data}{seed}").gauss(0, 0.02)
    level = {"mlp": 0.66, "cnn1d": 0.91, "gru": 0.9}.get(model, 0.6) + luck + noise
    attributes = {"test/f1": level - 0.01, "test/accuracy": level - 0.005, "test/auroc": 0.97}
    attributes |= {"naive/f1": 0.02, "naive/accuracy": 0.1, "linear/f1": 0.3 + luck / 10}
    return Row(
        number=number,
        state="complete",
        values=(level,),
        overrides=swept,
        attributes={**attributes, "seconds": 2.0},
    )
