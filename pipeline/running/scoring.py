"""Metrics of a run: those of its task, the user's own, and the options that depend on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline import metrics
from pipeline.config.options import LossOptions, MetricsOptions, RunConfig
from pipeline.config.values import TARGET, build
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Task
from pipeline.errors import ConfigError, did_you_mean, shown
from pipeline.metrics import CLASSIFICATION, REGRESSION, Direction, Scores

if TYPE_CHECKING:
    from torchmetrics import Metric

REHEARSED = 8
"""Made-up rows with which a user's own metric is tried before the training."""


def scores_of(options: MetricsOptions, schema: Schema, *, threshold: float) -> Scores:
    """Return all metrics of a run.

    Args:
        options: Metrics beside those of the task.
        schema: The meaning of outputs and targets.
        threshold: Probability above which a row of a binary task counts as positive. It is not
            passed to the user's own metrics: they get the probabilities.
    """
    ours = metrics.for_task(schema.task, classes=len(schema.classes), threshold=threshold)
    own = own_metrics(options)
    if not own:
        return ours

    def scores(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        more = {name: _value(metric, outputs, targets) for name, metric in own.items()}
        return {**ours(outputs, targets), **more}

    return scores


def own_metrics(options: MetricsOptions) -> dict[str, Metric]:
    """Build the user's own metrics, by name; their targets were checked before."""
    if not options.more:  # changed filters would let each trial repeat what libraries warn of once
        return {}
    with warnings.catch_warnings():
        # Some of torchmetrics' warn that they keep all rows, which lie in memory here anyway.
        warnings.simplefilter("ignore", UserWarning)
        own: dict[str, Metric] = {name: build(target) for name, target in options.more.items()}
    for metric in own.values():
        metric.sync_on_compute = False  # every rank has the rows of all ranks
    return own


def direction_of(key: str, options: MetricsOptions) -> Direction:
    """Say which way a metric, the user's own among them, becomes better.

    Raises:
        ConfigError: The user's own metric does not say.
    """
    name = key.rpartition("/")[2]
    if name not in options.more:
        return metrics.direction(key)
    rises = own_metrics(options)[name].higher_is_better
    if rises is None:
        raise ConfigError(
            f"{key} can't be followed: {options.more[name][TARGET]} does not say which way it is "
            "better; give the class higher_is_better = True, or False"
        )
    return "max" if rises else "min"


def require_working(options: MetricsOptions, schema: Schema) -> None:
    """Try the user's own metrics on a few made-up rows.

    Raises:
        ConfigError: One line for each that fails, or gives something else than one number.
    """
    problems = list(_problems(own_metrics(options), schema))
    if problems:
        raise ConfigError(*problems)


def _problems(own: Mapping[str, Metric], schema: Schema) -> Iterator[str]:
    outputs, targets = _made_up(schema)
    shapes = [
        "(rows,)" if rows.ndim == 1 else f"(rows, {rows.shape[1]})"
        for rows in _shaped(outputs, targets)
    ]
    kind = "values" if schema.task == "regression" else "probabilities"
    given = f"; it is given {kind} {shapes[0]} and targets {shapes[1]}"
    for name, metric in own.items():
        try:
            value = _value(metric, outputs, targets)
        except Exception as error:  # a user's own class may raise anything
            line = " ".join(str(error).split())
            yield f"metrics.more.{name} fails: {type(error).__name__}: {line[:200]}{given}"
            continue
        if value.numel() != 1:
            yield (
                f"metrics.more.{name} gives {shown(tuple(value.shape))} values; expected one "
                f"number{given}"
            )


def _made_up(schema: Schema) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of the form that the task's have."""
    generator = torch.Generator().manual_seed(0)
    rows = max(REHEARSED, 2 * schema.outputs)
    drawn = torch.randn(2, rows, schema.outputs, generator=generator)
    if schema.task == "regression":
        return schema.to_units(drawn[0], None), schema.to_units(drawn[1], None)
    targets = torch.arange(rows) % len(schema.classes)
    if schema.task == "binary":
        return drawn[0].squeeze(1).sigmoid(), targets
    return drawn[0].softmax(dim=1), targets


def _value(metric: Metric, outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute a metric of all rows at once."""
    metric.to(outputs.device)
    metric.set_dtype(outputs.dtype)
    metric.reset()
    metric.update(*_shaped(outputs, targets))
    value = torch.as_tensor(metric.compute())
    metric.reset()
    return value.detach().squeeze()


def _shaped(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give one value a row as (rows,), which is what torchmetrics' classes read everywhere."""
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        return outputs.squeeze(1), targets.squeeze(1)
    return outputs, targets


# ── options that depend on the task ─────────────────────────────────────────────────────────


def require_logged(options: RunConfig, task: Task) -> None:
    """Refuse to follow a metric that the task of the data does not have.

    Raises:
        ConfigError: One line for each such key.
    """
    names = REGRESSION if task == "regression" else CLASSIFICATION
    own = [f"val/{name}" for name in options.metrics.more]
    logged = ("val/loss", *(f"val/{name}" for name in names), "train/loss", *own)
    followed = list(_followed(options))
    problems = [
        f"{key}={shown(metric)} is not logged for a {task} task; expected one of "
        f"{', '.join(logged)}.{did_you_mean(metric, logged, by_leaf=True)}"
        for key, metric, _ in followed
        if metric not in logged
    ]
    problems += [
        problem
        for key, metric, mode in followed
        if metric in own
        for problem in _direction_problems(key, metric, mode, options)
    ]
    if problems:
        raise ConfigError(*problems)


def _followed(options: RunConfig) -> Iterator[tuple[str, str, object]]:
    """Yield each key that names a metric, the metric, and the mode in which it is followed."""
    if options.monitor is not None:
        yield "monitor", options.monitor, None
    sections: dict[str, Mapping[str, object]] = {"scheduler": options.scheduler or {}}
    sections |= {f"callbacks.{name}": target for name, target in options.callbacks.items()}
    for key, section in sections.items():
        metric = section.get("monitor")
        if isinstance(metric, str):
            yield f"{key}.monitor", metric, section.get("mode")


def _direction_problems(key: str, metric: str, mode: object, options: RunConfig) -> Iterator[str]:
    try:
        better = direction_of(metric, options.metrics)
    except ConfigError as error:
        yield from (f"{key}={problem}" for problem in error.problems)
        return
    if mode in ("min", "max") and mode != better:
        mode_key = key.removesuffix("monitor") + "mode"
        yield f"{mode_key}={mode} looks for the worst {metric}; expected {better}."


def require_decidable(options: MetricsOptions, prepared: Prepared) -> None:
    """Refuse a rule that finds no threshold in this data.

    Raises:
        ConfigError: There are not two classes, no validation rows, or none of the positive class.
    """
    if options.rule is None:
        return
    rule, task = f"metrics.threshold={options.rule}", prepared.schema.task
    if task != "binary":
        raise ConfigError(
            f"{rule} draws a line between two classes, and this is a {task} task; leave it away"
        )
    if prepared.validation is None:
        raise ConfigError(
            f"{rule} is found on validation rows, and there are none; give data.validation=0.2, "
            "or a number such as metrics.threshold=0.5"
        )
    if not bool((prepared.validation.targets == 1).any()):
        raise ConfigError(
            f"{rule} is found on validation rows, and none of the {len(prepared.validation)} is "
            f"of the positive class {prepared.schema.positive!r}; give a larger data.validation"
        )


def require_fitting_loss(loss: LossOptions, schema: Schema) -> None:
    """Refuse options that the loss of this task does not have.

    Raises:
        ConfigError: One line for each.
    """
    problems = []
    if schema.task == "regression":
        if loss.class_weights is not None:
            problems.append("loss.class_weights has no meaning for a regression; expected null.")
        if loss.label_smoothing:
            problems.append("loss.label_smoothing has no meaning for a regression; expected 0.0.")
    elif isinstance(loss.class_weights, list) and len(loss.class_weights) != len(schema.classes):
        problems.append(
            f"loss.class_weights={loss.class_weights} are {len(loss.class_weights)} weights for "
            f"{len(schema.classes)} classes; expected one each of {', '.join(schema.classes)}."
        )
    if problems:
        raise ConfigError(*problems)
