"""The check of all values of a run before anything is created: every problem, in one error."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from pydantic import ValidationError

from pipeline.config.options import RunConfig, SchedulerOptions
from pipeline.config.references import references, resolved
from pipeline.config.rules import broken_rules
from pipeline.config.sections import SECTIONS, Section, parts
from pipeline.config.targets import CALLBACK, METRIC, PACKAGES, TARGET, judge, make_importable
from pipeline.config.trainer_options import REFUSED
from pipeline.config.values import problems_in
from pipeline.errors import ConfigError


def check(
    config: DictConfig | Mapping[str, Any], *, trust: Sequence[str] | None = None
) -> RunConfig:
    """Return the run that a config describes, its references resolved.

    Nothing is created, and Lightning is not imported: `check_callbacks` follows where it is.

    Args:
        config: A composed tree.
        trust: Packages whose classes it may name; `None` = those in the config, which came from
            the command line. For a config that was read from a file or a checkpoint give what
            the present command line says.

    Raises:
        ConfigError: All its problems, one line each.
    """
    values, unresolved = resolved(config)
    if trust is not None:
        values["trust"] = list(trust)
    values["tags"] = values.get("tags") or {}
    run, wrong = _options(values)
    wrong += _target_problems(values)
    wrong += broken_rules(values)
    problems = [*unresolved, *_causes(wrong, references(config))]
    if problems or run is None:
        raise ConfigError(*problems)
    return run


def _causes(problems: Sequence[str], referring: Mapping[str, str]) -> list[str]:
    """Leave out what is only wrong because it refers to another key that is."""
    keys = {problem: problem.partition("=")[0].partition(" ")[0] for problem in problems}
    wrong = set(keys.values())
    return [problem for problem, key in keys.items() if referring.get(key) not in wrong]


def _target_problems(values: Mapping[str, Any]) -> Iterator[str]:
    given = values.get("trust")
    trust = [word for word in given if isinstance(word, str)] if isinstance(given, list) else []
    make_importable(trust)
    for section in SECTIONS:
        yield from _section_problems(section, values.get(section.name), trust)
    yield from _own_metrics(values.get("metrics"), trust)
    yield from _callback_targets(values.get("callbacks"), trust)


def check_callbacks(config: RunConfig) -> None:
    """Judge the callbacks' targets and arguments, which needs Lightning.

    Raises:
        ConfigError: All their problems, one line each.
    """
    import pytorch_lightning  # noqa: F401 - the base class is looked up among what is loaded

    problems = [
        problem
        for name, target in config.callbacks.items()
        for problem in judge(f"callbacks.{name}", target, bases=[CALLBACK], trust=config.trust)
    ]
    if problems:
        raise ConfigError(*problems)


def _options(values: Mapping[str, Any]) -> tuple[RunConfig | None, list[str]]:
    try:
        return RunConfig.model_validate(values), []
    except ValidationError as error:
        return None, problems_in(error, RunConfig, values, hints=REFUSED)


def _section_problems(section: Section, values: object, trust: Sequence[str]) -> Iterator[str]:
    if not isinstance(values, Mapping):
        return
    if section.shared is not None:
        ours, values = parts(values, section.shared)
        try:
            section.shared.model_validate(ours)
        except ValidationError as error:
            yield from problems_in(error, section.shared, ours, prefix=f"{section.name}.")
    yield from judge(section.name, values, bases=[section.base], filled=section.filled, trust=trust)
    if section.shared is SchedulerOptions:
        yield from _plateau(ours, values)


def _own_metrics(metrics: object, trust: Sequence[str]) -> Iterator[str]:
    more = metrics.get("more") if isinstance(metrics, Mapping) else None
    for name, target in (more if isinstance(more, Mapping) else {}).items():
        if isinstance(target, Mapping):
            yield from judge(f"metrics.more.{name}", target, bases=[METRIC], trust=trust)


def _plateau(ours: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[str]:
    follows = str(target.get(TARGET)).endswith(".ReduceLROnPlateau")
    if follows and ours.get("monitor") is None:
        yield "scheduler.monitor is missing; expected the metric to follow, such as val/loss."
    if not follows and ours.get("monitor") is not None:
        yield "scheduler.monitor has no meaning for this schedule; leave it away."


def _callback_targets(callbacks: object, trust: Sequence[str]) -> Iterator[str]:
    """Yield what can be said about callbacks without Lightning."""
    if not isinstance(callbacks, Mapping):
        return
    allowed = tuple(f"{package}." for package in (*PACKAGES, *trust))
    for name, target in callbacks.items():
        path = target.get(TARGET) if isinstance(target, Mapping) else None
        if not isinstance(path, str):
            yield f"callbacks.{name}.{TARGET} is missing; expected the dotted path of a callback."
        elif not path.startswith(allowed):
            yield (
                f"callbacks.{name}.{TARGET}={path!r} lies outside of what may be named; if it is "
                f"your own, add trust=[{path.partition('.')[0]}] to the command line."
            )
