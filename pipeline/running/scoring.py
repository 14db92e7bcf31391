"""What the outputs of a run are scored by: the metrics of its task, and those of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline import metrics
from pipeline.config.options import MetricsOptions
from pipeline.config.targets import TARGET, build
from pipeline.config.values import shown
from pipeline.data.schema import Schema
from pipeline.errors import ConfigError
from pipeline.metrics import Direction, Scores

if TYPE_CHECKING:
    from torchmetrics import Metric

REHEARSED = 8
"""Rows that a metric of one's own is tried with before any time is spent."""


def scores_of(options: MetricsOptions, schema: Schema, *, threshold: float) -> Scores:
    """Return all metrics of a run.

    Args:
        options: Which metrics it has beside those of its task.
        schema: The meaning of outputs and targets.
        threshold: Probability above which a row of a binary task counts as positive. It is not
            handed to metrics of one's own: they get the probabilities.
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
    """Build the metrics of one's own, by name; their targets were judged before."""
    if not options.more:  # changed filters would let each trial repeat what libraries warn of once
        return {}
    with warnings.catch_warnings():
        # Some of torchmetrics' warn that they keep all rows, which lie in memory here anyway.
        warnings.simplefilter("ignore", UserWarning)
        return {name: _complete(build(target)) for name, target in options.more.items()}


def _complete(metric: Metric) -> Metric:
    """Let a metric take the rows that it is given for all there are, whoever trains beside it."""
    metric.sync_on_compute = False
    return metric


def direction_of(key: str, options: MetricsOptions) -> Direction:
    """Say which way a metric, one's own among them, becomes better.

    Raises:
        ConfigError: It is one's own and does not say.
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
    """Try the metrics of one's own on a few made-up rows.

    Raises:
        ConfigError: One line for each that fails, or gives something else than one number.
    """
    problems = list(_problems(own_metrics(options), schema))
    if problems:
        raise ConfigError(*problems)


def _problems(own: Mapping[str, Metric], schema: Schema) -> Iterator[str]:
    outputs, targets = _made_up(schema)
    for name, metric in own.items():
        given = "; it is given {} {} and targets {}".format(
            "values" if schema.task == "regression" else "probabilities",
            *(_words(one) for one in _shaped(outputs, targets)),
        )
        try:
            value = _value(metric, outputs, targets)
        except Exception as error:  # whatever a user's own class raises is theirs to read
            line = " ".join(str(error).split())
            yield f"metrics.more.{name} fails: {type(error).__name__}: {line[:200]}{given}"
            continue
        if value.numel() != 1:
            yield (
                f"metrics.more.{name} gives {shown(tuple(value.shape))} values; expected one "
                f"number{given}"
            )


def _words(rows: Tensor) -> str:
    return "(rows,)" if rows.ndim == 1 else f"(rows, {rows.shape[1]})"


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
