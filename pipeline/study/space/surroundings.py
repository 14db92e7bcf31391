"""The config tree that a space varies: which keys and groups there are, where what is fixed."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from pipeline.config.compose import Composer, dotted_keys, exists
from pipeline.config.record import FREE
from pipeline.config.values import unknown_key
from pipeline.errors import ConfigError, did_you_mean
from pipeline.study.space.conditions import Condition
from pipeline.study.space.entries import Entry, read_entries
from pipeline.study.space.ranges import OFF, Range
from pipeline.study.space.texts import text_of, value_of

_SPACE = "sweep.space"
_FOR_NOTHING = tuple(key for key in FREE if not key.startswith(("data.", "trainer.")))
"""Keys on which no result depends."""


class Surroundings:
    """Answers questions about the keys of a study.

    Args:
        source: Composes the study.
        lines: The overrides of its command line.
    """

    def __init__(self, source: Composer, lines: Sequence[str]) -> None:
        self._source = source
        self._lines = list(lines)
        self._trees: dict[tuple[str, ...], DictConfig] = {}
        self._choices: dict[str, list[str]] = {}
        parser = OverridesParser.create()
        overrides: list[Override] = parser.parse_overrides(self._lines)
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
    def groups(self) -> list[str]:
        """The groups that a run has."""
        return [group for group in self._source.groups() if group != "sweeps"]

    @cached_property
    def choices(self) -> Mapping[str, Any]:
        """What each group was given."""
        return dict(self.tree().hydra.runtime.choices)

    def on_the_line(self) -> list[str]:
        """Return the keys whose range stands on the command line."""
        given = self._given.get(_SPACE)
        value = None if given is None else given.value()
        return [str(key) for key in value] if isinstance(value, dict) else []

    def sweep_files(self) -> list[str]:
        """Return the chosen files of `sweeps/`, without `.yaml`."""
        given = self._given.get("sweeps")
        value = self.choices.get("sweeps") if given is None else given.value()
        return (
            [str(one) for one in value] if isinstance(value, list) else [str(value)] * bool(value)
        )

    def repeated_in_files(self) -> Iterator[str]:
        """Yield a line for each key that two files of `sweeps/` give a range."""
        files = self.sweep_files()
        if len(files) < 2:
            return
        first: dict[str, str] = {}
        for file in files:
            sweep = self._source.tree([f"sweeps={file}"]).sweep
            entries, _ = read_entries(sweep.space, sweep.when, preferred=())
            for entry in entries:
                before = first.setdefault(entry.place, file)
                if before != file and entry.key not in self.on_the_line():
                    there = f"sweeps/{before}.yaml and in sweeps/{file}.yaml"
                    yield f"{entry.place} stands in {there}; keep one."

    def fixed(self, entry: Entry) -> Iterator[str]:
        """Yield a line if a key that is to be varied is fixed on the command line."""
        given = self._given.get(entry.key)
        if given is not None:
            by_group = "." not in entry.key and entry.when is None
            hint = f": '~{_SPACE}.{entry.key}' takes the range away" if by_group else ""
            yield (
                f"{entry.key} is fixed by {given.input_line} and varied by {entry.written}; "
                f"keep one{hint}."
            )

    def choice_problems(self, entry: Entry, found: Range) -> Iterator[str]:
        """Yield what is wrong with the choices of a group that is varied.

        Args:
            entry: A key or group and what stands beside it.
            found: The same, read.
        """
        if entry.key in self.groups:
            yield from self._choice_problems(entry.key, entry.written, found.choices)

    def name_problems(self, entry: Entry, swept: Mapping[str, Range]) -> Iterator[str]:
        """Yield what is wrong with the key of an entry.

        Args:
            entry: A key or group and what stands beside it.
            swept: The ranges of all groups that are varied.
        """
        if entry.key in self.groups:
            return
        if entry.key.partition(".")[0] in _FOR_NOTHING or entry.key.startswith("sweep"):
            yield f"{entry.place}: no result depends on {entry.key}; take it out of the space."
        else:
            yield from self._key_problems(entry, swept)

    def _unknown(self, tree: DictConfig, key: str) -> str:
        known = [one for one in dotted_keys(tree) if not one.startswith("sweep")]
        return unknown_key(key, [*known, *self.groups])

    def _choice_problems(self, group: str, written: str, texts: Sequence[str]) -> Iterator[str]:
        if group not in self._choices:
            self._choices[group] = self._source.choices(group)
        choices = self._choices[group]
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

    def _key_problems(self, entry: Entry, swept: Mapping[str, Range]) -> Iterator[str]:
        for where in self._where(entry, swept):
            try:
                tree = self.tree(*where)
            except ConfigError as error:
                yield from (f"{entry.place}: {problem}." for problem in error.problems)
                return
            if not exists(tree, entry.key):
                known, _, hint = self._unknown(tree, entry.key).partition(" is unknown.")
                place = f" where {', '.join(where)}" if where else ""
                yield f"{entry.place}: {known} is unknown{place}.{hint}"
                return

    def _where(self, entry: Entry, swept: Mapping[str, Range]) -> list[tuple[str, ...]]:
        """Return the choices of groups in which a key has to exist."""
        group = entry.key.partition(".")[0]
        if entry.when is not None and entry.when.key in self.groups:
            return [(str(entry.when),)] if self._may_hold(entry.when, swept) else []
        if group in swept:
            return [(f"{group}={text}",) for text in swept[group].choices if text != OFF]
        return [()]

    def _may_hold(self, when: Condition, swept: Mapping[str, Range]) -> bool:
        if when.key in swept:
            return when.text in swept[when.key].choices
        return self.text_of_base(when.key) == when.text

    def condition_problems(self, entry: Entry, ranges: Mapping[str, Range]) -> Iterator[str]:
        """Yield what is wrong with the condition of an entry.

        Args:
            entry: An entry with a condition.
            ranges: The ranges of all keys, by key; a key's own further ranges left out.
        """
        assert entry.when is not None
        key, text = entry.when.key, entry.when.text
        place = f"sweep.when.{entry.when}"
        if key in self.groups:
            yield from self._choice_problems(key, place, [text])
        elif not exists(self.tree(), key) and key not in ranges:
            yield f"{place}: {self._unknown(self.tree(), key)}"
            return
        group = key.partition(".")[0]
        if key not in ranges and group != key and group in ranges:
            yield f"{place}: {group} is varied, so {key} is not known; vary {key} too."

    def text_of_base(self, key: str) -> str:
        """Return what the config has at a key or was given for a group, as Hydra's text."""
        from pipeline.study.space.space import value_at

        return text_of(value_at(self.tree(), self.choices, key))
