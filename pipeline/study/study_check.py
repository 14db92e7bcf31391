"""The check of a study's values: its options, its run, and all ends of its ranges. Needs torch."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.base.errors import ConfigError
from pipeline.config.check import check
from pipeline.config.options import RunConfig, SweepOptions
from pipeline.config.values import validated
from pipeline.study.ledger.search import search_problems
from pipeline.study.space.ranges import Condition, Range
from pipeline.study.space.space import Space, value_at
from pipeline.study.space.trial_configs import Point, TrialConfigs


def checked_study(
    config: DictConfig, space: Space, trials: TrialConfigs
) -> tuple[SweepOptions, RunConfig]:
    """Return the options of a study and the run that it varies, without reading its data.

    Raises ConfigError with one line for each wrong value of the tree and the space.
    """
    problems: list[str] = []
    options: SweepOptions | None = None
    run: RunConfig | None = None
    try:
        options = validated(SweepOptions, config.sweep, prefix="sweep.")
    except ConfigError as error:
        problems += error.problems
    try:
        run = check(trials.config())
    except ConfigError as error:
        problems += error.problems
    if options is not None:
        count = len(options.objective) if isinstance(options.objective, list) else 1
        is_fixed = run is not None and "trainer.max_epochs" not in space.keys
        epochs = run.trainer.max_epochs if run is not None and is_fixed else None
        problems += search_problems(options, objectives=count, max_epochs=epochs)
        if options.tune and not options.tune_space:
            problems.append(
                f"sweep.tune={options.tune} has nothing to tune: sweep.tune_space has no range of "
                "a key that the command line does not set; give one, or remove sweep.tune."
            )
    problems += value_problems(space, trials)
    if options is not None:
        problems += device_problems(space, trials, devices_per_trial=options.devices_per_trial)
    if problems or options is None or run is None:
        raise ConfigError(*dict.fromkeys(problems))
    return options, run


def value_problems(space: Space, trials: TrialConfigs) -> list[str]:
    """Return a line for each end of a range, and each choice, that its key does not allow."""
    base_problems = _problems_at({}, trials)
    problems = list(_condition_value_problems(space, trials, base_problems))
    for parameter in space.parameters:
        if space.is_idle(parameter):
            continue
        for point in _points_around(parameter, space):
            point_problems = _problems_at(point, trials) if point else []
            for text in parameter.ends():
                for line in _problems_at({**point, parameter.key: text}, trials):
                    if line not in base_problems and line not in point_problems:
                        problems.append(_with_place(parameter, line, point))
    return list(dict.fromkeys(problems))


def _condition_value_problems(
    space: Space, trials: TrialConfigs, base_problems: Sequence[str]
) -> Iterator[str]:
    conditions = {parameter.when for parameter in space.parameters if parameter.when is not None}
    for when in sorted(conditions, key=str):
        if when.key in trials.choices:
            continue
        for line in _problems_at({when.key: when.text}, trials):
            if line.startswith(f"{when.key}=") and line not in base_problems:
                yield f"sweep.when.{when}: {line}"


def _problems_at(point: Point, trials: TrialConfigs) -> list[str]:
    try:
        check(trials.config(point))
    except ConfigError as error:
        return list(error.problems)
    return []


def _points_around(parameter: Range, space: Space) -> list[Point]:
    """Return points at which a parameter is varied, one for each choice of its key's group."""
    required = _choices_for(parameter.when, space)
    group = parameter.key.partition(".")[0]
    points: list[Point] = []
    if group not in required and group != parameter.key:
        for group_parameter in space.parameters:
            if group_parameter.key == group:
                choices = {**_choices_for(group_parameter.when, space), **required}
                points += [{**choices, group: text} for text in group_parameter.choices]
    return points or [required]


def _choices_for(when: Condition | None, space: Space) -> dict[str, str]:
    """Return the choices with which a condition holds, and the conditions it depends on."""
    if when is None:
        return {}
    choices = {}
    for parameter in space.parameters:
        if parameter.key == when.key:
            choices = _choices_for(parameter.when, space)
            break
    choices[when.key] = when.text
    return choices


def _with_place(parameter: Range, line: str, point: Point) -> str:
    key = parameter.key.partition(".")[0]
    place = parameter.override
    if parameter.when is None and key in point and key != parameter.key:
        place = f"{place} where {key}={point[key]}"
    if parameter.kind == "float" and "expected a whole number" in line:
        line += f" Write int({parameter})."
    return f"{place}: {line}"


def device_problems(space: Space, trials: TrialConfigs, *, devices_per_trial: int) -> list[str]:
    """Return a line for each setting of devices or nodes that suits only a single run."""
    problems: list[str] = []
    for point in ({}, *space.extreme_points()):
        with suppress(ConfigError, OmegaConfBaseException):  # which is reported elsewhere
            tree = trials.config(point)
            devices = value_at(tree, {}, "trainer.devices")
            nodes = value_at(tree, {}, "trainer.num_nodes")
            count = len(devices) if isinstance(devices, list) else devices
            differs = isinstance(count, int) and count != devices_per_trial
            if differs and devices_per_trial > 1:
                problems.append(
                    f"trainer.devices={devices} and sweep.devices_per_trial={devices_per_trial} "
                    "are in conflict; remove trainer.devices"
                )
            elif differs and count > 1:
                problems.append(
                    f"trainer.devices={devices} is for a single run; in a study, "
                    f"sweep.devices_per_trial={count} sets the devices of each trial, and "
                    "CUDA_VISIBLE_DEVICES the GPUs of all trials"
                )
            if isinstance(nodes, int) and nodes > 1:
                problems.append(
                    f"trainer.num_nodes={nodes} is for a single run; a trial of a study trains on "
                    "one machine: trainer.num_nodes=1"
                )
    return list(dict.fromkeys(problems))
