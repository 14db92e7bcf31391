"""What stands in `sweep.space` and `sweep.when`, read entry by entry, all problems told."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.study.space.conditions import Condition, read_condition
from pipeline.study.space.grammar import read_range
from pipeline.study.space.parameters import Parameter, place_of
from pipeline.study.space.ranges import Range
from pipeline.study.space.texts import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A key and its range as they were written.

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
        text = self.text if isinstance(self.text, str) else text_of(self.text)
        return f"{self.place}={text}"


def read_entries(
    space: object, when: object, *, preferred: Collection[str]
) -> tuple[list[Entry], list[str]]:
    """Return all entries of a space, and a line for each that can't be one.

    Args:
        space: Ranges by key.
        when: Ranges by key, by condition.
        preferred: Keys whose range in `space` stands on the command line, before which any in
            `when` gives way.
    """
    problems: list[str] = []
    entries = [Entry(key=key, text=text) for key, text in _mapping("sweep.space", space, problems)]
    for words, inner in _mapping("sweep.when", when, problems):
        try:
            condition = read_condition(words)
        except ConfigError as error:
            problems.append(f"sweep.when.{words}: {error}.")
            continue
        for key, text in _mapping(f"sweep.when.{condition}", inner, problems):
            if key not in preferred:
                entries.append(Entry(key=key, text=text, when=condition))
    return entries, problems


def _mapping(place: str, value: object, problems: list[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), inner) for key, inner in value.items())
    elif value is not None:
        problems.append(f"{place}={text_of(value)} is no mapping; expected KEY: RANGE.")


def read_ranges(entries: Sequence[Entry]) -> tuple[list[tuple[Entry, Range]], list[str]]:
    """Return the entries whose range can be read, with it, and a line for each problem."""
    right, problems = [], []
    for entry in entries:
        try:
            right.append((entry, read_range(entry.text)))
        except ConfigError as error:
            problems += [f"{entry.written}: {_ended(problem)}" for problem in error.problems]
    return right, problems


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence}."


def clashes(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield a line for each key that could have two ranges at once."""
    for key in dict.fromkeys(entry.key for entry in entries):
        same = [entry for entry in entries if entry.key == key]
        first, *others = same
        for other in others:
            if first.when is None or other.when is None:
                yield f"{key} has two ranges: {first.written} and {other.written}; keep one."
            elif first.when.key != other.when.key:
                yield (
                    f"{key} has two ranges that could both hold: {first.written} and "
                    f"{other.written}; let them depend on the same key."
                )


def as_parameters(ranges: Sequence[tuple[Entry, Range]]) -> list[Parameter]:
    """Name each range to Optuna, and put those first on which others depend.

    Raises:
        ConfigError: Conditions depend on each other in a ring.
    """
    keys = [entry.key for entry, _ in ranges]
    left = [_parameter(entry, found, several=keys.count(entry.key) > 1) for entry, found in ranges]
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


def _parameter(entry: Entry, found: Range, *, several: bool) -> Parameter:
    name = f"{entry.key} ({entry.when.text})" if several and entry.when else entry.key
    return Parameter(**asdict(found), key=entry.key, name=name, when=entry.when)
