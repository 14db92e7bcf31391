"""The metrics of a run, and the options that depend on the data."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import ceil, inf
from typing import TYPE_CHECKING

import numpy as np

from pipeline import metrics
from pipeline.base.errors import ConfigError, did_you_mean, shown
from pipeline.base.markup import MISSING, NO_INTERVAL
from pipeline.config.check import followed
from pipeline.config.options import MetricsOptions, RunConfig, TrainerOptions
from pipeline.config.targets import TARGET, build
from pipeline.data.preparation.schema import Schema
from pipeline.metrics import TASKS, Direction, Metric, main_names, of_task
from pipeline.metrics._rows import ScoredRows, Values
from pipeline.scoring.scores import Scores, for_task

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric as OwnMetric

    from pipeline.data.preparation.prepare import Prepared

#: Number of made-up rows on which a user's own metric is tried before the training.
REHEARSED = 8


def scores_of(options: RunConfig, schema: Schema, *, threshold: float) -> Scores:
    """Return the function that computes all metrics of a run.

    Args:
        options: The run, with the metrics that it follows and the user's own.
        schema: The meaning of outputs and targets.
        threshold: Probability above which a row of a binary task counts as positive; the user's own
            metrics get the probabilities.
    """
    return for_task(
        schema.task,
        classes=len(schema.classes),
        threshold=threshold,
        more=more_metrics(options, schema.task),
    )


def more_metrics(options: RunConfig, task: str) -> list[Metric]:
    """Return the metrics of a run besides the main ones: those that it follows, the user's own."""
    followed_names = {key.rpartition("/")[2] for _, key, _ in followed(dict(options))}
    extra_metrics = []
    for metric in of_task(task).values():
        if metric.name in followed_names and not metric.is_main:
            extra_metrics.append(metric)
    for name, own_metric in own_metrics(options.metrics).items():
        extra_metrics.append(_record(name, own_metric))
    return extra_metrics


def _record(name: str, metric: OwnMetric) -> Metric:
    """Return the record of a user's own metric, whose bounds are unknown."""
    return Metric(
        name=name,
        label=name,
        tasks=TASKS,
        better="max" if metric.higher_is_better else "min",
        bounds=(-inf, inf),
        score=partial(_score, metric),
        glossary=f"a metric of your own, {type(metric).__name__}",
        chinese=f"自定义指标 {type(metric).__name__}",
        scores_draws=False,
    )


def _score(metric: OwnMetric, rows: ScoredRows) -> Values:
    assert rows.tensors is not None
    return np.array([float(_value(metric, *rows.tensors))])


def own_metrics(options: MetricsOptions) -> dict[str, OwnMetric]:
    """Build the user's own metrics, by name; their classes were checked before."""
    if not options.more:  # changing filters would make each trial repeat one-time warnings
        return {}
    with warnings.catch_warnings():
        # Some torchmetrics classes warn that they keep all rows, which are in memory anyway.
        warnings.simplefilter("ignore", UserWarning)
        built: dict[str, OwnMetric] = {name: build(target) for name, target in options.more.items()}
    for metric in built.values():
        metric.sync_on_compute = False  # every rank has the rows of all ranks
    return built


def direction_of(key: str, options: MetricsOptions) -> Direction:
    """Return whether a larger or a smaller value of a metric is better, own metrics included.

    Raises:
        ConfigError: The class of the user's own metric does not define `higher_is_better`.
    """
    name = key.rpartition("/")[2]
    if name not in options.more:
        return metrics.direction(key)
    rises = own_metrics(options)[name].higher_is_better
    if rises is None:
        raise ConfigError(
            f"{key} can't be monitored: {options.more[name][TARGET]} does not define which values "
            "are better; add higher_is_better = True or False to the class"
        )
    return "max" if rises else "min"


def tested_names(task: str, values: Mapping[str, float]) -> list[str]:
    """Return the metrics of the task that were measured on test rows, then the user's own."""
    measured = [key.removeprefix("test/") for key in values if key.startswith("test/")]
    names = [name for name in of_task(task) if name in measured]
    for name in measured:
        if name not in names and name != "loss":
            names.append(name)
    return names


def metric_names(task: str, values: Mapping[str, float]) -> list[str]:
    """Return all metrics of the task, then the user's own."""
    return list(dict.fromkeys([*main_names(task), *tested_names(task, values)]))


def no_interval_notes(task: str, names: Sequence[str], *, own_reason: str) -> list[str]:
    """Return lines that say why the metrics of these names have no interval.

    `own_reason` is the reason for the user's own metrics.
    """
    user_names = [name for name in names if name not in of_task(task)]
    notes = [NO_INTERVAL] if len(user_names) < len(names) else []
    if user_names:
        notes.append(f"{MISSING}: no interval of {', '.join(user_names)}: {own_reason}")
    return notes


def _value(metric: OwnMetric, outputs: Tensor, targets: Tensor) -> Tensor:
    """Compute a metric over all rows at once."""
    metric.to(outputs.device)
    metric.set_dtype(outputs.dtype)
    metric.reset()
    metric.update(*_as_single_values(outputs, targets))
    import torch

    value = torch.as_tensor(metric.compute())
    metric.reset()
    return value.detach().squeeze()


def _as_single_values(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return single values per row as (rows,), the shape that all torchmetrics classes accept."""
    if outputs.ndim == 2 and outputs.shape[1] == 1:
        return outputs.squeeze(1), targets.squeeze(1)
    return outputs, targets


# ── options that depend on the task ─────────────────────────────────────────────────────────


def require_possible(options: RunConfig, prepared: Prepared) -> None:
    """Refuse options of metrics and losses that do not suit the data.

    Raises:
        ConfigError: Some options do not suit the data; one line for each problem of one kind.
    """
    for check in (_monitor_problems, _own_metric_problems, _rule_problems, _loss_problems):
        problems = list(check(options, prepared))
        if problems:
            raise ConfigError(*problems)


def _monitor_problems(options: RunConfig, prepared: Prepared) -> Iterator[str]:
    """Yield the monitors that are not logged, or whose mode selects the worst value."""
    task = prepared.schema.task
    user_keys = [f"val/{name}" for name in options.metrics.more]
    task_keys = [f"val/{metric.name}" for metric in of_task(task).values() if metric.may_monitor]
    logged = ("val/loss", *task_keys, "train/loss", *user_keys)
    followed_by = list(followed(dict(options)))
    for key, metric, _ in followed_by:
        if metric not in logged:
            yield (
                f"{key}monitor={shown(metric)} is not logged for a {task} task; expected one of "
                f"{', '.join(logged)}.{did_you_mean(metric, logged, by_leaf=True)}"
            )
    for key, metric, mode in followed_by:
        try:
            better = direction_of(metric, options.metrics) if metric in user_keys else mode
        except ConfigError as error:
            for problem in error.problems:
                yield f"{key}monitor={problem}"
            continue
        if mode in ("min", "max") and mode != better:
            yield f"{key}mode={mode} selects the worst {metric}; expected {better}."


def _own_metric_problems(options: RunConfig, prepared: Prepared) -> Iterator[str]:
    """Try the user's own metrics on made-up rows; yield the ones that fail or give no number."""
    schema = prepared.schema
    outputs, targets = _random_rows(schema)
    shapes = []
    for rows in _as_single_values(outputs, targets):
        shapes.append("(rows,)" if rows.ndim == 1 else f"(rows, {rows.shape[1]})")
    kind = "values" if schema.task == "regression" else "probabilities"
    inputs_words = f"; its inputs are {kind} {shapes[0]} and targets {shapes[1]}"
    for name, metric in own_metrics(options.metrics).items():
        try:
            value = _value(metric, outputs, targets)
        except Exception as error:  # a user's own class may raise anything
            line = " ".join(str(error).split())
            yield f"metrics.more.{name} fails: {type(error).__name__}: {line[:200]}{inputs_words}"
            continue
        if value.numel() != 1:
            yield (
                f"metrics.more.{name} returns shape {shown(tuple(value.shape))}; expected a "
                f"scalar{inputs_words}"
            )


def _random_rows(schema: Schema) -> tuple[Tensor, Tensor]:
    """Return random outputs and targets in the form that the task has."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = max(REHEARSED, 2 * schema.outputs)
    outputs, targets = torch.randn(2, rows, schema.outputs, generator=generator)
    if schema.task == "regression":
        return schema.to_units(outputs, None), schema.to_units(targets, None)
    is_binary = schema.task == "binary"
    probabilities = outputs.squeeze(1).sigmoid() if is_binary else outputs.softmax(dim=1)
    return probabilities, torch.arange(rows) % len(schema.classes)


def _rule_problems(options: RunConfig, prepared: Prepared) -> Iterator[str]:
    """Yield why the threshold's rule can't be applied to these data."""
    rule = options.metrics.rule
    schema = prepared.schema
    validation = prepared.validation
    beginning = f"metrics.threshold={rule} is found on validation rows, but"
    if rule is None:
        return
    if schema.task != "binary":
        yield (
            f"metrics.threshold={rule} is for binary tasks, but this is a {schema.task} "
            f"task; remove it"
        )
    elif validation is None:
        yield (
            f"{beginning} there are none; set data.validation=0.2, or a number such as "
            "metrics.threshold=0.5"
        )
    elif not bool((validation.targets == 1).any()):
        yield (
            f"{beginning} none of the {len(validation)} has the positive class "
            f"{schema.positive!r}; set a larger data.validation"
        )


def _loss_problems(options: RunConfig, prepared: Prepared) -> Iterator[str]:
    """Yield the options that the loss of this task does not have."""
    loss = options.loss
    classes = prepared.schema.classes
    if prepared.schema.task == "regression":
        if loss.class_weights is not None:
            yield "loss.class_weights does not apply to regression; expected null."
        if loss.label_smoothing:
            yield "loss.label_smoothing does not apply to regression; expected 0.0."
    elif isinstance(loss.class_weights, list) and len(loss.class_weights) != len(classes):
        yield (
            f"loss.class_weights={loss.class_weights} has {len(loss.class_weights)} weights for "
            f"{len(classes)} classes; expected one each for {', '.join(classes)}."
        )


# ── limits of the Trainer ───────────────────────────────────────────────────────────────────


def apply_limits(options: RunConfig, prepared: Prepared) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the options without those that the Trainer's limits make impossible, and notes.

    Raises:
        ConfigError: Nothing would be trained, a share is less than a batch, or validations happen
            only within an epoch. The error lists all problems.
    """
    trainer = options.trainer
    problems: list[str] = []
    notes: list[str] = []
    validation = 0 if prepared.validation is None else len(prepared.validation)
    rows = {"train": len(prepared.train), "val": validation, "test": len(prepared.test)}
    batches = {}
    for part, count in rows.items():
        all_batches = ceil(count / options.data["batch_size"])
        key = _limit_key(trainer, part)
        batches[part] = _limit(trainer, key, all_batches)
        problems += _share_problems(trainer, key, all_batches)
    if trainer.overfit_batches:
        problems = problems[:1]  # this key limits two parts
    problems += _training_problems(trainer, batches["train"])
    if not problems and batches["val"]:
        problems += _interval_problems(trainer, batches["train"])
    if problems:
        raise ConfigError(*problems)
    trained = trained_rows(options, len(prepared.train))
    if trained < len(prepared.train):
        notes.append(
            f"each epoch trains on the first {trained:,} of {len(prepared.train):,} training rows "
            f"(trainer.{_limit_key(trainer, 'train')}), so the doctor judges only these"
        )
    reason = _reason_without_validation(trainer, batches) if validation else "data.validation=0"
    if reason is not None:
        options, note = _without_validation(options, reason)
        notes.append(note)
    if options.test and not batches["test"]:
        options = options.model_copy(update={"test": False})
        notes.append("trainer.limit_test_batches=0: nothing is tested, as with test=false")
    if trainer.profiler is not None:
        notes.append("the profiler's tables are in run.log in the run's folder")
    return options, tuple(notes)


def trained_rows(options: RunConfig, rows: int) -> int:
    """Return on how many of the training rows a run trains; they are the first ones.

    A limit of batches leaves rows out for good where every epoch has the same batches.
    """
    trainer = options.trainer
    size = options.data["batch_size"]
    if options.data["shuffle"] and not trainer.overfit_batches:
        return rows
    batches = _limit(trainer, _limit_key(trainer, "train"), ceil(rows / size))
    return min(rows, int(batches * size))


def _limit_key(trainer: TrainerOptions, part: str) -> str:
    """Return the option that limits the batches of a part."""
    if trainer.overfit_batches and part != "test":
        return "overfit_batches"
    return "fast_dev_run" if trainer.fast_dev_run else f"limit_{part}_batches"


def _limit(trainer: TrainerOptions, key: str, batches: int) -> int:
    """Return how many batches remain with the limit of an option, a number or a share."""
    limit: int | float | None = getattr(trainer, key)
    if isinstance(limit, bool):  # fast_dev_run=true
        limit = 1
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _share_problems(trainer: TrainerOptions, key: str, batches: int) -> Iterator[str]:
    """Yield a problem if a share of the batches is less than one batch."""
    share = getattr(trainer, key)
    if batches and share and isinstance(share, float) and not _limit(trainer, key, batches):
        yield (
            f"trainer.{key}={share} of {batches} batches is less than one; expected a share of at "
            f"least {ceil(1000 / batches) / 1000}, or a whole number of batches."
        )


def _training_problems(trainer: TrainerOptions, batches: int) -> Iterator[str]:
    if batches == 0 and trainer.limit_train_batches == 0 and not trainer.overfit_batches:
        yield "trainer.limit_train_batches=0 disables training; expected 1 or more."
    if trainer.max_steps == 0:
        yield "trainer.max_steps=0 disables training; expected 1 or more, or -1."
    if trainer.max_time is not None and not trainer.max_time.strip("0:"):
        yield (
            f"trainer.max_time={trainer.max_time} disables training; expected "
            "days:hours:minutes:seconds, or null."
        )


def _interval(trainer: TrainerOptions, batches: int) -> int:
    """Return the number of batches from one validation to the next."""
    interval = None if trainer.fast_dev_run else trainer.val_check_interval
    if isinstance(interval, int):
        return interval
    return batches if interval is None else max(1, int(batches * interval))


def _interval_problems(trainer: TrainerOptions, batches: int) -> Iterator[str]:
    """Refuse validations only within an epoch: the weights at its end are never validated."""
    interval = _interval(trainer, batches)
    if batches % interval and (trainer.check_val_every_n_epoch is not None or interval % batches):
        yield (
            f"trainer.val_check_interval={trainer.val_check_interval} validates every {interval} "
            f"batches, not at the end of an epoch of {batches}; "
            f"expected a divisor of {batches}, or null."
        )


def _reason_without_validation(trainer: TrainerOptions, batches: Mapping[str, int]) -> str | None:
    """Return why there is no validation; `None` if there is one."""
    train = batches["train"]
    if not batches["val"]:
        return "trainer.limit_val_batches=0"
    first = _interval(trainer, train)
    trained = train
    if not trainer.fast_dev_run:
        first += ((trainer.check_val_every_n_epoch or 1) - 1) * train
        trained = trainer.max_epochs * train
        if trainer.max_steps >= 0:
            steps = ceil(train / trainer.accumulate_grad_batches)
            epochs, last_steps = divmod(trainer.max_steps, steps)
            last_batches = last_steps * trainer.accumulate_grad_batches
            trained = min(trained, epochs * train + last_batches)
    return "training ends before its first validation" if first > trained else None


def _without_validation(options: RunConfig, reason: str) -> tuple[RunConfig, str]:
    """Keep the last weights, drop options that need a validation, and return a note about it."""
    callbacks = {}
    for name, target in options.callbacks.items():
        is_early_stopping = str(target.get(TARGET)).endswith(".EarlyStopping")
        if not is_early_stopping or not _monitors_validation(target):
            callbacks[name] = target
    consequences = ["the last weights are kept"]
    if len(callbacks) < len(options.callbacks):
        consequences.append("early stopping is off")
    if _monitors_validation(options.scheduler or {}):
        consequences.append("the learning rate stays as it is")
    words = consequences[-1]
    if len(consequences) > 1:
        words = f"{', '.join(consequences[:-1])} and {words}"
    options = options.model_copy(update={"keep": "last", "callbacks": callbacks})
    return options, f"no validation ({reason}): {words}"


def _monitors_validation(target: Mapping[str, object]) -> bool:
    return str(target.get("monitor")).startswith("val/")
