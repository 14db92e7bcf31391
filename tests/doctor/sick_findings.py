"""Findings that show one fault each, made from those of a healthy run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from helpers.sample_findings import (
    Task,
    config_of,
    made_findings,
    scored_rows,
    vitals_of,
    with_test,
)

from pipeline.base.ends import End
from pipeline.base.findings import Activity, Clipping, ColumnImportances, Findings

Curve = Sequence[float] | np.ndarray
SGD = ("optimizer=sgd", "optimizer.lr=0.1")


def with_history(findings: Findings, **changes: Curve) -> Findings:
    """Findings with other values in each epoch; a key of `a__b` is `a/b`."""
    changed = {}
    for place, (epoch, values) in enumerate(findings.history.items()):
        new = {key.replace("__", "/"): curve[place] for key, curve in changes.items()}
        changed[epoch] = {**values, **new}
    return replace(findings, history=changed)


def with_vitals(findings: Findings, **changes: Any) -> Findings:
    return replace(findings, vitals=replace(vitals_of(findings), **changes))


def with_steps(findings: Findings, factor: float) -> Findings:
    """Findings whose steps are so many times as long."""
    return with_vitals(findings, updates=factor * vitals_of(findings).updates)


def poorly(findings: Findings) -> Findings:
    """Findings whose training rows are answered hardly better than without looking."""
    bad = {"accuracy": 0.36, "recall": 0.36, "r2": 0.02}
    return replace(findings, training={**findings.training, **bad})


def with_tiny_vitals(findings: Findings, *factors: float) -> Findings:
    """Findings whose layers have gradients and updates so much smaller."""
    whole, keys = vitals_of(findings), ("first", "gradients", "updates")
    return with_vitals(findings, **{key: getattr(whole, key) * factors for key in keys})


def vanishing() -> Findings:
    sigmoid = ("data=mnist1d", "model=mlp", "model.norm=none", "model.activation=sigmoid")
    made = poorly(made_findings(config=config_of(*sigmoid, *SGD)))
    return with_tiny_vitals(made, 1e-6, 1e-3, 1.0)


def activity(kind: str = "ReLU", dead: float = 0.0, saturated: float = 0.0) -> tuple[Activity, ...]:
    first = Activity(
        layer="layers.layer1.activation",
        kind=kind,
        units=64,
        dead=0.0,
        saturated=0.0,
        mean=0.1,
        deviation=0.5,
    )
    layer = "layers.layer2.activation"
    return first, replace(first, layer=layer, dead=dead, saturated=saturated)


def exploding() -> Findings:
    made = made_findings(
        end=End.DIVERGED,
        epochs=1,
        config=config_of("model=mlp", "model.norm=none", "trainer.gradient_clip_val=null", *SGD),
        clipping=Clipping(threshold=None, algorithm="norm", chosen=True),
        test=None,
        training={},
        activity=(),
        metrics={},
        intervals={},
        history={},
    )
    big = np.array([[900.0, 1200.0, 2000.0]])
    return with_vitals(made, gradients=big * 1e6, first=big[0], updates=big[:1] / 100)


def clipped(threshold: float, **curves: float) -> Findings:
    """Findings of a threshold that was chosen, with values that are the same in each epoch."""
    made = made_findings(clipping=Clipping(threshold=threshold, algorithm="norm", chosen=True))
    config = config_of("model=mlp", "data=wine", f"trainer.gradient_clip_val={threshold}")
    steady = {key: [value] * 12 for key, value in curves.items()}
    return replace(with_history(made, **steady), config=config)


def never() -> Findings:
    return clipped(500.0, grad__clipped=0.0)


def moved(factor: float) -> Findings:
    """Findings of steps that are so many times as long, and of nothing learned."""
    first = 9.0 if factor > 1 else 1.0
    made = with_history(poorly(made_findings()), train__loss=[first, *[1.1] * 11])
    return with_steps(made, factor)


def overfitted() -> Findings:
    made = made_findings()
    return replace(
        made, training={"accuracy": 1.0}, metrics={**made.metrics, "best/val/accuracy": 0.7}
    )


def stopped() -> Findings:
    return with_history(made_findings(), val__loss=np.linspace(1.0, 0.3, 12))


def few_steps() -> Findings:
    loss = [*np.linspace(1.0, 0.3, 9), 0.29, 0.28, 0.27]
    return with_history(made_findings(steps=3), val__loss=loss)


def collapsed() -> Findings:
    made = made_findings(shares=(0.47, 0.47, 0.06))
    return with_test(made, outputs=scored_rows(made).outputs * np.array([1, 1, 0], np.float32))


def no_better(baseline: str, task: Task = "multiclass") -> Findings:
    """Findings whose network answers as the naive baseline, or worse than a line."""
    made = made_findings(task=task, rows=2400)
    test = scored_rows(made)
    metrics = dict(made.metrics)
    if baseline == "naive":
        dealt_out = np.random.default_rng(0).permutation(len(test.outputs))
        random = test.baselines["naive"] if task == "regression" else test.outputs[dealt_out]
        intervals = {key: ends for key, ends in made.intervals.items() if key != "auroc"}
        metrics |= {} if task == "regression" else {"test/auroc": 0.5}
        return replace(with_test(made, outputs=random), metrics=metrics, intervals=intervals)
    for key in {"test/accuracy", "test/rmse"} & metrics.keys():
        line = key.replace("test", "linear")
        metrics[key], metrics[line] = metrics[line], metrics[key]
    swapped = with_test(made, outputs=test.baselines["linear"], linear=test.outputs)
    return replace(swapped, metrics=metrics)


def leaked() -> Findings:
    falls = np.array([[0.5, 0.5], [0.01, 0.0], [0.0, 0.01], [0.0, 0.0]])
    columns = ("id", "age", "weight", "size")
    importances = ColumnImportances(metric="f1", part="validation", columns=columns, falls=falls)
    made = made_findings(importances=importances)
    return replace(made, metrics={**made.metrics, "test/accuracy": 1.0})


SICK: Mapping[str, Callable[[], Findings]] = {
    "vanishing_gradient": vanishing,
    "exploding_gradient": exploding,
    "clipping_always": lambda: clipped(0.001, grad__clipped=1.0, grad__norm_clipped=0.001),
    "clipping_never": never,
    "dead_relu": lambda: made_findings(activity=activity(dead=0.9)),
    "saturated": lambda: made_findings(activity=activity("Tanh", saturated=0.8)),
    "lr_too_high": lambda: moved(100),
    "lr_too_low": lambda: moved(1e-3),
    "overfitting": overfitted,
    "underfitting": lambda: poorly(made_findings()),
    "too_few_steps": few_steps,
    "stopped_early": stopped,
    "class_collapse": collapsed,
    "no_better_than_naive": lambda: no_better("naive"),
    "no_better_than_linear": lambda: no_better("linear"),
    "leakage": leaked,
    "one_value_in_validation": lambda: made_findings(validated="class 'ash'"),
    "overlap": lambda: made_findings(repeated=30),
    "noisy_metrics": lambda: made_findings(rows=9),  # all of them right
}
