"""The runs of a study's trials: composed, checked, and written as a command or an experiment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.config.check import check
from pipeline.config.compose import Composer, without_hydra
from pipeline.config.overrides import key_of
from pipeline.config.record import as_written, differences, plain
from pipeline.config.values import TARGET
from pipeline.errors import ConfigError
from pipeline.study.space.ranges import OFF, text_of, value_of
from pipeline.study.space.space import Condition, Parameter, Space, value_at

GROUPS = ("model", "data", "optimizer", "scheduler")
"""Groups whose choice decides which keys there are; the model first, since it may bring data."""
NO_EFFECT = ("format", "name", "output", "tags", "verbose", "tracking")
"""Keys on which no result depends."""
_OF_STUDY = ("sweep", "sweeps", "name", "tags", "verbose")
"""Words of a study that a single run does not get."""
Point = Mapping[str, str]
"""Hydra's texts by key or group, as a `Space` gives them."""


class TrialConfigs:
    """Composes the run of a trial as Hydra would, in a few milliseconds.

    The data are pinned: a model that brings data of its own does not change those of the study.

    Args:
        words: The overrides of the study's command line, its ranges left in `sweep.space`.
        config_dir: A folder of the user's own YAML.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        self.words = list(words)
        self.config_dir = config_dir
        self.source = Composer("sweep", config_dir)
        self._groups = self.source.groups()
        self._runs: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}
        self.choices = self._run({})[1]

    def base(self) -> DictConfig:
        """Return the run that the study varies, without the study."""
        return self.config({})

    def config(self, overrides: Point) -> DictConfig:
        """Return the run of a trial.

        Raises:
            ConfigError: Hydra or OmegaConf refuses.
        """
        tree = deepcopy(self._run(overrides)[0])
        with open_dict(tree):
            for key, text in overrides.items():
                if key not in self._groups:
                    OmegaConf.update(tree, key, value_of(text), merge=False)
        return tree

    def _run(self, overrides: Point) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a run with the groups of a trial alone; return the choice of each group too."""
        groups = {key: text for key, text in overrides.items() if key in self._groups}
        if groups and not {"data", "experiment"} & set(groups) and self.choices.get("data"):
            groups["data"] = text_of(self.choices["data"])
        lines = tuple(sorted(f"{group}={text}" for group, text in groups.items()))
        if lines not in self._runs:
            tree = self.source.tree([*self.words, *lines])
            choices = dict(tree.hydra.runtime.choices)
            with open_dict(tree):
                del tree["sweep"]
            self._runs[lines] = without_hydra(tree), choices
        return self._runs[lines]

    def train_words(self, overrides: Point) -> list[str]:
        """Return the words with which `python -m pipeline.train` trains a trial.

        Output and tracking are those of the study's command line; its name, tags and verbosity are
        left out.

        Raises:
            RuntimeError: No words compose to its run.
        """
        source, choices = Composer("train", self.config_dir), self._run(overrides)[1]
        kept = [word for word in self.words if _root(word) not in _OF_STUDY]
        groups: list[str] = []
        for group in GROUPS:
            have = source.tree([*kept, *groups]).hydra.runtime.choices
            if choices.get(group) not in (None, have.get(group)):
                kept = [word for word in kept if _root(word) != group]
                groups.append(f"{group}={text_of(choices[group])}")
        have = _essential(without_hydra(source.tree([*kept, *groups])))
        changes = list(_changes(have, _essential(self.config(overrides))))
        changes.sort(key=lambda change: change[0] != "~")
        values = [
            f"~{key}" if sign == "~" else f"{sign}{key}={text_of(value)}"
            for sign, key, value in changes
        ]
        changed = {key for _, key, _ in changes}
        words = [*(word for word in kept if key_of(word) not in changed), *groups, *values]
        self._require_same(without_hydra(source.tree(words)), overrides)
        return words if self.config_dir is None else [f"--config-dir={self.config_dir}", *words]

    def winner_yaml(self, overrides: Point, name: str) -> str:
        """Return an experiment that composes to a trial, for `<folder>/experiment/<name>.yaml`.

        Raises:
            RuntimeError: No experiment composes to its run.
        """
        chosen = self._run(overrides)[1]
        source = Composer("train")
        groups = [group for group in GROUPS if chosen.get(group) in source.choices(group)]
        tree = source.tree([f"{group}={text_of(chosen[group])}" for group in groups])
        choices = {group: tree.hydra.runtime.choices.get(group) for group in GROUPS}
        have = _essential(without_hydra(tree))
        want = _essential(self.config(overrides))
        for group in GROUPS:
            if not _is_within(have.get(group), want.get(group)):
                choices[group] = None  # nothing that ships has these keys: all of them are written
                have[group] = {}
        content: dict[str, Any] = {"name": name}
        for _, key, value in _changes(have, want):
            *sections, last = key.split(".")
            node = content
            for section in sections:
                node = node.setdefault(section, {})
            node[last] = value
        lines = ["# @package _global_", "# The best trial of a study, as a run.", "defaults:"]
        lines += [f"  - override /{group}: {text_of(choice)}" for group, choice in choices.items()]
        text = "\n".join(lines) + "\n\n" + OmegaConf.to_yaml(OmegaConf.create(content))
        with TemporaryDirectory() as folder:
            file = Path(folder) / "experiment" / "again.yaml"
            file.parent.mkdir()
            file.write_text(text, encoding="utf-8")
            again = Composer("train", folder).tree(["experiment=again"])
            self._require_same(without_hydra(again), overrides)
        return text

    def _require_same(self, tree: DictConfig, overrides: Point) -> None:
        found = differences(plain(tree), plain(self.config(overrides)))
        left = [str(one) for one in found if one.key.partition(".")[0] not in NO_EFFECT]
        if left:
            raise RuntimeError(f"the run can't be said again: {'; '.join(left)}")


def _root(word: str) -> str:
    return key_of(word).partition(".")[0].partition("@")[0]


def _essential(tree: DictConfig) -> dict[str, Any]:
    """Return the keys of a run on which its result depends, references as they are written."""
    values = as_written(tree)
    return {key: value for key, value in values.items() if key not in (*NO_EFFECT, "trust")}


def _changes(
    have: Mapping[str, Any], want: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield the sign of an override (`~`, `++` or none), its key and value, for each difference."""
    for name in dict.fromkeys([*want, *have]):
        key, old, new = f"{prefix}{name}", have.get(name), want.get(name)
        if name not in want:
            yield "~", key, None
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{key}.")
        elif name not in have or type(old) is not type(new) or old != new:
            yield "" if name in have else "++", key, new


def _is_within(have: object, want: object) -> bool:
    """Tell whether values given to one section make it equal to another of the same class."""
    if not isinstance(have, Mapping) or not isinstance(want, Mapping):
        return have == want
    changes = _changes(have, want)
    return have.get(TARGET) == want.get(TARGET) and not any(
        sign == "~" or isinstance(value, Mapping) for sign, _, value in changes
    )


# Checks. They need torch.


def value_problems(space: Space, trials: TrialConfigs) -> list[str]:
    """Return a line for each end of a range, and each choice, that its key does not allow.

    Values are looked at one at a time, the rest of the config as it stands; what is wrong without
    them is not reported here.

    Args:
        space: The space of a study.
        trials: Composes its runs.
    """
    base = _problems_at({}, trials)
    problems = list(_condition_problems(space, base, trials))
    for parameter in space.parameters:
        for point in [] if space.is_idle(parameter) else _points_around(parameter, space):
            before = [*base, *_problems_at(point, trials)] if point else base
            for text in _ends(parameter):
                found = _problems_at({**point, parameter.key: text}, trials)
                problems += [
                    _placed(parameter, line, point) for line in found if line not in before
                ]
    return list(dict.fromkeys(problems))


def _problems_at(point: Point, trials: TrialConfigs) -> list[str]:
    try:
        check(trials.config(point))
    except ConfigError as error:
        return list(error.problems)
    return []


def _ends(parameter: Parameter) -> list[str]:
    if parameter.kind == "choice":
        return list(parameter.choices)
    ends = [parameter.text(parameter.low), parameter.text(parameter.high)]
    return [OFF, *ends] if parameter.off else ends


def _points_around(parameter: Parameter, space: Space) -> Iterator[Point]:
    """Yield points at which a parameter is varied, one for each choice that decides its keys."""
    given = _met(parameter.when, space)
    group = parameter.key.partition(".")[0]
    varied = [one for one in space.parameters if one.key == group != parameter.key]
    if group in given or not varied:
        yield given
        return
    for one in varied:
        for text in one.choices:
            yield {**_met(one.when, space), **given, group: text}


def _met(when: Condition | None, space: Space) -> dict[str, str]:
    """Return what must be chosen for a condition to hold, and for those it depends on."""
    if when is None:
        return {}
    outer = next((one.when for one in space.parameters if one.key == when.key), None)
    return {**_met(outer, space), when.key: when.text}


def _condition_problems(space: Space, base: list[str], trials: TrialConfigs) -> Iterator[str]:
    """Yield what is wrong with the values of keys that conditions name."""
    conditions = {one.when for one in space.parameters if one.when is not None}
    for when in sorted(conditions, key=str):
        if when.key not in trials.choices:
            for line in _problems_at({when.key: when.text}, trials):
                if line.startswith(f"{when.key}=") and line not in base:
                    yield f"sweep.when.{when}: {line}"


def _placed(parameter: Parameter, line: str, around: Point) -> str:
    key = parameter.key.partition(".")[0]
    place = f"{parameter.place}={parameter}"
    if parameter.when is None and key in around and key != parameter.key:
        place = f"{place} where {key}={around[key]}"
    whole = parameter.kind == "float" and "expected a whole number" in line
    return f"{place}: {line}{f' Write int({parameter}).' if whole else ''}"


def words_of_devices(config: DictConfig, words: Sequence[str]) -> list[str]:
    """Return the overrides by which every trial trains on several devices, where that is asked for.

    Args:
        config: The composed tree of the sweep.
        words: The overrides that it came from; what they say of devices stays.
    """
    together = config.sweep.devices_per_trial
    if not isinstance(together, int) or together < 2:
        return []
    given = {word.partition("=")[0] for word in words}
    ours = {"trainer.devices": str(together), "trainer.strategy": "ddp"}
    return [f"{key}={value}" for key, value in ours.items() if key not in given]


def device_problems(space: Space, trials: TrialConfigs, *, devices_per_trial: int) -> list[str]:
    """Return a line for each way in which a trial would take the devices of a single run.

    Args:
        space: The space of a study.
        trials: Composes its runs.
        devices_per_trial: Devices that train one trial together.
    """
    problems: list[str] = []
    for point in ({}, *space.extreme_points()):
        with suppress(ConfigError, OmegaConfBaseException):  # which is reported elsewhere
            tree = trials.config(point)
            devices, nodes = (value_at(tree, {}, f"trainer.{k}") for k in ("devices", "num_nodes"))
            problems += _device_problems(devices, nodes, devices_per_trial)
    return list(dict.fromkeys(problems))


def _device_problems(devices: object, nodes: object, together: int) -> Iterator[str]:
    count = len(devices) if isinstance(devices, list) else devices
    if isinstance(count, int) and together > 1 and count != together:
        yield (
            f"trainer.devices={devices} and sweep.devices_per_trial={together} contradict each "
            "other; leave trainer.devices away"
        )
    elif isinstance(count, int) and count > 1 and count != together:
        yield (
            f"trainer.devices={devices} is for a single run; in a study "
            f"sweep.devices_per_trial={count} lets so many devices train each trial together, and "
            "CUDA_VISIBLE_DEVICES says which GPUs its trials may take"
        )
    if isinstance(nodes, int) and nodes > 1:
        yield (
            f"trainer.num_nodes={nodes} is for a single run; a trial of a study trains on one "
            "machine: trainer.num_nodes=1"
        )
