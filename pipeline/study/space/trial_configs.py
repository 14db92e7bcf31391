"""The config tree of a study, and the runs of its trials."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from pipeline.base.errors import ConfigError
from pipeline.config.command_only import problems_of_files
from pipeline.config.compose import leave_out_fixed, without_hydra
from pipeline.config.composer import Composer
from pipeline.config.options import SweepConfig
from pipeline.study.space.ranges import text_of, value_of
from pipeline.study.space.space import value_at

#: Hydra's texts by key or group, as a `Space` gives them.
Point = Mapping[str, str]


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
        #: Hydra's overrides of the command line, by key or group.
        self.overrides = {override.key_or_group: override for override in overrides}
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
    def groups(self) -> list[str]:
        """The config groups, without that of studies."""
        return [group for group in self.source.groups() if group != "sweeps"]

    @cached_property
    def trust(self) -> list[str]:
        """The packages that the command line trusts; no file can add one."""
        override = self.overrides.get("trust")
        value = None if override is None else override.value()
        # Reading from a config resolves references to the environment.
        packages = OmegaConf.create({"trust": value}).trust
        return list(map(str, packages)) if isinstance(packages, ListConfig) else []

    def varied_on_command_line(self) -> list[str]:
        """Return the keys whose range is given on the command line."""
        override = self.overrides.get("sweep.space")
        value = None if override is None else override.value()
        return list(map(str, value)) if isinstance(value, dict) else []

    def sweep_files(self) -> list[str]:
        """Return the names of the chosen files of `sweeps/`, without `.yaml`."""
        override = self.overrides.get("sweeps")
        value = self.choices.get("sweeps") if override is None else override.value()
        if not value:
            return []
        return list(map(str, value if isinstance(value, list) else [value]))

    def text_at(self, key: str) -> str:
        """Return the value of a key, or the choice of a group, before anything is varied."""
        return text_of(value_at(self.tree(), self.choices, key))

    def config(self, overrides: Point | None = None) -> DictConfig:
        """Return the run of a trial, or the base run, without the study's options."""
        overrides = overrides or {}
        tree = deepcopy(self.run_with_groups(overrides)[0])
        with open_dict(tree):
            for key, text in overrides.items():
                if key not in self.groups:
                    OmegaConf.update(tree, key, value_of(text), merge=False)
        return tree

    def run_with_groups(self, overrides: Point) -> tuple[DictConfig, dict[str, Any]]:
        """Compose a run with only the groups of a trial; return it and the choice of each group."""
        groups = {key: text for key, text in overrides.items() if key in self.groups}
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
            self.overrides.values(),
            config_name=self.source.config_name,
            options=SweepConfig,
            folder=Path(folder),
        )
        if lines := list(problems):
            raise ConfigError(*lines)
