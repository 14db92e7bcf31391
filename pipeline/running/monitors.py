"""Metrics that something follows: whether the task logs them, and what happens without any."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.config.options import RunConfig
from pipeline.config.targets import TARGET
from pipeline.config.values import nearest, shown
from pipeline.data.source import Task
from pipeline.errors import ConfigError
from pipeline.running.scoring import direction_of

CLASSIFICATION = ("accuracy", "precision", "recall", "f1", "auroc")
REGRESSION = ("rmse", "mae", "r2")


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
        f"{one.key}={shown(one.metric)} is not logged for a {task} task; expected one of "
        f"{', '.join(logged)}.{nearest(one.metric, logged)}"
        for one in followed
        if one.metric not in logged
    ]
    problems += [
        problem
        for one in followed
        if one.metric in own
        for problem in _against_its_direction(one, options)
    ]
    if problems:
        raise ConfigError(*problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A metric that a key names, and the way in which whoever follows it wants it to go."""

    key: str
    metric: str
    mode: object


def _followed(options: RunConfig) -> Iterator[Followed]:
    if options.monitor is not None:
        yield Followed(key="monitor", metric=options.monitor, mode=None)
    sections: dict[str, Mapping[str, object]] = {"scheduler": options.scheduler or {}}
    sections |= {f"callbacks.{name}": target for name, target in options.callbacks.items()}
    for key, section in sections.items():
        metric = section.get("monitor")
        if isinstance(metric, str):
            yield Followed(key=f"{key}.monitor", metric=metric, mode=section.get("mode"))


def _against_its_direction(one: Followed, options: RunConfig) -> Iterator[str]:
    try:
        better = direction_of(one.metric, options.metrics)
    except ConfigError as error:
        yield from (f"{one.key}={problem}" for problem in error.problems)
        return
    if one.mode in ("min", "max") and one.mode != better:
        mode_key = one.key.removesuffix("monitor") + "mode"
        yield f"{mode_key}={one.mode} looks for the worst {one.metric}; expected {better}."


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
