"""The space of a study, read from its command line and YAML, with all that is wrong in it."""

import contextlib
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from hydra._internal.grammar.utils import escape_special_characters
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from pipeline.config.compose import Composer, dotted_keys, exists
from pipeline.config.options import SweepConfig
from pipeline.config.overrides import key_of, text_keys
from pipeline.config.record import FREE
from pipeline.config.values import written
from pipeline.errors import ConfigError, did_you_mean, unknown_key
from pipeline.paths import name_problem
from pipeline.study.space.ranges import OFF, Range, parse_override, read_range, text_of, value_of
from pipeline.study.space.space import Condition, Parameter, Space, place_of, value_at

_SPACE, _WHEN = "sweep.space", "sweep.when"
_FUNCTIONS = "tag|interval|range|choice|shuffle|sort|glob|int|float|str|bool"
_RANGE = re.compile(rf"({_FUNCTIONS})\(.*\)\s*", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][\w./@\[\]]*")
_NO_EFFECT = tuple(key for key in FREE if not key.startswith(("data.", "trainer.")))
"""Keys on which no result depends."""
_EMPTY = (
    "sweep.space is empty; name what is varied, such as "
    "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
    "sweeps=quick."
)


# Ranges on a command line: `optimizer.lr=tag(log, interval(1e-4, 1e-1))`.


def with_space(words: Sequence[str]) -> list[str]:
    """Return a command line whose ranges stand in `sweep.space`, where they replace a file's.

    Args:
        words: The command line as it was typed.

    Raises:
        ConfigError: A key has two ranges, or `-m` was asked for.
    """
    overrides = _overrides(words)
    ranges = [word for word in overrides if _is_range(word)]
    spaces = [word for word in overrides if key_of(word) == _SPACE and word[0] != "~"]
    left = [f"++{word}" if word.startswith(f"{_WHEN}=") else word for word in words]
    if not (ranges or spaces):
        return left
    return [*(word for word in left if word not in (*ranges, *spaces)), _joined(ranges, spaces)]


def _overrides(words: Sequence[str]) -> list[str]:
    """Return the words that are no flags and no values of flags."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            arguments = get_args_parser().parse_intermixed_args(words)
    except SystemExit:
        return []  # the check of the command line says what is wrong
    if arguments.multirun:
        raise ConfigError(
            "-m starts a run for each value, and a sweep tries the values by itself; leave -m away"
        )
    found: list[str] = arguments.overrides
    return found


def _is_range(word: str) -> bool:
    key, _, value = word.partition("=")
    if not _KEY.fullmatch(key) or key.startswith(("sweep.", "hydra.", "hydra/")):
        return False
    if key == "sweeps" or key in text_keys(SweepConfig):
        return False
    given = _value_in(word)
    # What Hydra refuses is a range, too: the space says what is wrong with it.
    return isinstance(given, Sweep | Glob) or (given is None and bool(_RANGE.fullmatch(value)))


def _value_in(word: str) -> object:
    """Return the value of an override; `None` also where Hydra can't read it."""
    with contextlib.suppress(HydraException):
        return parse_override(word).value()
    return None


def _joined(ranges: Sequence[str], spaces: Sequence[str]) -> str:
    """Return the one override that adds all ranges to the space."""
    found = [pair for word in spaces for pair in _ranges_in(word)]
    found += [(key, text) for key, _, text in (word.partition("=") for word in ranges)]
    space: dict[str, str] = {}
    problems = []
    for key, text in found:
        if key in space:
            problems.append(f"{key} is given two ranges: {space[key]} and {text}; keep one.")
        space[key] = text
    if problems:
        raise ConfigError(*problems)
    items = (
        f"{escape_special_characters(key)}: {QuotedString(text, Quote.single).with_quotes()}"
        for key, text in space.items()
    )
    return f"++{_SPACE}={{{', '.join(items)}}}"


def _ranges_in(word: str) -> Iterator[tuple[str, str]]:
    """Yield the ranges of a space that was given whole."""
    value = _value_in(word)
    if not isinstance(value, dict):
        raise ConfigError(f"{word!r} is no space; expected {_SPACE}={{KEY: 'RANGE', …}}.")
    for key, text in value.items():
        if isinstance(text, Sweep):
            raise ConfigError(
                f"{word!r} holds a range without quotes; write it as a word of its own, such as "
                f"'{key}=choice(a, b)'."
            )
        yield str(key), text if isinstance(text, str) else text_of(text)


# The space of a composed study.


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeDefinition:
    """A key and its range as they stand in `sweep.space` or `sweep.when`.

    Args:
        key: The key or group.
        text: Its range, unread.
        when: Where it holds; `None` = everywhere.
    """

    key: str
    text: object
    when: Condition | None = None

    @property
    def place(self) -> str:
        """Where it stands."""
        return place_of(self.key, self.when)

    @property
    def written(self) -> str:
        """Where it stands, and what."""
        return f"{self.place}={self.text if isinstance(self.text, str) else text_of(self.text)}"


ReadRange = tuple[RangeDefinition, Range]


def read_definitions(
    space: object, when: object, *, preferred: Collection[str] = ()
) -> tuple[list[RangeDefinition], list[str]]:
    """Return all ranges of a space, unread, and a line for each that can't be one.

    Args:
        space: Ranges by key.
        when: Ranges by key, by condition.
        preferred: Keys with a range in `space` that replaces any in `when`.
    """
    problems: list[str] = []
    found = [RangeDefinition(key=key, text=text) for key, text in _items(_SPACE, space, problems)]
    for words, inner in _items(_WHEN, when, problems):
        try:
            condition = _condition(words)
        except ConfigError as error:
            problems.append(f"{_WHEN}.{words}: {error}.")
            continue
        for key, text in _items(f"{_WHEN}.{condition}", inner, problems):
            if key not in preferred:
                found.append(RangeDefinition(key=key, text=text, when=condition))
    return found, problems


def _items(place: str, value: object, problems: list[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in value.items())
    elif value is not None:
        problems.append(f"{place}={text_of(value)} is no mapping; expected KEY: RANGE.")


def _condition(words: str) -> Condition:
    key, sign, text = words.partition("=")
    if not (sign and key.strip() and text.strip()):
        raise ConfigError("a condition is key=value, such as model=lstm")
    try:
        return Condition(key.strip(), text_of(value_of(text.strip())))
    except ConfigError as error:
        raise ConfigError(f"{error}; expected one value, such as model=lstm") from error


def read_ranges(definitions: Sequence[RangeDefinition]) -> tuple[list[ReadRange], list[str]]:
    """Return the definitions whose range can be read, with it, and a line for each problem."""
    right, problems = [], []
    for one in definitions:
        try:
            right.append((one, read_range(one.text)))
        except ConfigError as error:
            ended = (line if line.endswith("?") else f"{line}." for line in error.problems)
            problems += [f"{one.written}: {line}" for line in ended]
    return right, problems


def parameters_of(ranges: Sequence[ReadRange]) -> list[Parameter]:
    """Name each range to Optuna, and put those first on which others depend.

    Raises:
        ConfigError: Conditions depend on each other in a ring.
    """
    keys = [one.key for one, _ in ranges]
    left = []
    for one, found in ranges:
        several = keys.count(one.key) > 1 and one.when is not None
        name = f"{one.key} ({one.when.text})" if several and one.when else one.key
        left.append(Parameter(**asdict(found), key=one.key, name=name, when=one.when))
    ordered: list[Parameter] = []
    while left:
        waiting = {parameter.key for parameter in left}
        ready = [one for one in left if one.when is None or one.when.key not in waiting]
        if not ready:
            places = " and ".join(one.place for one in left)
            raise ConfigError(f"{places} depend on each other in a ring; take one condition away.")
        ordered += ready
        left = [one for one in left if one not in ready]
    return ordered


def _two_ranges(definitions: Sequence[RangeDefinition]) -> Iterator[str]:
    """Yield a line for each key that could have two ranges at once."""
    for key in dict.fromkeys(one.key for one in definitions):
        first, *others = (one for one in definitions if one.key == key)
        for other in others:
            if first.when is None or other.when is None:
                yield f"{key} has two ranges: {first.written} and {other.written}; keep one."
            elif first.when.key != other.when.key:
                yield (
                    f"{key} has two ranges that could both hold: {first.written} and "
                    f"{other.written}; let them depend on the same key."
                )


def names_of_study(source: Composer, lines: Sequence[str]) -> Iterable[str]:
    """Return all that is wrong with a study's own names and space, without torch.

    Args:
        source: Composes the study.
        lines: The overrides of its command line.
    """
    study = StudyTree(source, lines)
    try:
        tree = study.tree()
        if isinstance(tree.get("sweep"), DictConfig) and tree.sweep.get("preflight") is not True:
            study.read_space()
    except ConfigError as error:
        return error.problems
    return []


class StudyTree:
    """The composed tree of a study, with further choices where asked for.

    Args:
        source: Composes it.
        lines: The overrides of its command line.
    """

    def __init__(self, source: Composer, lines: Sequence[str]) -> None:
        self._source = source
        self._lines = list(lines)
        self._trees: dict[tuple[str, ...], DictConfig] = {}
        overrides: list[Override] = OverridesParser.create().parse_overrides(self._lines)
        self._given = {override.key_or_group: override for override in overrides}

    def tree(self, *more: str) -> DictConfig:
        """Compose the study with further choices.

        Raises:
            ConfigError: Hydra or OmegaConf refuses.
        """
        if more not in self._trees:
            self._trees[more] = self._source.tree([*self._lines, *more])
        return self._trees[more]

    @cached_property
    def _groups(self) -> list[str]:
        return [group for group in self._source.groups() if group != "sweeps"]

    def varied_on_command_line(self) -> list[str]:
        """Return the keys whose range stands on the command line."""
        given = self._given.get(_SPACE)
        value = None if given is None else given.value()
        return [str(key) for key in value] if isinstance(value, dict) else []

    def sweep_files(self) -> list[str]:
        """Return the chosen files of `sweeps/`, without `.yaml`."""
        given = self._given.get("sweeps")
        value = self.tree().hydra.runtime.choices.get("sweeps") if given is None else given.value()
        if isinstance(value, list):
            return [str(one) for one in value]
        return [str(value)] if value else []

    def read_space(self, sweep: Mapping[str, Any] | None = None) -> Space:
        """Return the space of the study.

        Args:
            sweep: The study's options as plain values; `None` = those of the tree.

        Raises:
            ConfigError: All that is wrong with it, one line each.
        """
        sweep = written(self.tree().sweep) if sweep is None else sweep
        definitions, problems = read_definitions(
            sweep.get("space"), sweep.get("when"), preferred=self.varied_on_command_line()
        )
        ranges, unreadable = read_ranges(definitions)
        name = sweep.get("name")
        if name is not None and (problem := name_problem("sweep.name", str(name))):
            problems.append(f"{problem}.")
        problems += [] if definitions or problems else [_EMPTY]
        problems += unreadable
        problems += self._repeated_in_files()
        problems += _two_ranges(definitions)
        by_key = {one.key: found for one, found in ranges}
        for one in definitions:
            problems += self._fixed(one)
            problems += self._condition_problems(one, by_key)
            problems += self._key_problems(one, by_key)
        for one, found in ranges:
            if one.key in self._groups:
                problems += self._choice_problems(one.key, one.written, found.choices)
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        parameters = parameters_of(ranges)
        named = {one.when.key for one in parameters if one.when} - set(by_key)
        space = Space(parameters, {key: self._text_at(key) for key in named})
        if problems := [*_grid_problems(sweep, space), *_points_outside(sweep, space)]:
            raise ConfigError(*problems)
        return space

    def _repeated_in_files(self) -> Iterator[str]:
        """Yield a line for each key that two files of `sweeps/` give a range."""
        files = self.sweep_files()
        first: dict[str, str] = {}
        for file in files if len(files) > 1 else ():
            sweep = self._source.tree([f"sweeps={file}"]).sweep
            for one in read_definitions(sweep.space, sweep.when)[0]:
                before = first.setdefault(one.place, file)
                if before != file and one.key not in self.varied_on_command_line():
                    there = f"sweeps/{before}.yaml and in sweeps/{file}.yaml"
                    yield f"{one.place} stands in {there}; keep one."

    def _fixed(self, one: RangeDefinition) -> Iterator[str]:
        """Yield a line if a key that is varied is fixed on the command line."""
        given = self._given.get(one.key)
        if given is not None:
            by_group = "." not in one.key and one.when is None
            hint = f": '~{_SPACE}.{one.key}' takes the range away" if by_group else ""
            yield (
                f"{one.key} is fixed by {given.input_line} and varied by {one.written}; "
                f"keep one{hint}."
            )

    def _condition_problems(
        self, one: RangeDefinition, ranges: Mapping[str, Range]
    ) -> Iterator[str]:
        """Yield what is wrong with the condition of a range; `ranges` has one for each key."""
        if one.when is None:
            return
        key, place = one.when.key, f"{_WHEN}.{one.when}"
        if key in self._groups:
            yield from self._choice_problems(key, place, [one.when.text])
        elif not exists(self.tree(), key) and key not in ranges:
            yield f"{place}: {self._unknown(self.tree(), key)}"
            return
        group = key.partition(".")[0]
        if key not in ranges and group != key and group in ranges:
            yield f"{place}: {group} is varied, so {key} is not known; vary {key} too."

    def _choice_problems(self, group: str, written: str, texts: Sequence[str]) -> Iterator[str]:
        choices = self._source.choices(group)
        if not texts:
            yield f"{written}: {group} is a group; expected choice({', '.join(choices)})."
        for text in texts:
            value = value_of(text)
            for one in value if isinstance(value, list) else [value]:
                if one is not None and one not in choices:
                    yield (
                        f"{written}: {group}={text_of(one)} is unknown; expected one of "
                        f"{', '.join(choices)}.{did_you_mean(str(one), choices)}"
                    )

    def _key_problems(self, one: RangeDefinition, ranges: Mapping[str, Range]) -> Iterator[str]:
        """Yield what is wrong with the key of a range."""
        if one.key in self._groups:
            return
        if one.key.partition(".")[0] in _NO_EFFECT or one.key.startswith("sweep"):
            yield f"{one.place}: no result depends on {one.key}; take it out of the space."
            return
        for where in self._where(one, ranges):
            try:
                tree = self.tree(*where)
            except ConfigError as error:
                yield from (f"{one.place}: {problem}." for problem in error.problems)
                return
            if not exists(tree, one.key):
                known, _, hint = self._unknown(tree, one.key).partition(" is unknown.")
                place = f" where {', '.join(where)}" if where else ""
                yield f"{one.place}: {known} is unknown{place}.{hint}"
                return

    def _where(self, one: RangeDefinition, ranges: Mapping[str, Range]) -> list[tuple[str, ...]]:
        """Return the choices of groups in which a key has to exist."""
        group, when = one.key.partition(".")[0], one.when
        if when is not None and when.key in self._groups:
            varied = ranges.get(when.key)
            known = [self._text_at(when.key)] if varied is None else varied.choices
            return [(str(when),)] if when.text in known else []
        if group in self._groups and group in ranges:
            return [(f"{group}={text}",) for text in ranges[group].choices if text != OFF]
        return [()]

    def _unknown(self, tree: DictConfig, key: str) -> str:
        known = [one for one in dotted_keys(tree) if not one.startswith("sweep")]
        return unknown_key(key, [*known, *self._groups])

    def _text_at(self, key: str) -> str:
        """Return the value of a key, or the choice of a group, before anything is varied."""
        return text_of(value_at(self.tree(), self.tree().hydra.runtime.choices, key))


def _grid_problems(sweep: Mapping[str, Any], space: Space) -> Iterator[str]:
    if sweep.get("sampler") != "grid":
        return
    held = [one for one in space.parameters if not space.is_idle(one)]
    for one in held:
        if one.count() is None:
            yield (
                f"{one.place}={one}: a grid needs values that can be counted; expected "
                "range(start, stop, step), choice(a, b) or int(interval(low, high))."
            )
    size, most = space.size(), sweep.get("max_grid")
    if size is not None and isinstance(most, int) and size > most:
        largest = max(held, key=lambda one: one.count() or 0)
        yield (
            f"sweep.space has {size:,} points, more than sweep.max_grid={most}; raise it, or "
            f"shorten a range, such as {largest.place}={largest} with {largest.count():,} values."
        )


def _points_outside(sweep: Mapping[str, Any], space: Space) -> Iterator[str]:
    points = sweep.get("enqueue")
    for index, point in enumerate(points if isinstance(points, list) else []):
        if not isinstance(point, Mapping):
            yield f"sweep.enqueue[{index}] is no mapping; expected {{KEY: VALUE}}."
            continue
        try:
            space.params(point, place=f"sweep.enqueue[{index}]")
        except ConfigError as error:
            yield from error.problems
