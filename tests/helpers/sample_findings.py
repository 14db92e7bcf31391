"""Findings such as a healthy run leaves, made without training one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from pipeline.base.ends import End
from pipeline.base.findings import (
    Activity,
    Array,
    Clipping,
    ColumnImportances,
    Findings,
    Mistakes,
    TestRows,
    Vitals,
)
from pipeline.config.compose import compose
from pipeline.config.plain import plain
from pipeline.scoring import scores as scoring
from pipeline.scoring.baselines import all_baselines
from pipeline.scoring.bootstrap import intervals, units_of

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["table", "series", "images"]

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
KINDS: tuple[Kind, ...] = ("table", "series", "images")
SHOWN = 6
"""Worst mistakes that are kept."""
UNMEASURED: Mapping[str, Any] = {
    **{"vitals": None, "activity": (), "test": None, "importances": None, "mistakes": None},
    **{"history": {}, "metrics": {}, "intervals": {}, "training": {}},
}
"""Fields of findings of a run about which nothing but its configuration is known."""


class _Made(NamedTuple):
    """The network of a kind of data, one of its inputs, and the words that choose both."""

    words: tuple[str, ...]
    model: str
    layers: tuple[str, ...]
    activations: tuple[str, ...]
    function: str
    shape: tuple[int, ...]
    features: tuple[str, ...]


_COLUMNS = ("age", "height", "weight", "sugar")
_MADE: Mapping[Kind, _Made] = {
    "table": _Made(
        words=("data=wine", "model=mlp"),
        model="MLP",
        layers=("layers.layer1.linear", "layers.layer2.linear", "head"),
        activations=("layers.layer1.activation", "layers.layer2.activation"),
        function="ReLU",
        shape=(4,),
        features=_COLUMNS,
    ),
    "series": _Made(
        words=("data=sunspots", "model=lstm"),
        model="LSTM",
        layers=("layers.layer1.recurrent (input)", "layers.layer1.recurrent (state)", "head"),
        activations=("layers.layer1.recurrent",),
        function="LSTM (tanh)",
        shape=(24, 2),
        features=("load", "wind"),
    ),
    "images": _Made(
        words=("model=cnn2d",),
        model="CNN2d",
        layers=("layers.layer1.convolution.kernel", "layers.layer2.convolution.kernel", "head"),
        activations=("layers.layer1.activation", "layers.layer2.activation"),
        function="ReLU",
        shape=(1, 8, 8),
        features=(),
    ),
}


def made_findings(
    *,
    task: Task = "multiclass",
    kind: Kind = "table",
    classes: int | Sequence[str] | None = None,
    epochs: int = 12,
    rows: int = 240,
    seed: int = 0,
    **changes: Any,
) -> Findings:
    """Return findings of a healthy run, whose parts agree with each other.

    Args:
        task: What was to be predicted.
        kind: What a row is.
        classes: Their names or their number; `None` = two or three, and none for a regression.
        epochs: Epochs trained.
        rows: Rows of the test part.
        seed: Of all that is drawn.
        changes: Fields that take the place of the made ones.
    """
    generator = np.random.default_rng(seed)
    names = _names(task, classes)
    test = _test_rows(task, len(names), rows, generator)
    history = _history(task, epochs)
    best, of = max(1, epochs - 1), _MADE[kind]
    metric, is_regression = "rmse" if task == "regression" else "f1", task == "regression"
    is_forecast = is_regression and kind == "series"
    units = units_of(rows, horizon=1 if is_forecast else None)
    found = intervals(test.outputs, test.targets, units=units, threshold=0.5, seed=seed, draws=200)
    made = Findings(
        name=f"{of.model.lower()}-made",
        run_id="0123456789abcdef0123456789abcdef",
        end=End.COMPLETE,
        task=task,
        kind=kind,
        model=of.model,
        config=config_of(*of.words, f"trainer.max_epochs={epochs}"),
        classes=names,
        features=of.features,
        targets=("load",) if is_forecast else (),
        label="load" if is_regression else "kind",
        units="kW" if is_regression else "",
        monitor=f"val/{metric}",
        better="min" if is_regression else "max",
        kept=best,
        epochs=epochs,
        planned=epochs,
        steps=25,
        clipping=Clipping(threshold=1.0, algorithm="norm", chosen=False),
        metrics=_metrics(test, history[best], task, best),
        training={"loss": history[best]["train/loss"], metric: history[best][f"val/{metric}"]},
        intervals=found.ends,
        baselines={
            "naive": "training mean" if is_regression else "majority class",
            "linear": "ridge" if is_regression else "logistic regression",
        },
        rows={"train": 3 * rows, "validation": rows, "test": rows},
        shares=tuple(1 / len(names) for _ in names),
        parameters=2048,
        seconds=4.2,
        device="cpu",
        data_hash="ab" * 32,
        history=history,
        vitals=_vitals(of.layers, epochs, generator),
        activity=tuple(
            Activity(
                layer=layer,
                kind=of.function,
                units=50,
                dead=0.0,
                saturated=0.01,
                mean=0.4,
                deviation=0.6,
            )
            for layer in of.activations
        ),
        test=test,
        importances=_importances(metric, generator) if kind == "table" else None,
        mistakes=_mistakes(test, of.shape, generator),
    )
    return replace(made, **changes)


def scored_rows(findings: Findings) -> TestRows:
    """The test rows of findings that have some."""
    assert findings.test is not None
    return findings.test


def vitals_of(findings: Findings) -> Vitals:
    """The vital signs of findings that have some."""
    assert findings.vitals is not None
    return findings.vitals


def with_test(findings: Findings, **changes: Any) -> Findings:
    """Findings with other values of their test rows, or of a baseline; `None` removes one."""
    test = scored_rows(findings)
    baselines = dict(test.baselines)
    for name in [name for name in changes if name in all_baselines()]:
        outputs = changes.pop(name)
        baselines.pop(name, None)
        if outputs is not None:
            baselines[name] = outputs
    return replace(findings, test=replace(test, baselines=baselines, **changes))


def of_rows(findings: Findings, kept: Array | slice) -> Findings:
    """Findings of some of their test rows, named by their positions or by a mask."""
    test = scored_rows(findings)
    arrays = {name: getattr(test, name) for name in ("rows", "targets", "outputs", "groups")}
    arrays |= test.baselines
    some = {name: array[kept] for name, array in arrays.items() if array is not None}
    return with_test(findings, **some)


@cache
def config_of(*words: str) -> Mapping[str, Any]:
    """The whole configuration that these overrides make."""
    return plain(compose(list(words)))


def _names(task: Task, classes: int | Sequence[str] | None) -> tuple[str, ...]:
    usual = {"binary": ("benign", "malignant"), "multiclass": ("ash", "beech", "cedar")}
    if task == "regression" or classes is None:
        return usual.get(task, ())
    return tuple(f"class {n}" for n in range(classes)) if isinstance(classes, int) else (*classes,)


def _test_rows(task: Task, classes: int, rows: int, generator: np.random.Generator) -> TestRows:
    numbers = np.arange(1000, 1000 + rows)
    if task == "regression":
        true = (40 + 10 * np.sin(np.arange(rows + 1) / 5)[:, None]).astype(np.float32)
        targets = true[1:]
        noise = generator.normal(size=(2, rows, 1)).astype(np.float32)
        return TestRows(
            rows=numbers,
            targets=targets,
            outputs=targets + noise[0],
            baselines={"naive": true[:-1] + 2 * noise[1], "linear": targets + 1.5 * noise[1]},
        )
    indices = np.arange(rows, dtype=np.int64) % classes
    shares = np.full((rows, classes), 1 / classes, dtype=np.float32)
    shares[:, 0] += 1e-3
    return TestRows(
        rows=numbers,
        targets=indices,
        outputs=_probabilities(indices, classes, 2.2, task, generator),
        baselines={
            "naive": shares[:, 1] if task == "binary" else shares,
            "linear": _probabilities(indices, classes, 1.4, task, generator),
        },
    )


def _probabilities(
    targets: Array, classes: int, pull: float, task: Task, generator: np.random.Generator
) -> Array:
    logits = generator.normal(size=(len(targets), classes))
    logits[np.arange(len(targets)), targets] += pull
    powers = np.exp(logits)
    shares: Array = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return shares[:, 1] if task == "binary" else shares


def _history(task: Task, epochs: int) -> dict[int, dict[str, float]]:
    history = {}
    for epoch in range(1, epochs + 1):
        # A quarter of the way is left after each tenth of training: flat long before the end.
        left = 0.25 ** (10 * (epoch - 1) / max(epochs, 1))
        wave = 0.002 * (-1) ** epoch if epoch != max(1, epochs - 1) else 0.004
        right = 0.92 - 0.6 * left + wave
        scores = {"val/f1": right, "val/accuracy": right, "val/auroc": 0.98 - 0.45 * left}
        if task == "regression":
            error = {"val/rmse": 1.0 + 8 * left - wave, "val/mae": 0.8 + 6 * left}
            scores = {**error, "val/r2": 0.97 - left}
        history[epoch] = {
            "train/loss": 0.15 + 0.9 * left,
            "val/loss": 0.17 + 0.9 * left - wave / 2,
            **scores,
            "grad/norm": 0.3 + 1.2 * left,
            "grad/norm_clipped": 0.3 + 0.6 * left,
            "grad/norm_max": 0.7 + 3 * left,
            "grad/clipped": 0.02 + 0.6 * left,
            "lr": 0.01 * float(0.5 + 0.5 * np.cos(np.pi * (epoch - 1) / epochs)),
            "time/epoch": 0.35,
        }
    return history


def _metrics(test: TestRows, kept: Mapping[str, float], task: Task, best: int) -> dict[str, float]:
    """Score what the test rows hold, as a run does."""
    width = test.outputs.shape[1] if test.outputs.ndim == 2 else 2
    scores = scoring.for_task(task, classes=width, threshold=0.5)
    targets = torch.from_numpy(test.targets)
    values = {"best/epoch": float(best), "time/fit": 4.2}
    values |= {f"best/{key}": value for key, value in kept.items() if key.startswith("val/")}
    for stage, outputs in {"test": test.outputs, **test.baselines}.items():
        scored = scores(torch.from_numpy(np.asarray(outputs)), targets)
        values |= {f"{stage}/{key}": float(value) for key, value in scored.items()}
    return values | {"test/loss": kept["val/loss"]}


def _vitals(layers: tuple[str, ...], epochs: int, generator: np.random.Generator) -> Vitals:
    fall = np.linspace(1.0, 0.3, epochs)[:, None] * np.linspace(0.4, 0.8, len(layers))
    noise = generator.uniform(0.95, 1.05, size=(epochs, len(layers)))
    return Vitals(
        layers=layers,
        epochs=np.arange(1, epochs + 1),
        gradients=fall * noise,
        updates=0.004 * np.linspace(1.0, 0.1, epochs)[:, None] * noise,
        first=np.linspace(0.5, 1.0, len(layers)),
        sizes=np.linspace(200, 1500, len(layers)).astype(np.int64),
    )


def _importances(metric: str, generator: np.random.Generator) -> ColumnImportances:
    means = np.linspace(0.3, 0.0, len(_COLUMNS))[:, None]
    falls = means + generator.normal(scale=0.01, size=(len(_COLUMNS), 5))
    return ColumnImportances(metric=metric, part="validation", columns=_COLUMNS, falls=falls)


def _mistakes(test: TestRows, shape: Sequence[int], generator: np.random.Generator) -> Mistakes:
    if test.targets.ndim == 1:
        wrong = 1 - test.probabilities[np.arange(len(test.targets)), test.targets]
    else:
        wrong = test.errors
    positions = np.argsort(-wrong, kind="stable")[:SHOWN]
    inputs = generator.normal(size=(len(positions), *shape)).astype(np.float32)
    return Mistakes(positions=positions, inputs=inputs)
