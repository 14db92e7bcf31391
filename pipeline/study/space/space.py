"""The space of a study: its parameters, their conditions, and each point for Optuna and Hydra."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import ConfigError, unknown_key
from pipeline.study.space.ranges import OFF, Range, text_of, value_of

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

_ABSENT = object()
MOST_EXTREME_POINTS = 20
"""Of one space; a list of choices that is longer is not tried to its end."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A key or group that has a value.

    Args:
        key: The key or group.
        text: Hydra's text of the value.
    """

    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter(Range):
    """A key of the config, or a group, and the values that it may take.

    Where it may be off, Optuna is asked twice: whether `<name> on`, then for the number.

    Args:
        key: The key or group.
        name: Optuna's name for it: the key, and in brackets the value that its range depends on
            where the key has several.
        when: Where the range holds; `None` = everywhere.
    """

    key: str
    name: str
    when: Condition | None = None

    @property
    def switch(self) -> str:
        """Optuna's name of the choice between on and off."""
        return f"{self.name} on"

    @property
    def place(self) -> str:
        """Where it stands in a config."""
        return place_of(self.key, self.when)

    def suggest(self, trial: "BaseTrial") -> str:
        """Ask a trial for a value; return Hydra's text."""
        if self.kind == "choice":
            return str(trial.suggest_categorical(self.name, self.choices))
        if self.off and not trial.suggest_categorical(self.switch, (True, False)):
            return OFF
        if self.kind == "int":
            step = 1 if self.step is None else int(self.step)
            low, high = int(self.low), int(self.high)
            return self.text(trial.suggest_int(self.name, low, high, step=step, log=self.log))
        number = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)
        return self.text(number)

    def from_params(self, params: Mapping[str, Any]) -> str | None:
        """Return Hydra's text of what Optuna holds; `None` = it holds nothing."""
        if self.off and params.get(self.switch) is False:
            return OFF
        if self.name not in params:
            return None
        value = params[self.name]
        return str(value) if self.kind == "choice" else self.text(value)

    def to_params(self, value: object) -> dict[str, object]:
        """Return what Optuna is to hold for a value within the range."""
        if self.kind == "choice":
            return {self.name: text_of(value)}
        if value is None:
            return {self.switch: False}
        assert isinstance(value, int | float)
        number: object = int(value) if self.kind == "int" else float(value)
        return {self.switch: True, self.name: number} if self.off else {self.name: number}

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold."""
        values = {**asdict(self), "choices": list(self.choices)}
        return {**values, "when": None if self.when is None else str(self.when)}


def place_of(key: str, when: object = None) -> str:
    """Return where a range stands in a config."""
    return f"sweep.space.{key}" if when is None else f"sweep.when.{when}.{key}"


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

    def _chosen(self, choose: Callable[[Parameter], str | None]) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for parameter in self.parameters:
            text = choose(parameter) if self._holds(parameter, chosen) else None
            if text is not None:
                chosen[parameter.key] = text
        return chosen

    def _holds(self, parameter: Parameter, chosen: Mapping[str, str]) -> bool:
        when = parameter.when
        if when is None:
            return True
        return (chosen if when.key in self.keys else self._base).get(when.key) == when.text

    def is_idle(self, parameter: Parameter) -> bool:
        """Tell whether a range never holds: its condition is met nowhere in this study."""
        when = parameter.when
        if when is None or when.key not in self.keys:
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
        problems = [
            f"{place}.{key} is not varied by this study."
            + unknown_key(str(key), self.keys).partition(" is unknown.")[2]
            for key in point
            if key not in self.keys
        ]
        params, used, outside = self._held(lambda key: point.get(key, _ABSENT))
        problems += [
            f"{place}.{one.key}={text_of(point[one.key])} lies outside of {one.place}={one}."
            for one in outside
        ]
        for key in [] if problems else [key for key in point if key not in used]:
            where = " or ".join(str(one.when) for one in self.parameters if one.key == key)
            problems.append(f"{place}.{key} has a range only where {where}; give that as well")
        if problems:
            raise ConfigError(*problems)
        return params

    def point_of(self, tree: DictConfig, choices: Mapping[str, Any]) -> dict[str, object] | None:
        """Return the point at which a config lies as Optuna's params; `None` = outside.

        Args:
            tree: A composed run.
            choices: The choice of each of its groups.
        """
        params, _, outside = self._held(lambda key: value_at(tree, choices, key))
        return None if outside else params

    def _held(
        self, value_at_key: Callable[[str], object]
    ) -> tuple[dict[str, object], set[str], list[Parameter]]:
        """Return what Optuna is to hold for values, the keys that have one, what lies outside."""
        params: dict[str, object] = {}
        used: set[str] = set()
        outside: list[Parameter] = []

        def choose(parameter: Parameter) -> str | None:
            value = value_at_key(parameter.key)
            if value is _ABSENT:
                return None
            used.add(parameter.key)
            if not parameter.holds(value):
                outside.append(parameter)
                return None
            params.update(parameter.to_params(value))
            return text_of(value)

        self._chosen(choose)
        return params, used, outside

    def size(self) -> int | None:
        """Return the number of points; `None` = a range is continuous."""
        roots = [one for one in self.parameters if not (one.when and one.when.key in self.keys)]
        sizes = [self._size_from(one) for one in roots if not self.is_idle(one)]
        return None if None in sizes else prod(size for size in sizes if size is not None)

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
            ValueError: A range is continuous.
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

    def extreme_points(self) -> list[dict[str, str]]:
        """Return points in which each end of a range and each choice occurs, 20 points at most.

        Each is Hydra's texts by key or group; a range under a condition is varied where it holds.
        """
        trial = _ExtremesTrial()
        points: list[dict[str, str]] = []
        while (not points or trial.has_more()) and len(points) < MOST_EXTREME_POINTS:
            points.append(self.suggest(cast("BaseTrial", trial)))
        return points

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
            # Optuna lets no parameter change these.
            is_other = before and after and any(before[k] != after[k] for k in _FIXED_BY_OPTUNA)
            (unbearable if is_other else bearable).append(_change(before, after))
        return bearable, unbearable


_FIXED_BY_OPTUNA = ("kind", "choices", "log")


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


def value_at(tree: DictConfig, choices: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key in a composed run, or the choice of a group."""
    value = choices[key] if key in choices else OmegaConf.select(tree, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


Value = TypeVar("Value")


class _ExtremesTrial:
    """Takes the place of Optuna's trial; answers with the next end or choice of each range."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def has_more(self) -> bool:
        """Tell whether a range that was asked for has an end or a choice that was not given."""
        return any(self._given[name] < size for name, size in self._sizes.items())

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Return the next choice."""
        number = self._given.get(name, 0)
        self._given[name], self._sizes[name] = number + 1, len(choices)
        return choices[number % len(choices)]

    def suggest_int(self, name: str, low: int, high: int, **_: object) -> int:
        """Return the lower end, then the upper one."""
        return self.suggest_categorical(name, (low, high))

    def suggest_float(self, name: str, low: float, high: float, **_: object) -> float:
        """Return the lower end, then the upper one."""
        return self.suggest_categorical(name, (low, high))
