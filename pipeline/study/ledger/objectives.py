"""What a study is about: one value of a trial, or two, and which way is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.values import shown
from pipeline.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pipeline.config.options import MetricsOptions
    from pipeline.data.source import Task
    from pipeline.metrics import Direction

COSTS = ("model/parameters", "time/fit")
"""What a trial costs, whatever it learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A value of a trial that a study is about.

    Args:
        name: Such as `val/f1`.
        direction: Whether a larger or a smaller value is better.
    """

    name: str
    direction: "Direction"


def read_objectives(
    option: str | Sequence[str] | None,
    monitor: str,
    *,
    task: "Task | None" = None,
    validated: bool = True,
    metrics: "MetricsOptions | None" = None,
) -> tuple[Objective, ...]:
    """Return what a study is about, with the directions that the metrics have.

    Args:
        option: `sweep.objective`; `None` = the run's `monitor`.
        monitor: What a run follows.
        task: That of the data; `None` allows the metrics of every task.
        validated: Whether a trial has validation rows.
        metrics: Those of one's own; `None` = there are none.

    Raises:
        ConfigError: A value that no trial has, or one twice: one line each; or it has no direction.
    """
    names = [option] if isinstance(option, str) else list(option or [monitor])
    own = [f"val/{name}" for name in metrics.more] if metrics and validated else []
    known = (*logged(task, validated=validated), *own)
    problems = [*_unknown(names, known), *_repeated(names)]
    if problems:
        raise ConfigError(*problems)
    return tuple(Objective(name=name, direction=_direction(name, metrics)) for name in names)


def _direction(name: str, metrics: "MetricsOptions | None") -> "Direction":
    from pipeline.metrics import direction
    from pipeline.running.scoring import direction_of

    return direction(name) if metrics is None else direction_of(name, metrics)


def logged(task: "Task | None", *, validated: bool) -> tuple[str, ...]:
    """Return the names of all values that a trial has."""
    from pipeline.metrics import CLASSIFICATION, REGRESSION

    metrics = [
        *(() if task == "regression" else CLASSIFICATION),
        *(REGRESSION if task in ("regression", None) else ()),
    ]
    validation = [f"val/{name}" for name in ("loss", *metrics)] if validated else []
    return (*validation, "train/loss", *COSTS)


def _unknown(names: Sequence[str], known: Sequence[str]) -> list[str]:
    return [
        f"sweep.objective={shown(name)} is not logged; expected one of {', '.join(known)}."
        + did_you_mean(name, known, by_leaf=True)
        for name in names
        if name not in known
    ]


def _repeated(names: Sequence[str]) -> list[str]:
    if len(set(names)) == len(names):
        return []
    return [f"sweep.objective={shown(list(names))} names one value twice; expected two, or one."]
