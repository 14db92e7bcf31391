"""The run of a trial as other things: words of `pipeline train`, and the YAML of an experiment."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import without_hydra
from pipeline.config.composer import Composer
from pipeline.config.overrides import key_of
from pipeline.config.plain import as_written, differences, plain
from pipeline.config.targets import TARGET
from pipeline.study.space.ranges import text_of
from pipeline.study.space.trial_configs import Point, TrialConfigs

#: Groups whose choice decides which keys exist; the model first, since it may choose the data.
GROUPS = ("model", "data", "optimizer", "scheduler")
#: Keys on which no result depends, and keys of a study that a single run does not get.
NO_EFFECT = ("format", "name", "output", "tags", "verbose", "details", "tracking")
_OF_STUDY = ("sweep", "sweeps", "name", "tags", "verbose", "details")


def train_words(configs: TrialConfigs, overrides: Point) -> list[str]:
    """Return the words with which `pipeline train` trains a trial.

    Output and tracking are those of the study's command line; its name, tags and verbosity are
    left out. Raises RuntimeError if the words do not compose to the trial's run.
    """
    source = Composer("train", configs.config_dir)
    _, choices = configs.run_with_groups(overrides)
    words = [word for word in configs.words if _root(word) not in _OF_STUDY]
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
    for sign, key, value in _changes(before, _essential(configs.config(overrides))):
        changed_keys.add(key)
        if sign == "~":
            removals.append(f"~{key}")
        else:
            values.append(f"{sign}{key}={text_of(value)}")
    words = [word for word in words if key_of(word) not in changed_keys]
    words += [*groups, *removals, *values]
    _require_same(source.tree(words), configs, overrides)
    return words if configs.config_dir is None else [f"--config-dir={configs.config_dir}", *words]


def winner_yaml(configs: TrialConfigs, overrides: Point, name: str) -> str:
    """Return the YAML of an experiment that composes to a trial, named `name`.

    Raises RuntimeError if the YAML does not compose to the trial's run.
    """
    _, trial_choices = configs.run_with_groups(overrides)
    source = Composer("train")
    words = []
    for group in GROUPS:
        if trial_choices.get(group) in source.choices(group):
            words.append(f"{group}={text_of(trial_choices[group])}")
    tree = source.tree(words)
    choices = tree.hydra.runtime.choices
    values = _essential(without_hydra(tree))
    trial_values = _essential(configs.config(overrides))
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
    _require_same(read_again, configs, overrides)
    return text


def _require_same(tree: DictConfig, configs: TrialConfigs, overrides: Point) -> None:
    lines = []
    for difference in differences(plain(without_hydra(tree)), plain(configs.config(overrides))):
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
