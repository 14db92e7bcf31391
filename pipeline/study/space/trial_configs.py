"""The space of a study on its config tree: checks of names and values, and the trials' runs.

`TrialConfigs` reads the space of a composed study and checks its names without torch. It composes
the runs of the study's trials, and writes them as a command or an experiment.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.check import check
from pipeline.config.command_only import problems_of_files
from pipeline.config.compose import Composer, leave_out_fixed, without_hydra
from pipeline.config.options import SweepConfig
from pipeline.config.overrides import key_of
from pipeline.config.record import FREE, as_written, differences, plain
from pipeline.config.tree import dotted_keys, exists
from pipeline.config.values import TARGET, written
from pipeline.errors import ConfigError, did_you_mean, unknown_key
from pipeline.paths import name_problem
from pipeline.study.space import space as spaces
from pipeline.study.space.ranges import OFF, Condition, Range, text_of, value_of
from pipeline.study.space.space import Space, value_at

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
        self._given = {override.key_or_group: override for override in overrides}
        #: Composes the study with further choices; raises ConfigError if Hydra can't.
        self.tree = cache(self._tree)
        self._composed = cache(self._without_study)

    def _tree(self, *more: str) -> DictConfig:
        tree = self.source.tree([*self.words, *more])
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
        given = self._given.get("trust")
        typed = OmegaConf.create({"trust": None if given is None else given.value()})
        packages = typed.trust  # references to the environment are resolved
        return list(map(str, packages)) if isinstance(packages, ListConfig) else []

    def varied_on_command_line(self) -> list[str]:
        """Return the keys whose range is given on the command line."""
        value = self._given["sweep.space"].value() if "sweep.space" in self._given else None
        return [str(key) for key in value] if isinstance(value, dict) else []

    def sweep_files(self) -> list[str]:
        """Return the names of the chosen files of `sweeps/`, without `.yaml`."""
        given = self._given.get("sweeps")
        value = self.choices.get("sweeps") if given is None else given.value()
        return list(map(str, value if isinstance(value, list) else [value] if value else []))

    def read_space(self, sweep: Mapping[str, Any] | None = None) -> Space:
        """Return the space of the study.

        `sweep` has the study's options as plain values; `None` = those of the tree. Raises
        ConfigError with one line for each problem of the space.
        """
        sweep = written(self.tree().sweep) if sweep is None else sweep
        ranges, problems = spaces.read_ranges(
            sweep.get("space"), sweep.get("when"), preferred=self.varied_on_command_line()
        )
        name = sweep.get("name")
        if name is not None and (problem := name_problem("sweep.name", str(name))):
            problems.append(f"{problem}.")
        problems += [] if ranges or problems else [self._why_empty()]
        for parameter in ranges:
            problems += parameter.problems
        problems += [*self._repeated_in_files(), *spaces.two_ranges(ranges)]
        by_key = {parameter.key: parameter for parameter in ranges if not parameter.problems}
        for parameter in ranges:
            key = parameter.key
            if override := self._given.get(key):
                by_group = "." not in key and parameter.when is None
                hint = f": '~sweep.space.{key}' removes the range" if by_group else ""
                fixed = f"{key} is fixed by {override.input_line}"
                problems.append(f"{fixed} and varied by {parameter.written}; keep one{hint}.")
            problems += self._condition_problems(parameter.when, by_key)
            problems += self._key_problems(parameter, by_key)
        for parameter in ranges:
            if parameter.key in self._groups and not parameter.problems:
                where = parameter.written
                problems += self._choice_problems(parameter.key, where, parameter.choices)
        if problems:
            raise ConfigError(*dict.fromkeys(problems))
        parameters = spaces.in_order(ranges)
        named = {one.when.key for one in parameters if one.when} - set(by_key)
        space = Space(parameters, {key: self._text_at(key) for key in named})
        if problems := list(spaces.option_problems(space, sweep)):
            raise ConfigError(*problems)
        return space

    def _why_empty(self) -> str:
        """Return the problem of a study that varies nothing."""
        sweep = written(self.source.tree(self.words).sweep)
        in_files, _ = spaces.read_ranges(sweep.get("space"), sweep.get("when"))
        keys = dict.fromkeys(one.key for one in in_files)
        fixed = [str(self._given[key].input_line) for key in keys if key in self._given]
        if not fixed:
            return _EMPTY
        return (
            f"sweep.space is empty, since the command line sets {', '.join(fixed)}; remove it to "
            "vary its key, or train a single run with pipeline train."
        )

    def _repeated_in_files(self) -> Iterator[str]:
        """Yield a line for each key that has ranges in two files of `sweeps/`."""
        files = self.sweep_files()
        first: dict[str, str] = {}
        for file in files if len(files) > 1 else ():
            sweep = self.source.tree([f"sweeps={file}"]).sweep
            for one in spaces.read_ranges(sweep.space, sweep.when)[0]:
                before = first.setdefault(one.place, file)
                if before != file and one.key not in self.varied_on_command_line():
                    there = f"sweeps/{before}.yaml and in sweeps/{file}.yaml"
                    yield f"{one.place} is in {there}; keep one."

    def _condition_problems(
        self, when: Condition | None, ranges: Mapping[str, Range]
    ) -> Iterator[str]:
        """Yield the problems with the condition of a range; `ranges` has a range by key."""
        if when is None:
            return
        key, place = when.key, f"sweep.when.{when}"
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
            for one in value if isinstance(value, list) else [value]:
                if one is not None and one not in choices:
                    yield (
                        f"{place}: {group}={text_of(one)} is unknown; expected one of "
                        f"{', '.join(choices)}.{did_you_mean(str(one), choices)}"
                    )

    def _key_problems(self, one: Range, ranges: Mapping[str, Range]) -> Iterator[str]:
        """Yield the problems with the key of a range."""
        if one.key in self._groups:
            return
        if one.key.partition(".")[0] in _NOT_VARIED or one.key.startswith("sweep"):
            yield f"{one.place}: no result depends on {one.key}; remove it from the space."
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

    def _where(self, one: Range, ranges: Mapping[str, Range]) -> list[tuple[str, ...]]:
        """Return the choices of groups with which the key of a range has to exist."""
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
        return text_of(value_at(self.tree(), self.choices, key))

    # ── the runs of trials ──────────────────────────────────────────────────────────────────

    def config(self, overrides: Point | None = None) -> DictConfig:
        """Return the run of a trial, or the base run, without the study's options."""
        tree = deepcopy(self._run(overrides or {})[0])
        with open_dict(tree):
            for key, text in (overrides or {}).items():
                if key not in self._groups:
                    OmegaConf.update(tree, key, value_of(text), merge=False)
        return tree

    def _run(self, overrides: Point) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a run with only the groups of a trial; return it and the choice of each group."""
        groups = {key: text for key, text in overrides.items() if key in self._groups}
        if groups and not {"data", "experiment"} & set(groups) and self.choices.get("data"):
            groups["data"] = text_of(self.choices["data"])
        return self._composed(*sorted(f"{group}={text}" for group, text in groups.items()))

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
            self._given.values(),
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
        source, choices = Composer("train", self.config_dir), self._run(overrides)[1]
        kept = [word for word in self.words if _root(word) not in _OF_STUDY]
        groups: list[str] = []
        tree = source.tree(kept)
        for group in GROUPS:
            if choices.get(group) not in (None, tree.hydra.runtime.choices.get(group)):
                kept = [word for word in kept if _root(word) != group]
                groups.append(f"{group}={text_of(choices[group])}")
                tree = source.tree([*kept, *groups])
        have = _essential(without_hydra(tree))
        changes = list(_changes(have, _essential(self.config(overrides))))
        changes.sort(key=lambda change: change[0] != "~")
        values = [
            f"~{key}" if sign == "~" else f"{sign}{key}={text_of(value)}"
            for sign, key, value in changes
        ]
        changed = {key for _, key, _ in changes}
        words = [*(word for word in kept if key_of(word) not in changed), *groups, *values]
        self._require_same(source.tree(words), overrides)
        return words if self.config_dir is None else [f"--config-dir={self.config_dir}", *words]

    def winner_yaml(self, overrides: Point, name: str) -> str:
        """Return the YAML of an experiment that composes to a trial, named `name`.

        Raises RuntimeError if the YAML does not compose to the trial's run.
        """
        chosen = self._run(overrides)[1]
        source = Composer("train")
        groups = [group for group in GROUPS if chosen.get(group) in source.choices(group)]
        tree = source.tree([f"{group}={text_of(chosen[group])}" for group in groups])
        choices = {group: tree.hydra.runtime.choices.get(group) for group in GROUPS}
        have, want = _essential(without_hydra(tree)), _essential(self.config(overrides))
        for group in GROUPS:
            if not _is_within(have.get(group), want.get(group)):
                choices[group] = None  # no shipped file has these keys, so all are written
                have[group] = {}
        content = OmegaConf.create({"name": name})
        for _, key, value in _changes(have, want):
            OmegaConf.update(content, key, value, force_add=True)
        lines = ["# @package _global_", "# The best trial of a study, as a run.", "defaults:"]
        lines += [f"  - override /{group}: {text_of(choice)}" for group, choice in choices.items()]
        text = "\n".join(lines) + "\n\n" + OmegaConf.to_yaml(content)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "experiment" / "again.yaml"
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
            again = Composer("train", folder).tree(["experiment=again"])
        self._require_same(again, overrides)
        return text

    def _require_same(self, tree: DictConfig, overrides: Point) -> None:
        found = differences(plain(without_hydra(tree)), plain(self.config(overrides)))
        left = [str(one) for one in found if one.key.partition(".")[0] not in NO_EFFECT]
        if left:
            raise RuntimeError(f"the run can't be written as a command: {'; '.join(left)}")


def _root(word: str) -> str:
    return key_of(word).partition(".")[0].partition("@")[0]


def _essential(tree: DictConfig) -> dict[str, Any]:
    """Return the keys of a run on which its result depends, with unresolved references."""
    values = as_written(tree)
    return {key: value for key, value in values.items() if key not in (*NO_EFFECT, "trust")}


def _changes(
    have: Mapping[str, Any], want: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield sign (`~`, `++` or none), key and value of an override for each difference."""
    for name in dict.fromkeys([*want, *have]):
        key, old, new = f"{prefix}{name}", have.get(name), want.get(name)
        if name not in want:
            yield "~", key, None
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{key}.")
        elif name not in have or type(old) is not type(new) or old != new:
            yield "" if name in have else "++", key, new


def _is_within(have: object, want: object) -> bool:
    """Return whether overriding values can make a section equal to another of the same class."""
    if not isinstance(have, Mapping) or not isinstance(want, Mapping):
        return have == want
    changes = _changes(have, want)
    return have.get(TARGET) == want.get(TARGET) and not any(
        sign == "~" or isinstance(value, Mapping) for sign, _, value in changes
    )


# Checks, which need torch.


def value_problems(space: Space, trials: TrialConfigs) -> list[str]:
    """Return a line for each end of a range, and each choice, that its key does not allow."""
    base = _problems_at({}, trials)
    problems = []
    for when in sorted({one.when for one in space.parameters if one.when is not None}, key=str):
        if when.key not in trials.choices:
            found = _problems_at({when.key: when.text}, trials)
            own = [line for line in found if line.startswith(f"{when.key}=") and line not in base]
            problems += [f"sweep.when.{when}: {line}" for line in own]
    for parameter in space.parameters:
        for point in [] if space.is_idle(parameter) else _points_around(parameter, space):
            before = [*base, *_problems_at(point, trials)] if point else base
            for text in parameter.ends():
                found = _problems_at({**point, parameter.key: text}, trials)
                new = (line for line in found if line not in before)
                problems += [_placed(parameter, line, point) for line in new]
    return list(dict.fromkeys(problems))


def _problems_at(point: Point, trials: TrialConfigs) -> list[str]:
    try:
        check(trials.config(point))
    except ConfigError as error:
        return list(error.problems)
    return []


def _points_around(parameter: Range, space: Space) -> list[Point]:
    """Return points at which a parameter is varied, one for each choice of its key's group."""
    given = _met(parameter.when, space)
    group = parameter.key.partition(".")[0]
    varied = [one for one in space.parameters if one.key == group != parameter.key]
    if group in given or not varied:
        return [given]
    return [
        {**_met(one.when, space), **given, group: text} for one in varied for text in one.choices
    ]


def _met(when: Condition | None, space: Space) -> dict[str, str]:
    """Return the choices with which a condition holds, and the conditions it depends on."""
    if when is None:
        return {}
    outer = next((one.when for one in space.parameters if one.key == when.key), None)
    return {**_met(outer, space), when.key: when.text}


def _placed(parameter: Range, line: str, around: Point) -> str:
    key = parameter.key.partition(".")[0]
    place = parameter.override
    if parameter.when is None and key in around and key != parameter.key:
        place = f"{place} where {key}={around[key]}"
    whole = parameter.kind == "float" and "expected a whole number" in line
    return f"{place}: {line}{f' Write int({parameter}).' if whole else ''}"


def device_problems(space: Space, trials: TrialConfigs, *, devices_per_trial: int) -> list[str]:
    """Return a line for each setting of devices or nodes that suits only a single run."""
    problems: list[str] = []
    for point in ({}, *space.extreme_points()):
        with suppress(ConfigError, OmegaConfBaseException):  # which is reported elsewhere
            tree = trials.config(point)
            devices, nodes = (value_at(tree, {}, f"trainer.{k}") for k in ("devices", "num_nodes"))
            count = len(devices) if isinstance(devices, list) else devices
            several = isinstance(count, int) and count != devices_per_trial
            if several and devices_per_trial > 1:
                problems.append(
                    f"trainer.devices={devices} and sweep.devices_per_trial={devices_per_trial} "
                    "are in conflict; remove trainer.devices"
                )
            elif several and count > 1:
                problems.append(
                    f"trainer.devices={devices} is for a single run; in a study, "
                    f"sweep.devices_per_trial={count} sets the devices of each trial, and "
                    "CUDA_VISIBLE_DEVICES the GPUs of all trials"
                )
            if isinstance(nodes, int) and nodes > 1:
                problems.append(
                    f"trainer.num_nodes={nodes} is for a single run; a trial of a study trains on "
                    "one machine: trainer.num_nodes=1"
                )
    return list(dict.fromkeys(problems))
