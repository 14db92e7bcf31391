"""What the Trainer's limits leave of a run, told before anything is created."""

from dataclasses import dataclass
from math import ceil

from pipeline.config.trainer_options import TrainerOptions
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How many rows each part of the data has."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What a run will do.

    Args:
        unvalidated: Why nothing is validated, in words; `None` = something is.
        tests: Whether any test row is read.
    """

    unvalidated: str | None
    tests: bool

    @property
    def validates(self) -> bool:
        """Whether there are validated weights to choose the best of."""
        return self.unvalidated is None


def extent(trainer: TrainerOptions, rows: Rows, *, batch_size: int) -> Extent:
    """Say what a run will do, or refuse limits under which it could not do what it says.

    Args:
        trainer: The Trainer's options.
        rows: The sizes of the parts.
        batch_size: Rows of a batch.

    Raises:
        ConfigError: Nothing would be trained, a share is less than a batch, or the weights that
            are validated would not be those that an epoch ends with. All problems at once.
    """
    overfit = "overfit_batches" if trainer.overfit_batches else None
    batches = {
        "train": _batches(trainer, overfit or "limit_train_batches", rows.train, batch_size),
        "val": _batches(trainer, overfit or "limit_val_batches", rows.validation, batch_size),
        "test": _batches(trainer, "limit_test_batches", rows.test, batch_size),
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
    return Extent(unvalidated=_unvalidated(trainer, rows, train, val), tests=test > 0)


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


def _unvalidated(trainer: TrainerOptions, rows: Rows, train: int, val: int) -> str | None:
    if not rows.validation:
        return "data.validation=0"
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
