"""The space of a study on its config tree: checks of names and values, and the trials' runs.

`TrialConfigs` reads the space of a composed study and checks its names without torch. It composes
the runs of the study's trials, and writes them as a command or an experiment.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from pipeline.base.errors import ConfigError, did_you_mean, unknown_key
from pipeline.base.paths import name_problem
from pipeline.config.command_only import problems_of_files
from pipeline.config.compose import leave_out_fixed, without_hydra
from pipeline.config.composer import Composer
from pipeline.config.options import SweepConfig
from pipeline.config.overrides import key_of
from pipeline.config.plain import FREE, as_written, differences, plain
from pipeline.config.targets import TARGET
from pipeline.config.tree import dotted_keys, exists
from pipeline.config.values import written
from pipeline.study.space.ranges import OFF, Condition, Range, text_of, value_of
from pipeline.study.space.space import (
    Space,
    in_order,
    option_problems,
    read_ranges,
    two_ranges,
    value_at,
)

#: Groups whose choice decides which keys exist; the model first, since it may choose the data.
GROUPS = ("model", "data", "optimizer", "scheduler")
#: Keys on which no result depends, and keys of a study that a single run does not get.
NO_EFFECT = ("format", "name", "output", "tags", "verbose", "details", "tracking")
_OF_STUDY = ("sweep", "sweeps", "name", "tags", "verbose", "details")
_NOT_VARIED = tuple(key for key in FREE if not key.startswith(("data.", "trainer.")))
_EMPTY = (
    "sweep.space is empty; set what is varied, such as "
    "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a file of sweeps/, such as "
    "sweeps=quick."
)
#: Hydra's texts by key or group, as a `Space` gives them.
Point = Mapping[str, str]


def names_of_study(source: Composer, lines: Sequence[str]) -> Iterable[str]:
    """Return the problems with the names and the space of a command line, without torch."""
    study = TrialConfigs(lines, None, source)
    try:
        tree = study.tree()
        if isinstance(tree.get("sweep"), DictConfig) and tree.sweep.get("preflight") is not True:
            study.read_space()
    except ConfigError as error:
        return error.problems
    return []


class TrialConfigs:
    """The tree of a study, and the run of each trial as Hydra would compose it, in milliseconds.

    The data are pinned: a model that chooses data does not change those of the study. `words` are
    the overrides of the study's command line, with its ranges in `sweep.space`; `config_dir` is the
    folder of the user's YAML; `source` composes the study, and is created if it is `None`.
    """

    def __init__(
        self, words: Sequence[str], config_dir: str | None, source: Composer | None = None
    ) -> None:
        self.words = list(words)
        self.config_dir = config_dir
        self.source = source or Composer("sweep", config_dir)
        overrides = OverridesParser.create().parse_overrides(self.words)
        self._overrides = {override.key_or_group: override for override in overrides}
        #: Composes the study with further choices; raises ConfigError if Hydra can't.
        self.tree = cache(self._tree)
        self._composed = cache(self._without_study)

    def _tree(self, *extra_words: str) -> DictConfig:
        tree = self.source.tree([*self.words, *extra_words])
        if isinstance(tree.get("sweep"), DictConfig):
            leave_out_fixed(tree.sweep, self.words)
        return tree

    @cached_property
    def choices(self) -> dict[str, Any]:
        """The choice of each group before anything is varied."""
        return dict(self.tree().hydra.runtime.choices)

    @cached_property
    def _groups(self) -> list[str]:
        return [group for group in self.source.groups() if group != "sweeps"]

    @cached_property
    def trust(self) -> list[str]:
        """The packages that the command line trusts; no file can add one."""
        override = self._overrides.get("trust")
        value = None if override is None else override.value()
        # Reading from a config resolves references to the environment.
        packages = OmegaConf.create({"trust": value}).trust
        return list(map(str, packages)) if isinstance(packages, ListConfig) else []

    def varied_on_command_line(self) -> list[str]:
        """Return the keys whose range is given on the command line."""
        override = self._overrides.get("sweep.space")
        value = None if override is None else override.value()
        return list(map(str, value)) if isinstance(value, dict) else []

    def sweep_files(self) -> list[str]:
        """Return the names of the chosen files of `sweeps/`, without `.yaml`."""
        override = self._overrides.get("sweeps")
        value = self.choices.get("sweeps") if override is None else override.value()
        if not value:
            return []
        return list(map(str, value if isinstance(value, list) else [value]))

    def read_space(self, sweep: Mapping[str, Any] | None = None) -> Space:
        """Return the space of the study.

        `sweep` has the study's options as plain values; `None` = those of the tree. Raises
        ConfigError with one line for each problem of the space, or, if it has none, of the options.
        """
        if sweep is None:
            sweep = written(self.tree().sweep)
        ranges, problems = read_ranges(
            sweep.get("space"), sweep.get("when"), preferred=self.varied_on_command_line()
        )
        if sweep.get("name") is not None:
            problem = name_problem("sweep.name", str(sweep["name"]))
            if problem:
                problems.append(f"{problem}.")
        if not (ranges or problems):
            problems.append(self._why_empty())
        problems += self._range_problems(ranges)
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        parameters = in_order(ranges)
        keys = {parameter.key for parameter in parameters}
        base: dict[str, str] = {}
        for parameter in parameters:
            when = parameter.when
            if when is not None and when.key not in keys:
                base[when.key] = self._text_at(when.key)
        space = Space(parameters, base)
        # The options are checked against a space that has no problem of its own.
        problems_of_options = list(option_problems(space, sweep))
        if problems_of_options:
            raise ConfigError(*problems_of_options)
        return space

    def _range_problems(self, ranges: Sequence[Range]) -> Iterator[str]:
        for parameter in ranges:
            yield from parameter.problems
        yield from self._repeated_in_files()
        yield from two_ranges(ranges)
        by_key = {parameter.key: parameter for parameter in ranges if not parameter.problems}
        for parameter in ranges:
            key = parameter.key
            override = self._overrides.get(key)
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

    def _why_empty(self) -> str:
        """Return the problem of a study that varies nothing."""
        sweep = written(self.source.tree(self.words).sweep)
        ranges_in_files, _ = read_ranges(sweep.get("space"), sweep.get("when"))
        lines = {}
        for parameter in ranges_in_files:
            override = self._overrides.get(parameter.key)
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
        files = self.sweep_files()
        if len(files) < 2:
            return
        first_files: dict[str, str] = {}
        for file in files:
            sweep = self.source.tree([f"sweeps={file}"]).sweep
            ranges, _ = read_ranges(sweep.space, sweep.when)
            for parameter in ranges:
                first = first_files.setdefault(parameter.place, file)
                if first != file and parameter.key not in self.varied_on_command_line():
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
        elif not exists(self.tree(), key) and key not in ranges:
            yield f"{place}: {self._unknown(self.tree(), key)}"
            return
        group = key.partition(".")[0]
        if key not in ranges and group != key and group in ranges:
            yield f"{place}: {group} is varied, so {key} may not exist; vary it too."

    def _choice_problems(self, group: str, place: str, texts: Sequence[str]) -> Iterator[str]:
        choices = self.source.choices(group)
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
                tree = self.tree(*choices)
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
            texts = [self._text_at(when.key)] if varied is None else varied.choices
            return [(str(when),)] if when.text in texts else []
        if group in self._groups and group in ranges:
            return [(f"{group}={text}",) for text in ranges[group].choices if text != OFF]
        return [()]

    def _unknown(self, tree: DictConfig, key: str) -> str:
        keys = [tree_key for tree_key in dotted_keys(tree) if not tree_key.startswith("sweep")]
        return unknown_key(key, [*keys, *self._groups])

    def _text_at(self, key: str) -> str:
        """Return the value of a key, or the choice of a group, before anything is varied."""
        return text_of(value_at(self.tree(), self.choices, key))

    # ── the runs of trials ──────────────────────────────────────────────────────────────────

    def config(self, overrides: Point | None = None) -> DictConfig:
        """Return the run of a trial, or the base run, without the study's options."""
        overrides = overrides or {}
        tree = deepcopy(self._run(overrides)[0])
        with open_dict(tree):
            for key, text in overrides.items():
                if key not in self._groups:
                    OmegaConf.update(tree, key, value_of(text), merge=False)
        return tree

    def _run(self, overrides: Point) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a run with only the groups of a trial; return it and the choice of each group."""
        groups = {key: text for key, text in overrides.items() if key in self._groups}
        chooses_data = "data" in groups or "experiment" in groups
        if groups and not chooses_data and self.choices.get("data"):
            groups["data"] = text_of(self.choices["data"])
        words = [f"{group}={text}" for group, text in groups.items()]
        return self._composed(*sorted(words))

    def _without_study(self, *lines: str) -> tuple[DictConfig, dict[str, Any]]:
        tree = self.source.tree([*self.words, *lines])
        self._require_confirmed(tree)
        choices = dict(tree.hydra.runtime.choices)
        with open_dict(tree):
            del tree["sweep"]
        return without_hydra(tree), choices

    def _require_confirmed(self, tree: DictConfig) -> None:
        """Require that no file that a trial chooses sets what only the command line may."""
        folder = self.source.config_dir
        if folder is None:
            return
        problems = problems_of_files(
            tree,
            self._overrides.values(),
            config_name=self.source.config_name,
            options=SweepConfig,
            folder=Path(folder),
        )
        if lines := list(problems):
            raise ConfigError(*lines)

    def train_words(self, overrides: Point) -> list[str]:
        """Return the words with which `pipeline train` trains a trial.

        Output and tracking are those of the study's command line; its name, tags and verbosity are
        left out. Raises RuntimeError if the words do not compose to the trial's run.
        """
        source = Composer("train", self.config_dir)
        _, choices = self._run(overrides)
        words = [word for word in self.words if _root(word) not in _OF_STUDY]
        groups: list[str] = []
        tree = source.tree(words)
        for group in GROUPS:
            if choices.get(group) not in (None, tree.hydra.runtime.choices.get(group)):
                words = [word for word in words if _root(word) != group]
                groups.append(f"{group}={text_of(choices[group])}")
                tree = source.tree([*words, *groups])
        before = _essential(without_hydra(tree))
        removals = []
        values = []
        changed_keys = set()
        for sign, key, value in _changes(before, _essential(self.config(overrides))):
            changed_keys.add(key)
            if sign == "~":
                removals.append(f"~{key}")
            else:
                values.append(f"{sign}{key}={text_of(value)}")
        words = [word for word in words if key_of(word) not in changed_keys]
        words += [*groups, *removals, *values]
        self._require_same(source.tree(words), overrides)
        return words if self.config_dir is None else [f"--config-dir={self.config_dir}", *words]

    def winner_yaml(self, overrides: Point, name: str) -> str:
        """Return the YAML of an experiment that composes to a trial, named `name`.

        Raises RuntimeError if the YAML does not compose to the trial's run.
        """
        _, trial_choices = self._run(overrides)
        source = Composer("train")
        words = []
        for group in GROUPS:
            if trial_choices.get(group) in source.choices(group):
                words.append(f"{group}={text_of(trial_choices[group])}")
        tree = source.tree(words)
        choices = tree.hydra.runtime.choices
        values = _essential(without_hydra(tree))
        trial_values = _essential(self.config(overrides))
        lines = ["# @package _global_", "# The best trial of a study, as a run.", "defaults:"]
        for group in GROUPS:
            choice = choices.get(group)
            if not _is_within(values.get(group), trial_values.get(group)):
                choice = None  # no shipped file has these keys, so all are written
                values[group] = {}
            lines.append(f"  - override /{group}: {text_of(choice)}")
        content = OmegaConf.create({"name": name})
        for _, key, value in _changes(values, trial_values):
            OmegaConf.update(content, key, value, force_add=True)
        text = "\n".join(lines) + "\n\n" + OmegaConf.to_yaml(content)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "experiment" / "again.yaml"
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
            read_again = Composer("train", folder).tree(["experiment=again"])
        self._require_same(read_again, overrides)
        return text

    def _require_same(self, tree: DictConfig, overrides: Point) -> None:
        lines = []
        for difference in differences(plain(without_hydra(tree)), plain(self.config(overrides))):
            if difference.key.partition(".")[0] not in NO_EFFECT:
                lines.append(str(difference))
        if lines:
            raise RuntimeError(f"the run can't be written as a command: {'; '.join(lines)}")


def _root(word: str) -> str:
    return key_of(word).partition(".")[0].partition("@")[0]


def _essential(tree: DictConfig) -> dict[str, Any]:
    """Return the keys of a run on which its result depends, with unresolved references."""
    values = as_written(tree)
    return {key: value for key, value in values.items() if key not in (*NO_EFFECT, "trust")}


def _changes(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield sign (`~`, `++` or none), key and value of an override for each difference."""
    for name in dict.fromkeys([*after, *before]):
        key = f"{prefix}{name}"
        old = before.get(name)
        new = after.get(name)
        if name not in after:
            yield "~", key, None
        elif name not in before:
            yield "++", key, new
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{key}.")
        elif type(old) is not type(new) or old != new:
            yield "", key, new


def _is_within(before: object, after: object) -> bool:
    """Return whether overriding values can make a section equal to another of the same class."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return before == after
    if before.get(TARGET) != after.get(TARGET):
        return False
    for sign, _, value in _changes(before, after):
        if sign == "~" or isinstance(value, Mapping):
            return False
    return True
