"""The space of a study: what a trial may be, and each point of it in Optuna's words and Hydra's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from math import prod
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.values import unknown_key
from pipeline.errors import ConfigError
from pipeline.study.space.conditions import holds
from pipeline.study.space.parameters import Parameter, place_of
from pipeline.study.space.ranges import Range
from pipeline.study.space.texts import text_of, value_of

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Choose = Callable[[Parameter], str | None]


class Space:
    """Parameters, each after those that its condition names.

    Args:
        parameters: What is varied.
        base: Hydra's texts of keys and groups that conditions name and nothing varies.
    """

    def __init__(self, parameters: Sequence[Parameter], base: Mapping[str, str]) -> None:
        self.parameters = tuple(parameters)
        self.keys = tuple(dict.fromkeys(parameter.key for parameter in parameters))
        self._base = dict(base)

    def suggest(self, trial: "BaseTrial") -> dict[str, str]:
        """Ask a trial for a point; return Hydra's texts by key or group."""
        return self._chosen(lambda parameter: parameter.suggest(trial))

    def overrides(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return Hydra's texts by key or group for what Optuna holds of a trial."""
        return self._chosen(lambda parameter: parameter.from_params(params))

    def _chosen(self, choose: Choose) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for parameter in self.parameters:
            text = choose(parameter) if self._holds(parameter, chosen) else None
            if text is not None:
                chosen[parameter.key] = text
        return chosen

    def _holds(self, parameter: Parameter, chosen: Mapping[str, str]) -> bool:
        return holds(parameter.when, chosen, swept=self.keys, base=self._base)

    def is_idle(self, parameter: Parameter) -> bool:
        """Say whether a range never holds: what it depends on has no such value in this study."""
        when = parameter.when
        if when is None or not self._depends(parameter):
            return not self._holds(parameter, {})
        value = value_of(when.text)
        return not any(one.holds(value) for one in self.parameters if one.key == when.key)

    def params(
        self, point: Mapping[str, object], *, place: str = "sweep.enqueue"
    ) -> dict[str, object]:
        """Return what Optuna is to hold for a point, or for the part of one that is given.

        Args:
            point: Values by key or group.
            place: Where the point stands, for the errors.

        Raises:
            ConfigError: Every value that lies outside, every key that is not varied.
        """
        problems = [self._unknown(f"{place}.{key}", key) for key in point if key not in self.keys]
        params: dict[str, object] = {}
        used: set[str] = set()

        def choose(parameter: Parameter) -> str | None:
            if parameter.key not in point:
                return None
            value = point[parameter.key]
            used.add(parameter.key)
            if not parameter.holds(value):
                problems.append(_outside(f"{place}.{parameter.key}", value, parameter))
                return None
            params.update(parameter.to_params(value))
            return text_of(value)

        self._chosen(choose)
        idle = [key for key in point if key in self.keys and key not in used]
        problems += [self._idle(f"{place}.{key}", key) for key in idle] if not problems else []
        if problems:
            raise ConfigError(*problems)
        return params

    def _unknown(self, key_there: str, key: str) -> str:
        hint = unknown_key(str(key), self.keys).partition(" is unknown.")[2]
        return f"{key_there} is not varied by this study.{hint}"

    def _idle(self, key_there: str, key: str) -> str:
        conditions = [str(one.when) for one in self.parameters if one.key == key]
        return f"{key_there} has a range only where {' or '.join(conditions)}; give that as well"

    def point_of(self, tree: DictConfig, choices: Mapping[str, Any]) -> dict[str, object] | None:
        """Return the point at which a config lies as Optuna's params; `None` = outside.

        Args:
            tree: A composed run.
            choices: What its groups were given.
        """
        inside = True
        params: dict[str, object] = {}

        def choose(parameter: Parameter) -> str | None:
            nonlocal inside
            value = value_at(tree, choices, parameter.key)
            if not parameter.holds(value):
                inside = False
                return None
            params.update(parameter.to_params(value))
            return text_of(value)

        self._chosen(choose)
        return params if inside else None

    def size(self) -> int | None:
        """Return how many points there are; `None` = a range is continuous."""
        roots = [one for one in self.parameters if not self._depends(one)]
        sizes = [self._size_from(one) for one in roots if not self.is_idle(one)]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def _depends(self, parameter: Parameter) -> bool:
        return parameter.when is not None and parameter.when.key in self.keys

    def _size_from(self, parameter: Parameter) -> int | None:
        """Count the values of a parameter, and for each those of what depends on it."""
        size = parameter.count()
        inner: dict[str, list[int | None]] = {}
        for other in self.parameters:
            when = other.when
            if when and when.key == parameter.key and parameter.holds(value_of(when.text)):
                inner.setdefault(when.text, []).append(self._size_from(other))
        for sizes in inner.values():
            if size is None or None in sizes:
                return None
            size += prod(one for one in sizes if one is not None) - 1
        return size

    def points(self) -> list[dict[str, object]]:
        """Return every point of a grid as Optuna's params, the last parameter moving fastest.

        Raises:
            ValueError: There are infinitely many.
        """
        return [params for params, _ in self._points(0, {}, {})]

    def _points(
        self, index: int, chosen: dict[str, str], params: dict[str, object]
    ) -> Iterator[tuple[dict[str, object], dict[str, str]]]:
        if index == len(self.parameters):
            yield params, chosen
            return
        parameter = self.parameters[index]
        if not self._holds(parameter, chosen):
            yield from self._points(index + 1, chosen, params)
            return
        for text in parameter.texts():
            held = parameter.to_params(value_of(text))
            yield from self._points(index + 1, {**chosen, parameter.key: text}, {**params, **held})

    def plain(self) -> dict[str, Any]:
        """Return the space as plain values that JSON can hold, by Optuna's names."""
        return {parameter.name: parameter.plain() for parameter in self.parameters}

    def differences(self, stored: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Compare the space with the one that a study began with.

        Args:
            stored: What `plain` gave then.

        Returns:
            A line for each change that a study could bear, and a line for each that it can't,
            because what Optuna holds of earlier trials would be of another kind.
        """
        bearable: list[str] = []
        unbearable: list[str] = []
        now = self.plain()
        for name in dict.fromkeys([*now, *stored]):
            before, after = stored.get(name), now.get(name)
            if before == after:
                continue
            (unbearable if _is_another(before, after) else bearable).append(_change(before, after))
        return bearable, unbearable


_KIND = ("kind", "choices", "log")
"""What Optuna does not let a parameter change."""


def _is_another(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    if before is None or after is None:
        return False
    return any(before[one] != after[one] for one in _KIND)


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    if before is None or after is None:
        there = before or after or {}
        words = "is new" if before is None else "is gone"
        return f"{place_of(there['key'], there['when'])}={_range_of(there)} {words}"
    old, new = (place_of(one["key"], one["when"]) for one in (before, after))
    moved = "" if old == new else f"{new}="
    return f"{old} was {_range_of(before)} and is {moved}{_range_of(after)} now"


def _range_of(plain: Mapping[str, Any]) -> Range:
    values = {field.name: plain[field.name] for field in fields(Range)}
    return Range(**{**values, "choices": tuple(values["choices"])})


def _outside(key: str, value: object, parameter: Parameter) -> str:
    return f"{key}={text_of(value)} lies outside of {parameter.place}={parameter}."


def value_at(tree: DictConfig, choices: Mapping[str, Any], key: str) -> Any:
    """Return what a composed run has at a key, or was given for a group."""
    if key in choices:
        chosen = choices[key]
        return OmegaConf.to_container(chosen) if OmegaConf.is_config(chosen) else chosen
    value = OmegaConf.select(tree, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
