"""Reads the space of a study from its config tree, and checks its names without torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from pipeline.base.errors import ConfigError, did_you_mean, unknown_key
from pipeline.base.paths import name_problem
from pipeline.config.composer import Composer
from pipeline.config.plain import FREE
from pipeline.config.tree import dotted_keys, exists
from pipeline.config.values import written
from pipeline.study.space.ranges import OFF, Condition, Range, text_of, value_of
from pipeline.study.space.space import Space, in_order, option_problems, read_ranges, two_ranges
from pipeline.study.space.trial_configs import TrialConfigs

_NOT_VARIED = tuple(key for key in FREE if not key.startswith(("data.", "trainer.")))
_EMPTY = (
    "sweep.space is empty; set what is varied, such as "
    "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
    "sweeps=quick."
)


def names_of_study(source: Composer, lines: Sequence[str]) -> Iterable[str]:
    """Return the problems with the names and the space of a command line, without torch."""
    study = TrialConfigs(lines, None, source)
    try:
        tree = study.tree()
        if isinstance(tree.get("sweep"), DictConfig) and tree.sweep.get("preflight") is not True:
            read_space(study)
    except ConfigError as error:
        return error.problems
    return []


def read_space(configs: TrialConfigs, sweep: Mapping[str, Any] | None = None) -> Space:
    """Return the space of the study.

    `sweep` has the study's options as plain values; `None` = those of the tree. Raises
    ConfigError with one line for each problem of the space, or, if it has none, of the options.
    """
    checks = _RangeChecks(configs)
    if sweep is None:
        sweep = written(configs.tree().sweep)
    ranges, problems = read_ranges(
        sweep.get("space"), sweep.get("when"), preferred=configs.varied_on_command_line()
    )
    if sweep.get("name") is not None:
        problem = name_problem("sweep.name", str(sweep["name"]))
        if problem:
            problems.append(f"{problem}.")
    if not (ranges or problems):
        problems.append(checks.why_empty())
    problems += checks.problems(ranges)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    parameters = in_order(ranges)
    keys = {parameter.key for parameter in parameters}
    base: dict[str, str] = {}
    for parameter in parameters:
        when = parameter.when
        if when is not None and when.key not in keys:
            base[when.key] = configs.text_at(when.key)
    space = Space(parameters, base)
    # The options are checked against a space that has no problem of its own.
    problems_of_options = list(option_problems(space, sweep))
    if problems_of_options:
        raise ConfigError(*problems_of_options)
    return space


class _RangeChecks:
    """Checks the ranges of a study against its config tree."""

    def __init__(self, configs: TrialConfigs) -> None:
        self._configs = configs
        self._groups = configs.groups

    def problems(self, ranges: Sequence[Range]) -> Iterator[str]:
        """Yield a line for each problem of the ranges."""
        for parameter in ranges:
            yield from parameter.problems
        yield from self._repeated_in_files()
        yield from two_ranges(ranges)
        by_key = {parameter.key: parameter for parameter in ranges if not parameter.problems}
        for parameter in ranges:
            key = parameter.key
            override = self._configs.overrides.get(key)
            if override is not None:
                is_group = "." not in key and parameter.when is None
                hint = f": '~sweep.space.{key}' removes the range" if is_group else ""
                yield (
                    f"{key} is fixed by {override.input_line} and varied by {parameter.written}; "
                    f"keep one{hint}."
                )
            yield from self._condition_problems(parameter.when, by_key)
            yield from self._key_problems(parameter, by_key)
        for parameter in ranges:
            if parameter.key in self._groups and not parameter.problems:
                place = parameter.written
                yield from self._choice_problems(parameter.key, place, parameter.choices)

    def why_empty(self) -> str:
        """Return the problem of a study that varies nothing."""
        sweep = written(self._configs.source.tree(self._configs.words).sweep)
        ranges_in_files, _ = read_ranges(sweep.get("space"), sweep.get("when"))
        lines = {}
        for parameter in ranges_in_files:
            override = self._configs.overrides.get(parameter.key)
            if override is not None:
                lines[parameter.key] = str(override.input_line)
        if not lines:
            return _EMPTY
        return (
            f"sweep.space is empty, since the command line sets {', '.join(lines.values())}; "
            "remove it to vary its key, or train a single run with pipeline train."
        )

    def _repeated_in_files(self) -> Iterator[str]:
        """Yield a line for each key that has ranges in two files of `sweeps/`."""
        files = self._configs.sweep_files()
        if len(files) < 2:
            return
        first_files: dict[str, str] = {}
        for file in files:
            sweep = self._configs.source.tree([f"sweeps={file}"]).sweep
            ranges, _ = read_ranges(sweep.space, sweep.when)
            for parameter in ranges:
                first = first_files.setdefault(parameter.place, file)
                if first != file and parameter.key not in self._configs.varied_on_command_line():
                    yield (
                        f"{parameter.place} is in sweeps/{first}.yaml and in sweeps/{file}.yaml; "
                        "keep one."
                    )

    def _condition_problems(
        self, when: Condition | None, ranges: Mapping[str, Range]
    ) -> Iterator[str]:
        """Yield the problems with the condition of a range; `ranges` has a range by key."""
        if when is None:
            return
        key = when.key
        place = f"sweep.when.{when}"
        if key in self._groups:
            yield from self._choice_problems(key, place, [when.text])
        elif not exists(self._configs.tree(), key) and key not in ranges:
            yield f"{place}: {self._unknown(self._configs.tree(), key)}"
            return
        group = key.partition(".")[0]
        if key not in ranges and group != key and group in ranges:
            yield f"{place}: {group} is varied, so {key} may not exist; vary it too."

    def _choice_problems(self, group: str, place: str, texts: Sequence[str]) -> Iterator[str]:
        choices = self._configs.source.choices(group)
        if not texts:
            yield f"{place}: {group} is a config group; expected choice({', '.join(choices)})."
        for value in map(value_of, texts):
            for choice in value if isinstance(value, list) else [value]:
                if choice is not None and choice not in choices:
                    yield (
                        f"{place}: {group}={text_of(choice)} is unknown; expected one of "
                        f"{', '.join(choices)}.{did_you_mean(str(choice), choices)}"
                    )

    def _key_problems(self, parameter: Range, ranges: Mapping[str, Range]) -> Iterator[str]:
        """Yield the problems with the key of a range."""
        key = parameter.key
        place = parameter.place
        if key in self._groups:
            return
        if key.partition(".")[0] in _NOT_VARIED or key.startswith("sweep"):
            yield f"{place}: no result depends on {key}; remove it from the space."
            return
        for choices in self._required_choices(parameter, ranges):
            try:
                tree = self._configs.tree(*choices)
            except ConfigError as error:
                for problem in error.problems:
                    yield f"{place}: {problem}."
                return
            if not exists(tree, key):
                subject, _, hint = self._unknown(tree, key).partition(" is unknown.")
                condition = f" where {', '.join(choices)}" if choices else ""
                yield f"{place}: {subject} is unknown{condition}.{hint}"
                return

    def _required_choices(
        self, parameter: Range, ranges: Mapping[str, Range]
    ) -> list[tuple[str, ...]]:
        """Return the choices of groups with which the key of a range has to exist."""
        group = parameter.key.partition(".")[0]
        when = parameter.when
        if when is not None and when.key in self._groups:
            varied = ranges.get(when.key)
            texts = [self._configs.text_at(when.key)] if varied is None else varied.choices
            return [(str(when),)] if when.text in texts else []
        if group in self._groups and group in ranges:
            return [(f"{group}={text}",) for text in ranges[group].choices if text != OFF]
        return [()]

    def _unknown(self, tree: DictConfig, key: str) -> str:
        keys = [tree_key for tree_key in dotted_keys(tree) if not tree_key.startswith("sweep")]
        return unknown_key(key, [*keys, *self._groups])
