"""Optuna's own classes named by `_target_`: judged before a study begins, built for a trial."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Union

from pydantic import TypeAdapter, ValidationError

from pipeline.config.targets import (
    TARGET,
    arguments,
    build,
    find,
    parameters_of,
    problems_with,
    resolve,
)
from pipeline.config.values import shown, wrong_value
from pipeline.errors import ConfigError

_PLAIN: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


def judge_target(
    key: str, target: Mapping[str, Any], *, base: type, filled: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each problem with a class of Optuna's and its arguments.

    Args:
        key: Where it stands, such as `sweep.sampler`.
        target: Its `_target_` and arguments.
        base: `BaseSampler` or `BasePruner`; the package that exports it is where it must lie.
        filled: Parameters that the program fills in.
    """
    package = ".".join(base.__module__.split(".")[:2])
    try:
        kind = resolve(str(target.get(TARGET)), trust=(package,))
    except ConfigError as error:
        yield from (f"{key}.{TARGET}: {line.partition(';')[0]}." for line in error.problems)
        return
    if not issubclass(kind, base) or kind is base:
        yield f"{key}.{TARGET}={shown(target[TARGET])} is no {base.__name__} of {package}."
        return
    given = arguments(target)
    inner = {name: value for name, value in given.items() if _is_target(value)}
    for name in filled:
        if name in given:
            yield f"{key}.{name} is filled in by the program; leave it away."
    plain = {name: v for name, v in given.items() if name not in inner and name not in filled}
    yield from problems_with(kind, plain, prefix=f"{key}.", without={*filled, *inner})
    yield from _wrongly_typed(key, kind, plain)
    for name, value in inner.items():
        if name not in parameters_of(kind):
            yield f"{key}.{name} is unknown."
        yield from judge_target(f"{key}.{name}", value, base=base, filled=filled)


def _wrongly_typed(key: str, kind: type, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each value of another type.

    Optuna's annotations are texts, some of which name what only type checkers import, so they
    can't be had from the signature as a whole.
    """
    for name, parameter in parameters_of(kind).items():
        words = str(parameter.annotation).split(" | ")
        if name not in given or not all(word in _PLAIN for word in words):
            continue
        allowed: Any = Union[tuple(_PLAIN[word] for word in words)]  # noqa: UP007 - members are data
        try:
            TypeAdapter(allowed).validate_python(given[name], strict=True)
        except ValidationError:
            yield wrong_value(f"{key}.{name}", given[name], allowed)


def build_quietly(target: Mapping[str, Any], /, **filled: object) -> Any:
    """Make what a judged target describes, without Optuna's warnings of what is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(target, **filled)


def class_of(target: Mapping[str, Any]) -> str:
    """Return the name of the class, without where it lies."""
    return find(str(target[TARGET])).__name__


def _is_target(value: object) -> bool:
    return isinstance(value, Mapping) and TARGET in value
