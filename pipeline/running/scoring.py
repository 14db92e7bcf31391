"""Metrics of a run: those of its task, the user's own, and the options that depend on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from pipeline import metrics
from pipeline.config.options import LossOptions, MetricsOptions, RunConfig
from pipeline.config.values import TARGET, build
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Task
from pipeline.errors import ConfigError, did_you_mean, shown
from pipeline.metrics import CLASSIFICATION, REGRESSION, Direction, Scores

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


def _failing(options: MetricsOptions, schema: Schema) -> Iterator[str]:
    """Try the user's own metrics on a few made-up rows, and tell which fail or give no number."""
    outputs, targets = _made_up(schema)
    shapes = [
        "(rows,)" if rows.ndim == 1 else f"(rows, {rows.shape[1]})"
        for rows in _shaped(outputs, targets)
    ]
    kind = "values" if schema.task == "regression" else "probabilities"
    given = f"; it is given {kind} {shapes[0]} and targets {shapes[1]}"
    for name, metric in own_metrics(options).items():
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


def require_possible(options: RunConfig, prepared: Prepared) -> None:
    """Refuse options of metrics and losses that the data can't be trained with.

    Raises:
        ConfigError: One line for each problem of one kind: a metric is followed that the task does
            not have, one of the user's own fails, no threshold can be found, or the loss of the
            task has no such option.
    """
    for problems in (
        _not_logged(options, prepared.schema.task),
        _failing(options.metrics, prepared.schema),
        _undecidable(options.metrics, prepared),
        _unfit_loss(options.loss, prepared.schema),
    ):
        if found := list(problems):
            raise ConfigError(*found)


def _not_logged(options: RunConfig, task: Task) -> Iterator[str]:
    names = REGRESSION if task == "regression" else CLASSIFICATION
    own = [f"val/{name}" for name in options.metrics.more]
    logged = ("val/loss", *(f"val/{name}" for name in names), "train/loss", *own)
    followed = list(_followed(options))
    for key, metric, _ in followed:
        if metric not in logged:
            yield (
                f"{key}={shown(metric)} is not logged for a {task} task; expected one of "
                f"{', '.join(logged)}.{did_you_mean(metric, logged, by_leaf=True)}"
            )
    for key, metric, mode in followed:
        if metric in own:
            yield from _direction_problems(key, metric, mode, options)


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


def _undecidable(options: MetricsOptions, prepared: Prepared) -> Iterator[str]:
    """Tell why a rule finds no threshold in this data."""
    rule, task = f"metrics.threshold={options.rule}", prepared.schema.task
    if options.rule is None:
        return
    if task != "binary":
        yield f"{rule} draws a line between two classes, and this is a {task} task; leave it away"
    elif prepared.validation is None:
        yield (
            f"{rule} is found on validation rows, and there are none; give data.validation=0.2, "
            "or a number such as metrics.threshold=0.5"
        )
    elif not bool((prepared.validation.targets == 1).any()):
        yield (
            f"{rule} is found on validation rows, and none of the {len(prepared.validation)} is "
            f"of the positive class {prepared.schema.positive!r}; give a larger data.validation"
        )


def _unfit_loss(loss: LossOptions, schema: Schema) -> Iterator[str]:
    """Tell which options the loss of this task does not have."""
    if schema.task == "regression":
        if loss.class_weights is not None:
            yield "loss.class_weights has no meaning for a regression; expected null."
        if loss.label_smoothing:
            yield "loss.label_smoothing has no meaning for a regression; expected 0.0."
    elif isinstance(loss.class_weights, list) and len(loss.class_weights) != len(schema.classes):
        yield (
            f"loss.class_weights={loss.class_weights} are {len(loss.class_weights)} weights for "
            f"{len(schema.classes)} classes; expected one each of {', '.join(schema.classes)}."
        )
