"""Options checked against the data, before anything is created."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from pipeline.config.options import LossOptions, MetricsOptions, RunConfig, TrainerOptions
from pipeline.config.targets import TARGET
from pipeline.config.values import shown
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Task
from pipeline.errors import ConfigError, did_you_mean
from pipeline.metrics import CLASSIFICATION, REGRESSION
from pipeline.running.scoring import direction_of


def check_limits(options: RunConfig, prepared: Prepared) -> tuple[str | None, bool]:
    """Refuse limits of the Trainer under which a run could not do what it says.

    Args:
        options: The configuration.
        prepared: The data in its parts.

    Returns:
        Why nothing is validated, in words, `None` = something is; and whether any test row is read.

    Raises:
        ConfigError: Nothing would be trained, a share is less than a batch, or the weights that
            are validated would not be those that an epoch ends with. All problems at once.
    """
    trainer, batch_size = options.trainer, options.data["batch_size"]
    validation = 0 if prepared.validation is None else len(prepared.validation)
    overfit = "overfit_batches" if trainer.overfit_batches else None
    batches = {
        "train": _batches(
            trainer, overfit or "limit_train_batches", len(prepared.train), batch_size
        ),
        "val": _batches(trainer, overfit or "limit_val_batches", validation, batch_size),
        "test": _batches(trainer, "limit_test_batches", len(prepared.test), batch_size),
    }
    problems = [problem for _, problem in batches.values() if problem]
    if overfit:  # one key limits two parts
        problems = problems[:1]
    train, val, test = (count for count, _ in batches.values())
    problems += _nothing_to_train(trainer, train)
    if not problems and val:
        problems += _between_epochs(trainer, train)
    if problems:
        raise ConfigError(*problems)
    if not validation:
        return "data.validation=0", test > 0
    return _unvalidated(trainer, train, val), test > 0


def _batches(
    trainer: TrainerOptions, key: str, rows: int, batch_size: int
) -> tuple[int, str | None]:
    """Return how many batches a limit leaves, and a line where a share leaves none."""
    whole = ceil(rows / batch_size)
    limit: int | float | None = getattr(trainer, key)
    if trainer.fast_dev_run and key != "overfit_batches":
        limit = int(trainer.fast_dev_run)
    if limit is None or not rows:
        return whole, None
    if isinstance(limit, int):
        return min(whole, limit), None
    left = int(whole * limit)
    if limit and not left:
        return 0, (
            f"trainer.{key}={limit} of {whole} batches is less than one; expected a share of at "
            f"least {ceil(1000 / whole) / 1000}, or a whole number of batches."
        )
    return left, None


def _nothing_to_train(trainer: TrainerOptions, batches: int) -> list[str]:
    lines = []
    if batches == 0 and trainer.limit_train_batches == 0 and not trainer.overfit_batches:
        lines.append("trainer.limit_train_batches=0 leaves nothing to train; expected 1 or more.")
    if trainer.max_steps == 0:
        lines.append("trainer.max_steps=0 leaves nothing to train; expected 1 or more, or -1.")
    if trainer.max_time is not None and not trainer.max_time.strip("0:"):
        lines.append(
            f"trainer.max_time={trainer.max_time} leaves no time to train; expected "
            "days:hours:minutes:seconds, or null."
        )
    return lines


def _interval(trainer: TrainerOptions, batches: int) -> int:
    """Return the batches from one validation to the next."""
    interval = None if trainer.fast_dev_run else trainer.val_check_interval
    if isinstance(interval, int):
        return interval
    return batches if interval is None else max(1, int(batches * interval))


def _between_epochs(trainer: TrainerOptions, batches: int) -> list[str]:
    """Refuse validations in the middle of an epoch alone: its end has weights of another value."""
    interval = _interval(trainer, batches)
    several_epochs = trainer.check_val_every_n_epoch is None and interval % batches == 0
    if batches % interval == 0 or several_epochs:
        return []
    return [
        f"trainer.val_check_interval={trainer.val_check_interval} validates every {interval} "
        f"batches and so not at the end of an epoch of {batches}, whose weights are kept; expected "
        f"a divisor of {batches}, or null."
    ]


def _unvalidated(trainer: TrainerOptions, train: int, val: int) -> str | None:
    if not val:
        return "trainer.limit_val_batches=0"
    first = _interval(trainer, train)
    if not trainer.fast_dev_run:
        first += ((trainer.check_val_every_n_epoch or 1) - 1) * train
    if first > _trained_batches(trainer, train):
        return "training ends before its first validation"
    return None


def _trained_batches(trainer: TrainerOptions, batches: int) -> int:
    if trainer.fast_dev_run:
        return batches
    most = trainer.max_epochs * batches
    if trainer.max_steps < 0:
        return most
    steps = ceil(batches / trainer.accumulate_grad_batches)
    epochs, rest = divmod(trainer.max_steps, steps)
    return min(most, epochs * batches + rest * trainer.accumulate_grad_batches)


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


def without_validation(options: RunConfig, reason: str) -> tuple[RunConfig, str]:
    """Keep the last weights and drop what would wait for a validation.

    Args:
        options: The configuration.
        reason: Why nothing is validated.

    Returns:
        The configuration that can be run, and one line that says what has changed.
    """
    stopping = [name for name, target in options.callbacks.items() if _waits(target)]
    words = ["the last weights are kept"]
    if stopping:
        words.append("early stopping is off")
    if str((options.scheduler or {}).get("monitor")).startswith("val/"):
        words.append("the learning rate stays as it is")
    callbacks = {name: t for name, t in options.callbacks.items() if name not in stopping}
    update = {"keep": "last", "callbacks": callbacks}
    return options.model_copy(update=update), f"nothing is validated ({reason}): {_joined(words)}"


def _waits(target: Mapping[str, object]) -> bool:
    follows_validation = str(target.get("monitor")).startswith("val/")
    return str(target.get(TARGET)).endswith(".EarlyStopping") and follows_validation


def _joined(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


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
