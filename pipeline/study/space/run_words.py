"""A run's config said again: as words for `pipeline.train`, or as an experiment of its own."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config.compose import composer
from pipeline.config.overrides import quoted
from pipeline.config.record import differences, plain, references
from pipeline.config.targets import TARGET
from pipeline.study.space.texts import text_of

GROUPS = ("model", "data", "optimizer", "scheduler")
"""Groups whose choice decides which keys there are; the model first, for it may bring data."""
APART = ("format", "name", "output", "tags", "verbose", "tracking")
"""Keys on which no result depends."""
_LEFT_OUT = ("sweep", "sweeps", "name", "tags", "verbose")
"""Words of a study that a single run does not get."""


class RunWords:
    """Says configs in words, and composes them again to see that the words are right.

    Args:
        config_dir: A folder of the user's own YAML, in which choices may lie.
    """

    def __init__(self, config_dir: str | None) -> None:
        self._config_dir = config_dir
        with composer("train", None if config_dir is None else Path(config_dir)) as source:
            self._source = source

    def words(self, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
        """Return the words that compose to a config.

        Args:
            config: The run.
            given: Overrides of the study that it is a trial of.

        Raises:
            RuntimeError: No words do.
        """
        target = plain(config)
        kept = [word for word in given if _root(word) not in _LEFT_OUT]
        kept, groups = self._choices(target, kept)
        folder = [] if self._config_dir is None else [f"--config-dir={self._config_dir}"]

        def say(following: Collection[str]) -> tuple[list[str], dict[str, Any]]:
            have = self._composed([*kept, *groups])
            values = list(_value_words(have, target, following))
            replaced = {_key(word) for word in values}
            words = [*(word for word in kept if _key(word) not in replaced), *groups, *values]
            return [*folder, *words], self._composed(words)

        return _shortest(say, self._following([*kept, *groups]), target)

    def _tree(self, words: Sequence[str]) -> DictConfig:
        tree = self._source.tree(words)
        with open_dict(tree):
            del tree["hydra"]
        return tree

    def _composed(self, words: Sequence[str]) -> dict[str, Any]:
        return plain(self._tree(words))

    def _following(self, words: Sequence[str]) -> list[str]:
        """Return the keys whose value is that of another key."""
        return list(references(self._tree(words)))

    def _choices(self, target: Mapping[str, Any], kept: list[str]) -> tuple[list[str], list[str]]:
        """Return the words to keep and a word for each group that needs another choice."""
        groups: list[str] = []
        for group in GROUPS:
            if _target(self._composed([*kept, *groups]), group) == _target(target, group):
                continue
            choice = self._nearest(group, target, [*kept, *groups])
            if choice is not None:
                kept = [word for word in kept if _root(word) != group]
                groups.append(f"{group}={choice}")
        return kept, groups

    def _nearest(self, group: str, target: Mapping[str, Any], words: Sequence[str]) -> str | None:
        """Return the choice that is most like a section, of those with its constructor."""
        found: dict[str, int] = {}
        for choice in self._source.choices(group):
            values = self._composed([*words, f"{group}={choice}"])
            if _target(values, group) == _target(target, group):
                found[choice] = len(differences(_section(values, group), _section(target, group)))
        return min(found, key=lambda choice: found[choice], default=None)

    def yaml(self, config: Mapping[str, Any], name: str) -> str:
        """Return an experiment that composes to a config.

        Args:
            config: The run.
            name: The run's name in it.

        Raises:
            RuntimeError: No experiment does.
        """
        target = plain(config)
        _, words = self._choices(target, [])
        have = self._composed(words)
        choices = dict(self._source.tree(words).hydra.runtime.choices)
        for group in GROUPS:
            if not _is_within(_section(have, group), _section(target, group)):
                choices[group] = None  # nothing that ships has these keys: all of them are said
                have[group] = {}
        lines = ["# @package _global_", "# The best trial of a study, as a run.", "defaults:"]
        lines += [f"  - override /{group}: {text_of(choices[group])}" for group in GROUPS]

        def say(following: Collection[str]) -> tuple[str, dict[str, Any]]:
            content = {"name": name, **_nested(_changes(have, target, following))}
            text = "\n".join(lines) + "\n\n" + OmegaConf.to_yaml(OmegaConf.create(content))
            return text, self._read_again(text)

        return _shortest(say, self._following(words), target)

    def _read_again(self, text: str) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "experiment" / "again.yaml"
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
            search = f"hydra.searchpath=[{quoted(f'file://{folder}')}]"
            return self._composed([search, "experiment=again"])


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _root(word: str) -> str:
    return _key(word).partition(".")[0].partition("@")[0]


def _section(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    section = config.get(group)
    return dict(section) if isinstance(section, Mapping) else {}


def _is_within(have: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Say whether a section has no key that another lacks, and the same constructor."""
    return not list(_gone(have, want, ("",))) and have.get(TARGET) == want.get(TARGET)


def _target(config: Mapping[str, Any], group: str) -> object:
    return _section(config, group).get(TARGET)


def _changes(
    have: Mapping[str, Any],
    want: Mapping[str, Any],
    following: Collection[str],
    path: tuple[str, ...] = (),
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of each key that is missing or has another value."""
    for name, value in want.items():
        key = (*path, name)
        is_right = name in have and _same(have[name], value)
        if key[0] in APART or is_right or ".".join(key) in following:
            continue
        if isinstance(value, Mapping) and isinstance(have.get(name), Mapping):
            yield from _changes(have[name], value, following, key)
        else:
            yield key, value


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _gone(
    have: Mapping[str, Any], want: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    for name, value in have.items():
        key = (*path, name)
        if key[0] in APART:
            continue
        if name not in want:
            yield key
        elif isinstance(value, Mapping) and isinstance(want[name], Mapping):
            yield from _gone(value, want[name], key)


def _value_words(
    have: Mapping[str, Any], want: Mapping[str, Any], following: Collection[str]
) -> Iterator[str]:
    for path in _gone(have, want):
        yield f"~{'.'.join(path)}"
    for path, value in _changes(have, want, following):
        plus = "" if _there(have, path) else "++"
        yield f"{plus}{'.'.join(path)}={text_of(value)}"


def _there(have: Mapping[str, Any], path: Sequence[str]) -> bool:
    found: Any = have
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def _nested(changes: Iterator[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in changes:
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


Said = TypeVar("Said")


def _shortest(
    say: Callable[[Collection[str]], tuple[Said, Mapping[str, Any]]],
    following: Sequence[str],
    target: Mapping[str, Any],
) -> Said:
    """Say a config, first without the keys that follow others, and see that it is right.

    Args:
        say: Says it without some keys, and returns what then is composed.
        following: The keys that follow others.
        target: The config.
    """
    left = []
    for without in (following, ()):
        said, have = say(without)
        left = [one for one in differences(have, target) if one.key.partition(".")[0] not in APART]
        if not left:
            return said
    raise RuntimeError(f"the run can't be said again: {'; '.join(map(str, left))}")
