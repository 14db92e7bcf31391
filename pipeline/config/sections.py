"""The groups that name a class: its base, what the program fills in, and the keys beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.config.options import DataOptions, RunConfig, SchedulerOptions
from pipeline.config.targets import MODULE, OPTIMIZER, SCHEDULER, SOURCE
from pipeline.config.typed import Options

Chosen = TypeVar("Chosen", bound=Options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A group whose choice names a class.

    Args:
        name: Its key in the tree.
        base: What the class must be a subclass of.
        filled: Parameters that the program knows and the user never types.
        shared: Keys in the group that are ours and not the constructor's; None = none.
    """

    name: str
    base: str
    filled: tuple[str, ...] = ()
    shared: type[Options] | None = None


SECTIONS = (
    Section(name="model", base=MODULE, filled=("input_shape", "outputs")),
    Section(name="data", base=SOURCE, shared=DataOptions),
    Section(name="optimizer", base=OPTIMIZER, filled=("params",)),
    Section(
        name="scheduler",
        base=SCHEDULER,
        filled=("optimizer", "total_steps"),
        shared=SchedulerOptions,
    ),
)


def parts(
    section: Mapping[str, Any], shared: type[Options]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a section into the keys that are ours and the target with its arguments."""
    ours = {key: value for key, value in section.items() if key in shared.model_fields}
    return ours, {key: value for key, value in section.items() if key not in ours}


def data_options(config: RunConfig) -> DataOptions:
    """Return what happens to the rows, whatever source they come from."""
    return DataOptions(**parts(config.data, DataOptions)[0])


def source_target(config: RunConfig) -> dict[str, Any]:
    """Return the data source's `_target_` and arguments."""
    return parts(config.data, DataOptions)[1]


def scheduler_options(scheduler: Mapping[str, Any]) -> SchedulerOptions:
    """Return when a schedule moves and what it follows."""
    return SchedulerOptions(**parts(scheduler, SchedulerOptions)[0])


def scheduler_target(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schedule's `_target_` and arguments."""
    return parts(scheduler, SchedulerOptions)[1]
