"""The search space of a study, read from a command line and YAML, and its points."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Glob, Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from pipeline.config.options import SweepConfig
from pipeline.config.overrides import key_of, last_of_each_key, text_keys
from pipeline.errors import ConfigError, unknown_key
from pipeline.study.space.ranges import (
    Condition,
    Range,
    escaped,
    parse_override,
    text_of,
    value_of,
)

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

#: Maximum number of extreme points of a space; of a longer list of choices, the rest is left out.
MOST_EXTREME_POINTS = 20
_SPACE, _WHEN = "sweep.space", "sweep.when"
_FUNCTIONS = "tag|interval|range|choice|shuffle|sort|glob|int|float|str|bool"
_RANGE = re.compile(rf"({_FUNCTIONS})\(.*\)\s*", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][\w./@\[\]]*")


class Space:
    """The parameters of a study, each after those that its condition names.

    `base` has Hydra's texts of the keys and groups that conditions name and nothing varies.
    """

    def __init__(self, parameters: Sequence[Range], base: Mapping[str, str]) -> None:
        self.parameters = tuple(parameters)
        self.keys = tuple(dict.fromkeys(parameter.key for parameter in parameters))
        self._base = dict(base)

    def suggest(self, trial: "BaseTrial") -> dict[str, str]:
        """Sample a point from a trial, and return it as Hydra's texts by key or group."""
        return self._chosen(lambda parameter: parameter.suggest(trial))

    def overrides(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return Hydra's texts by key or group for Optuna's params of a trial."""
        return self._chosen(lambda parameter: parameter.from_params(params))

    def _chosen(self, choose: Callable[[Range], str | None]) -> dict[str, str]:
        chosen: dict[str, str] = {}
        for parameter in self.parameters:
            text = choose(parameter) if self._holds(parameter, chosen) else None
            if text is not None:
                chosen[parameter.key] = text
        return chosen

    def _holds(self, parameter: Range, chosen: Mapping[str, str]) -> bool:
        when = parameter.when
        if when is None:
            return True
        return (chosen if when.key in self.keys else self._base).get(when.key) == when.text

    def is_idle(self, parameter: Range) -> bool:
        """Return whether a range is never used, because its condition never holds in this study."""
        when = parameter.when
        if when is None or when.key not in self.keys:
            return not self._holds(parameter, {})
        value = value_of(when.text)
        return not any(one.holds(value) for one in self.parameters if one.key == when.key)

    def params(
        self, point: Mapping[str, object], *, place: str = "sweep.enqueue"
    ) -> dict[str, object]:
        """Return Optuna's params for a point, or for a part of one.

        `point` has values by key or group; `place` is where it is given, for errors. Raises
        ConfigError with a line for each value out of range, and for each key that is not varied.
        """
        problems = [
            f"{place}.{key} is not varied by this study."
            + unknown_key(str(key), self.keys).partition(" is unknown.")[2]
            for key in point
            if key not in self.keys
        ]
        params, chosen, outside = self._held(point)
        problems += [
            f"{place}.{one.key}={text_of(point[one.key])} is outside of {one.override}."
            for one in outside
        ]
        for key in () if problems else [key for key in point if key not in chosen]:
            where = " or ".join(str(one.when) for one in self.parameters if one.key == key)
            problems.append(f"{place}.{key} has a range only where {where}; set that as well")
        if problems:
            raise ConfigError(*problems)
        return params

    def point_of(
        self, tree: DictConfig, choices: Mapping[str, Any]
    ) -> tuple[dict[str, object] | None, list[str]]:
        """Return the point of a composed run as Optuna's params, and its values outside the space.

        The point is `None` if there are such values; they are written as `key=value`.
        """
        values = {key: value_at(tree, choices, key) for key in self.keys}
        params, _, outside = self._held(values)
        keys = dict.fromkeys(parameter.key for parameter in outside)
        lines = [f"{key}={text_of(values[key])}" for key in keys]
        return (None if outside else params), lines

    def _held(
        self, values: Mapping[str, object]
    ) -> tuple[dict[str, object], dict[str, str], list[Range]]:
        """Return Optuna's params for values, the values' texts, and the ranges that lack them."""
        params: dict[str, object] = {}
        chosen: dict[str, str] = {}
        outside: list[Range] = []
        for parameter in self.parameters:
            if parameter.key not in values or not self._holds(parameter, chosen):
                continue
            value = values[parameter.key]
            if parameter.holds(value):
                params.update(parameter.to_params(value))
                chosen[parameter.key] = text_of(value)
            else:
                outside.append(parameter)
        return params, chosen, outside

    def size(self) -> int | None:
        """Return the number of points; `None` = infinite, since a range is continuous."""
        roots = [one for one in self.parameters if not (one.when and one.when.key in self.keys)]
        sizes = [self._size_from(one) for one in roots if not self.is_idle(one)]
        return None if None in sizes else prod(size for size in sizes if size is not None)

    def _size_from(self, parameter: Range) -> int | None:
        """Return the number of points of a parameter and of the parameters that depend on it."""
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
        """Return every point of a grid as Optuna's params; the last parameter changes fastest."""
        points: list[tuple[dict[str, str], dict[str, object]]] = [({}, {})]
        for one in self.parameters:
            before, points = points, []
            for chosen, params in before:
                if not self._holds(one, chosen):
                    points.append((chosen, params))
                    continue
                points += [
                    ({**chosen, one.key: text}, {**params, **one.to_params(value_of(text))})
                    for text in one.texts()
                ]
        return [params for _, params in points]

    def extreme_points(self) -> list[dict[str, str]]:
        """Return points that contain the ends of each range and all choices, as Hydra's texts."""
        ends = {one.name: one.ends() for one in self.parameters}
        counts = Counter[str]()
        points: list[dict[str, str]] = []
        while len(points) < MOST_EXTREME_POINTS:
            point: dict[str, str] = {}
            for parameter in self.parameters:
                if self._holds(parameter, point):
                    texts = ends[parameter.name]
                    point[parameter.key] = texts[counts[parameter.name] % len(texts)]
                    counts[parameter.name] += 1
            points.append(point)
            if all(count >= len(ends[name]) for name, count in counts.items()):
                break
        return points

    def plain(self) -> dict[str, Any]:
        """Return the space as plain values that JSON can hold, by Optuna's names."""
        return {parameter.name: parameter.plain() for parameter in self.parameters}

    def differences(self, stored: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Compare the space with the stored one of a study, as `plain` returned it.

        Returns a line for each change with which the study can continue, and a line for each with
        which it can't, because Optuna's params of earlier trials would be of another kind.
        """
        bearable: list[str] = []
        unbearable: list[str] = []
        earlier = {name: Range.from_plain(plain) for name, plain in stored.items()}
        for after in self.parameters:
            before = earlier.pop(after.name, None)
            if before is None:
                bearable.append(f"{after.override} is new")
            elif before != after:
                text = after if before.place == after.place else after.override
                changes = bearable if before.is_compatible(after) else unbearable
                changes.append(f"{before.place} was {before} and is {text} now")
        bearable += [f"{parameter.override} is gone" for parameter in earlier.values()]
        return bearable, unbearable


def value_at(tree: DictConfig, choices: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key in a composed run, or the choice of a group."""
    value = choices[key] if key in choices else OmegaConf.select(tree, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


# Ranges in YAML.


def read_ranges(
    space: object, when: object, *, preferred: Collection[str] = ()
) -> tuple[list[Range], list[str]]:
    """Return the ranges of `sweep.space` and `sweep.when`, and a line for each other problem.

    A range that can't be read is returned too: it has `problems`. Ranges in `when` are left out if
    their key is in `preferred`.
    """
    problems: list[str] = []
    entries: list[tuple[str, object, Condition | None]] = [
        (key, text, None) for key, text in _items(_SPACE, space, problems)
    ]
    for words, inner in _items(_WHEN, when, problems):
        try:
            condition = Condition.read(words)
        except ConfigError as error:
            problems.append(f"{_WHEN}.{words}: {error}.")
            continue
        for key, text in _items(f"{_WHEN}.{condition}", inner, problems):
            if key not in preferred:
                entries.append((key, text, condition))
    counts = Counter(key for key, _, _ in entries)
    ranges = [
        Range.read(text, key=key, when=condition, shares_key=counts[key] > 1)
        for key, text, condition in entries
    ]
    return ranges, problems


def _items(place: str, value: object, problems: list[str]) -> list[tuple[str, Any]]:
    """Return the items of a mapping of YAML; add a line to `problems` if it is not a mapping."""
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    if value is not None:
        problems.append(f"{place}={text_of(value)} is not a mapping; expected KEY: RANGE.")
    return []


def in_order(ranges: Sequence[Range]) -> list[Range]:
    """Return the ranges, each after those it depends on; raise ConfigError for a cycle."""
    left, ordered = list(ranges), list[Range]()
    while left:
        waiting = {one.key for one in left}
        ready = [one for one in left if one.when is None or one.when.key not in waiting]
        if not ready:
            places = " and ".join(one.place for one in left)
            raise ConfigError(f"{places} form a cycle; remove one condition.")
        ordered += ready
        left = [one for one in left if one not in ready]
    return ordered


def two_ranges(ranges: Sequence[Range]) -> Iterator[str]:
    """Yield a line for each key that could have two ranges at once."""
    for key in dict.fromkeys(one.key for one in ranges):
        first, *others = (one for one in ranges if one.key == key)
        for other in others:
            both = f"{first.written} and {other.written}"
            if first.when is None or other.when is None:
                yield f"{key} has two ranges: {both}; keep one."
            elif first.when.key != other.when.key:
                hint = "make them depend on the same key"
                yield f"{key} has two ranges that can both apply: {both}; {hint}."


def option_problems(space: Space, sweep: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each option of a study (as plain values) that its space can't satisfy."""
    held = [one for one in space.parameters if not space.is_idle(one)]
    is_grid, size, most = sweep.get("sampler") == "grid", space.size(), sweep.get("max_grid")
    for one in held if is_grid else ():
        if one.count() is None:
            yield (
                f"{one.override}: a grid needs countable values; expected "
                "range(start, stop, step), choice(a, b) or int(interval(low, high))."
            )
    if is_grid and size is not None and isinstance(most, int) and size > most:
        largest = max(held, key=lambda one: one.count() or 0)
        yield (
            f"sweep.space has {size:,} points, more than sweep.max_grid={most}; raise it, or "
            f"shorten a range, such as {largest.override} with {largest.count():,} values."
        )
    points = sweep.get("enqueue")
    for index, point in enumerate(points if isinstance(points, list) else []):
        if not isinstance(point, Mapping):
            yield f"sweep.enqueue[{index}] is not a mapping; expected {{KEY: VALUE}}."
            continue
        try:
            space.params(point, place=f"sweep.enqueue[{index}]")
        except ConfigError as error:
            yield from error.problems


# Ranges on a command line: `optimizer.lr=tag(log, interval(1e-4, 1e-1))`.


def with_space(words: Sequence[str]) -> list[str]:
    """Return a command line with its ranges moved to `sweep.space`.

    The last value or range of each key counts. Raises ConfigError if a key has two ranges,
    `sweep.space` can't be read, or `-m` is given.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            arguments = get_args_parser().parse_intermixed_args(words)
    except SystemExit:
        return list(words)  # the check of the command line reports the problem
    if arguments.multirun:
        raise ConfigError(
            "-m starts a run for each value, but a sweep tries the values itself; remove -m"
        )
    overrides = last_of_each_key(arguments.overrides)
    ranges = [word for word in overrides if _is_range(word)]
    spaces = [word for word in overrides if key_of(word) == _SPACE and word[0] != "~"]
    left = list(words)
    for replaced in (Counter(arguments.overrides) - Counter(overrides)).elements():
        left.remove(replaced)
    left = [f"++{word}" if word.startswith(f"{_WHEN}=") else word for word in left]
    if not (ranges or spaces):
        return left
    space: dict[str, str] = {}
    problems = []
    found = [pair for word in spaces for pair in _ranges_in(word)]
    for key, text in [*found, *((word.partition("=")[::2]) for word in ranges)]:
        if key in space:
            problems.append(f"{key} has two ranges: {space[key]} and {text}; keep one.")
        space[key] = text
    if problems:
        raise ConfigError(*problems)
    items = (
        f"{escaped(key)}: {QuotedString(text, Quote.single).with_quotes()}"
        for key, text in space.items()
    )
    left = [word for word in left if word not in (*ranges, *spaces)]
    return [*left, f"++{_SPACE}={{{', '.join(items)}}}"]


def _is_range(word: str) -> bool:
    key, _, value = word.partition("=")
    if not _KEY.fullmatch(key) or key.startswith(("sweep.", "hydra.", "hydra/")):
        return False
    if key == "sweeps" or key in text_keys(SweepConfig):
        return False
    given = _value_in(word)
    # A range that Hydra can't parse counts as well; the problem is reported with the space.
    return isinstance(given, Sweep | Glob) or (given is None and bool(_RANGE.fullmatch(value)))


def _value_in(word: str) -> object:
    """Return the value of an override; `None` also if Hydra can't parse it."""
    with contextlib.suppress(HydraException):
        return parse_override(word).value()
    return None


def _ranges_in(word: str) -> Iterator[tuple[str, str]]:
    """Yield key and range for each range of a whole `sweep.space`."""
    value = _value_in(word)
    if not isinstance(value, dict):
        raise ConfigError(f"{word!r} is not a search space; expected {_SPACE}={{KEY: 'RANGE', …}}.")
    for key, text in value.items():
        if isinstance(text, Sweep):
            raise ConfigError(
                f"{word!r} has a range without quotes; write it as a separate word, such as "
                f"'{key}=choice(a, b)'."
            )
        yield str(key), text if isinstance(text, str) else text_of(text)
