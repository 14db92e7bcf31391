"""The run of each trial, composed as Hydra would, in a few milliseconds."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.config.compose import composer, with_name
from pipeline.study.space.run_words import RunWords
from pipeline.study.space.texts import text_of, value_of

Choices = tuple[tuple[str, str], ...]


class Trees:
    """Composes the run of a trial.

    The data are pinned: a model that brings data of its own does not change those of the study.

    Args:
        words: The overrides of the study's command line, its ranges left in `sweep.space`.
        config_dir: A folder of the user's own YAML.
    """

    def __init__(self, words: Sequence[str], config_dir: str | None) -> None:
        self.words = list(words)
        self.config_dir = config_dir
        with composer("sweep", None if config_dir is None else Path(config_dir)) as source:
            self.source = source
        self._composed: dict[Choices, DictConfig] = {}
        tree = self.source.tree(self.words)
        self.choices: dict[str, Any] = dict(tree.hydra.runtime.choices)
        self._groups = self.source.groups()
        self._composed[()] = self._run(tree)

    def base(self) -> DictConfig:
        """Return the run that the study varies, without the study."""
        return deepcopy(self._composed[()])

    def config(self, overrides: Mapping[str, str]) -> DictConfig:
        """Return the run of a trial.

        Args:
            overrides: Hydra's texts by key or group, as a `Space` gives them.

        Raises:
            ConfigError: Hydra or OmegaConf refuses.
        """
        groups = {key: text for key, text in overrides.items() if key in self._groups}
        tree = deepcopy(self._tree(tuple(sorted(groups.items()))))
        with open_dict(tree):
            for key, text in overrides.items():
                if key not in groups:
                    OmegaConf.update(tree, key, value_of(text), merge=False)
        return tree

    def _tree(self, groups: Choices) -> DictConfig:
        if groups not in self._composed:
            lines = [f"{group}={text}" for group, text in self._with_data(dict(groups)).items()]
            self._composed[groups] = self._run(self.source.tree([*self.words, *lines]))
        return self._composed[groups]

    def _with_data(self, groups: dict[str, str]) -> dict[str, str]:
        data = self.choices.get("data")
        brings_its_own = "data" in groups or "experiment" in groups or data is None
        return groups if brings_its_own else {**groups, "data": text_of(data)}

    def _run(self, tree: DictConfig) -> DictConfig:
        hydra = tree.hydra
        with open_dict(tree):
            del tree["sweep"], tree["hydra"]
        return with_name(tree, hydra)

    def train_words(self, config: Mapping[str, Any]) -> list[str]:
        """Return the words for `python -m pipeline.train` that compose to a config.

        Its name, tags, output, tracking and verbosity are those of the study's command line.

        Args:
            config: A run as plain values.
        """
        return RunWords(self.config_dir).words(config, self.words)

    def winner_yaml(self, config: Mapping[str, Any], name: str) -> str:
        """Return an experiment that composes to a config, for `<folder>/experiment/<name>.yaml`.

        Args:
            config: A run as plain values.
            name: The run's name in it.
        """
        return RunWords(None).yaml(config, name)
