"""The search space of a study, read from a command line and YAML, and its points."""

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Glob, Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from pipeline.base.errors import ConfigError, unknown_key
from pipeline.config.options import SweepConfig
from pipeline.config.overrides import key_of, last_of_each_key, text_keys
from pipeline.study.space.ranges import Condition, Range, escaped, parse_override, text_of, value_of

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

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> "Space":
        """Return the space of the trials on record, from what `plain` returned.

        It has no conditions: the values of a trial show which ranges held.
        """
        return cls([Range.from_plain({**plain, "when": None}) for plain in stored.values()], {})

    def suggest(self, trial: "BaseTrial") -> dict[str, str]:
        """Sample a point from a trial, and return it as Hydra's texts by key or group."""
        return self._choose_texts(lambda parameter: parameter.suggest(trial))

    def overrides(self, params: Mapping[str, object]) -> dict[str, str]:
        """Return Hydra's texts by key or group for Optuna's params of a trial."""
        return self._choose_texts(lambda parameter: parameter.from_params(params))

    def _choose_texts(self, choose: Callable[[Range], str | None]) -> dict[str, str]:
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
        texts = chosen if when.key in self.keys else self._base
        return texts.get(when.key) == when.text

    def is_idle(self, parameter: Range) -> bool:
        """Return whether a range is never used, because its condition never holds in this study."""
        when = parameter.when
        if when is None or when.key not in self.keys:
            return not self._holds(parameter, {})
        value = value_of(when.text)
        return not any(parameter.holds(value) for parameter in self._ranges_of(when.key))

    def _ranges_of(self, key: str) -> list[Range]:
        return [parameter for parameter in self.parameters if parameter.key == key]

    def params(
        self, point: Mapping[str, object], *, place: str = "sweep.enqueue"
    ) -> dict[str, object]:
        """Return Optuna's params for a point, or for a part of one.

        `point` has values by key or group; `place` is where it is given, for errors. Raises
        ConfigError with a line for each value out of range, and for each key that is not varied.
        """
        problems = []
        for key in point:
            if key not in self.keys:
                hint = unknown_key(str(key), self.keys).partition(" is unknown.")[2]
                problems.append(f"{place}.{key} is not varied by this study.{hint}")
        params, chosen, outside = self._read_values(point, point.__getitem__)
        for parameter in outside:
            text = text_of(point[parameter.key])
            problems.append(f"{place}.{parameter.key}={text} is outside of {parameter.override}.")
        unused_keys = [] if problems else [key for key in point if key not in chosen]
        for key in unused_keys:
            conditions = " or ".join(str(parameter.when) for parameter in self._ranges_of(key))
            problems.append(f"{place}.{key} has a range only where {conditions}; set that as well")
        if problems:
            raise ConfigError(*problems)
        return params

    def point_of(
        self, tree: DictConfig, choices: Mapping[str, Any]
    ) -> tuple[dict[str, object] | None, list[str]]:
        """Return the point of a composed run as Optuna's params, and its values outside the space.

        The point is `None` if there are such values; they are written as `key=value`.
        """
        value_of_key = partial(value_at, tree, choices)
        params, _, outside = self._read_values(self.keys, value_of_key)
        keys = dict.fromkeys(parameter.key for parameter in outside)
        lines = [f"{key}={text_of(value_of_key(key))}" for key in keys]
        return (None if outside else params), lines

    def _read_values(
        self, keys: Container[str], value_of_key: Callable[[str], object]
    ) -> tuple[dict[str, object], dict[str, str], list[Range]]:
        """Return Optuna's params for the values of keys, their texts, and the ranges lacking them.

        The value of a key is asked for only if a range of the key applies: another network may not
        have the key.
        """
        params: dict[str, object] = {}
        chosen: dict[str, str] = {}
        outside: list[Range] = []
        for parameter in self.parameters:
            if parameter.key not in keys or not self._holds(parameter, chosen):
                continue
            value = value_of_key(parameter.key)
            if parameter.holds(value):
                params.update(parameter.to_params(value))
                chosen[parameter.key] = text_of(value)
            else:
                outside.append(parameter)
        return params, chosen, outside

    def size(self) -> int | None:
        """Return the number of points; `None` = infinite, since a range is continuous."""
        sizes = []
        for parameter in self.parameters:
            is_root = parameter.when is None or parameter.when.key not in self.keys
            if is_root and not self.is_idle(parameter):
                sizes.append(self._size_from(parameter))
        return _product(sizes)

    def _size_from(self, parameter: Range) -> int | None:
        """Return the number of points of a parameter and of the parameters that depend on it."""
        size = parameter.count()
        inner: dict[str, list[int | None]] = {}
        for dependent in self.parameters:
            when = dependent.when
            if when and when.key == parameter.key and parameter.holds(value_of(when.text)):
                inner.setdefault(when.text, []).append(self._size_from(dependent))
        for sizes in inner.values():
            inner_size = _product(sizes)
            if size is None or inner_size is None:
                return None
            size += inner_size - 1
        return size

    def points(self) -> list[dict[str, object]]:
        """Return every point of a grid as Optuna's params; the last parameter changes fastest."""
        points: list[tuple[dict[str, str], dict[str, object]]] = [({}, {})]
        for parameter in self.parameters:
            extended = []
            for chosen, params in points:
                if not self._holds(parameter, chosen):
                    extended.append((chosen, params))
                    continue
                for text in parameter.texts():
                    own_params = parameter.to_params(value_of(text))
                    extended.append(({**chosen, parameter.key: text}, {**params, **own_params}))
            points = extended
        return [params for _, params in points]

    def extreme_points(self) -> list[dict[str, str]]:
        """Return points that contain the ends of each range and all choices, as Hydra's texts."""
        ends = {parameter.name: parameter.ends() for parameter in self.parameters}
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
        compatible: list[str] = []
        incompatible: list[str] = []
        earlier = {name: Range.from_plain(plain) for name, plain in stored.items()}
        for after in self.parameters:
            before = earlier.pop(after.name, None)
            if before is None:
                compatible.append(f"{after.override} is new")
            elif before != after:
                text = after if before.place == after.place else after.override
                changes = compatible if before.is_compatible(after) else incompatible
                changes.append(f"{before.place} was {before} and is {text} now")
        compatible += [f"{parameter.override} is gone" for parameter in earlier.values()]
        return compatible, incompatible


def _product(sizes: Sequence[int | None]) -> int | None:
    """Return the product of sizes; `None` if one of them is infinite."""
    finite_sizes = [size for size in sizes if size is not None]
    return None if len(finite_sizes) < len(sizes) else prod(finite_sizes)


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
    ranges = []
    for key, text, key_condition in entries:
        shares_key = counts[key] > 1
        ranges.append(Range.read(text, key=key, when=key_condition, shares_key=shares_key))
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
    ordered: list[Range] = []
    pending = list(ranges)
    while pending:
        pending_keys = {parameter.key for parameter in pending}
        blocked = []
        for parameter in pending:
            if parameter.when and parameter.when.key in pending_keys:
                blocked.append(parameter)
            else:
                ordered.append(parameter)
        if len(blocked) == len(pending):
            places = " and ".join(parameter.place for parameter in pending)
            raise ConfigError(f"{places} form a cycle; remove one condition.")
        pending = blocked
    return ordered


def two_ranges(ranges: Sequence[Range]) -> Iterator[str]:
    """Yield a line for each key that could have two ranges at once."""
    ranges_by_key: dict[str, list[Range]] = {}
    for parameter in ranges:
        ranges_by_key.setdefault(parameter.key, []).append(parameter)
    for key, (first, *later) in ranges_by_key.items():
        for second in later:
            pair = f"{first.written} and {second.written}"
            if first.when is None or second.when is None:
                yield f"{key} has two ranges: {pair}; keep one."
            elif first.when.key != second.when.key:
                hint = "make them depend on the same key"
                yield f"{key} has two ranges that can both apply: {pair}; {hint}."


def option_problems(space: Space, sweep: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each option of a study (as plain values) that its space can't satisfy."""
    if sweep.get("sampler") == "grid":
        yield from _grid_problems(space, sweep.get("max_grid"))
    points = sweep.get("enqueue")
    for index, point in enumerate(points if isinstance(points, list) else []):
        if not isinstance(point, Mapping):
            yield f"sweep.enqueue[{index}] is not a mapping; expected {{KEY: VALUE}}."
            continue
        try:
            space.params(point, place=f"sweep.enqueue[{index}]")
        except ConfigError as error:
            yield from error.problems


def _grid_problems(space: Space, max_grid: object) -> Iterator[str]:
    parameters = [parameter for parameter in space.parameters if not space.is_idle(parameter)]
    for parameter in parameters:
        if parameter.count() is None:
            yield (
                f"{parameter.override}: a grid needs countable values; expected "
                "range(start, stop, step), choice(a, b) or int(interval(low, high))."
            )
    size = space.size()
    if size is not None and isinstance(max_grid, int) and size > max_grid:
        largest = max(parameters, key=lambda parameter: parameter.count() or 0)
        yield (
            f"sweep.space has {size:,} points, more than sweep.max_grid={max_grid}; raise it, or "
            f"shorten a range, such as {largest.override} with {largest.count():,} values."
        )


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
    new_words = list(words)
    for replaced in (Counter(arguments.overrides) - Counter(overrides)).elements():
        new_words.remove(replaced)
    new_words = [f"++{word}" if word.startswith(f"{_WHEN}=") else word for word in new_words]
    if not (ranges or spaces):
        return new_words
    new_words = [word for word in new_words if word not in (*ranges, *spaces)]
    return [*new_words, _space_word(ranges, spaces)]


def _space_word(ranges: Sequence[str], spaces: Sequence[str]) -> str:
    """Return the override of `sweep.space` with the ranges of `spaces`, then of single keys."""
    pairs: list[tuple[str, str]] = []
    for word in spaces:
        pairs.extend(_ranges_in(word))
    for word in ranges:
        key, _, text = word.partition("=")
        pairs.append((key, text))
    space: dict[str, str] = {}
    problems = []
    for key, text in pairs:
        if key in space:
            problems.append(f"{key} has two ranges: {space[key]} and {text}; keep one.")
        space[key] = text
    if problems:
        raise ConfigError(*problems)
    items = []
    for key, text in space.items():
        items.append(f"{escaped(key)}: {QuotedString(text, Quote.single).with_quotes()}")
    return f"++{_SPACE}={{{', '.join(items)}}}"


def _is_range(word: str) -> bool:
    key, _, value = word.partition("=")
    if not _KEY.fullmatch(key) or key.startswith(("sweep.", "hydra.", "hydra/")):
        return False
    if key == "sweeps" or key in text_keys(SweepConfig):
        return False
    parsed = _value_in(word)
    if parsed is None:
        # A range that Hydra can't parse counts as well; the problem is reported with the space.
        return bool(_RANGE.fullmatch(value))
    return isinstance(parsed, Sweep | Glob)


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
