"""Whether the config allows what a space holds: each end of a range, each choice. Needs torch."""

from collections.abc import Iterator, Mapping

from pipeline.config.check import check
from pipeline.errors import ConfigError
from pipeline.study.space.conditions import Condition
from pipeline.study.space.parameters import Parameter
from pipeline.study.space.ranges import OFF
from pipeline.study.space.space import Space
from pipeline.study.space.trees import Trees

Point = Mapping[str, str]


def value_problems(space: Space, trees: Trees) -> list[str]:
    """Return a line for each end of a range, and each choice, that its key does not allow.

    Values are looked at one at a time, the rest of the config as it stands; what is wrong without
    them is not told here.

    Args:
        space: The space of a study.
        trees: Composes its runs.
    """
    base = _wrong(trees, {})
    problems = list(_condition_problems(space, base, trees))
    for parameter in space.parameters:
        for around in [] if space.is_idle(parameter) else _surroundings(parameter, space):
            before = [*base, *_wrong(trees, around)] if around else base
            for text in _ends(parameter):
                found = _wrong(trees, {**around, parameter.key: text})
                problems += [_told(parameter, line, around) for line in found if line not in before]
    return list(dict.fromkeys(problems))


def _wrong(trees: Trees, point: Point) -> list[str]:
    try:
        check(trees.config(point))
    except ConfigError as error:
        return list(error.problems)
    return []


def _ends(parameter: Parameter) -> list[str]:
    if parameter.kind == "choice":
        return list(parameter.choices)
    ends = [parameter.text(parameter.low), parameter.text(parameter.high)]
    return [OFF, *ends] if parameter.off else ends


def _surroundings(parameter: Parameter, space: Space) -> Iterator[Point]:
    """Yield points at which a parameter is varied, one for each choice that decides its keys."""
    given = _chain(parameter.when, space)
    group = parameter.key.partition(".")[0]
    varied = [one for one in space.parameters if one.key == group != parameter.key]
    if group in given or not varied:
        yield given
        return
    for one in varied:
        for text in one.choices:
            yield {**_chain(one.when, space), **given, group: text}


def _chain(when: Condition | None, space: Space) -> dict[str, str]:
    """Return what must be chosen for a condition to hold, and for those it depends on."""
    if when is None:
        return {}
    outer = next((one.when for one in space.parameters if one.key == when.key), None)
    return {**_chain(outer, space), when.key: when.text}


def _condition_problems(space: Space, base: list[str], trees: Trees) -> Iterator[str]:
    """Yield what is wrong with the values of keys that conditions name."""
    conditions = {one.when for one in space.parameters if one.when is not None}
    for when in sorted(conditions, key=str):
        if when.key not in trees.choices:
            for line in _wrong(trees, {when.key: when.text}):
                if line.startswith(f"{when.key}=") and line not in base:
                    yield f"sweep.when.{when}: {line}"


def _told(parameter: Parameter, line: str, around: Point) -> str:
    key = parameter.key.partition(".")[0]
    place = f"{parameter.place}={parameter}"
    if parameter.when is None and key in around and key != parameter.key:
        place = f"{place} where {key}={around[key]}"
    whole = parameter.kind == "float" and "expected a whole number" in line
    return f"{place}: {line}{f' Write int({parameter}).' if whole else ''}"
