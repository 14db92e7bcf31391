"""Composing one root file of the configuration, with Hydra."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from pipeline.base.errors import ConfigError
from pipeline.base.paths import conf_folder
from pipeline.config.overrides import HYDRA, BoundedLoader, CheckedFiles, key_of, quoted
from pipeline.config.tree import node_at
from pipeline.config.values import written

_MAPPING = re.compile(r"[^=+~@]+=\{")
_SET_BY_HYDRA = ("name", "config_name", "override_dirname")
#: The root file of a single run, without `.yaml`.
RUN = "train"


class Composer:
    """Composes one root file, given without `.yaml`; clears Hydra's global state."""

    def __init__(self, config_name: str, config_dir: Path | str | None = None) -> None:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(conf_folder()), version_base=None):
            self._loader = GlobalHydra.instance().config_loader()
        GlobalHydra.instance().clear()
        self.config_name = config_name
        self.config_dir = config_dir
        self._search: list[str] = []
        if config_dir is not None:
            self._loader = BoundedLoader(self._loader.get_search_path())
            Plugins.instance().register(CheckedFiles)
            place = f"{CheckedFiles.scheme()}://{Path(config_dir).absolute()}"
            self._search.append(f"hydra.searchpath=[{quoted(place)}]")

    def groups(self) -> list[str]:
        """Return the names of the config groups, without Hydra's own."""
        groups = self._loader.get_group_options("", ObjectType.GROUP, overrides=self._search)
        return sorted(group for group in groups if group != HYDRA)

    def choices(self, group: str) -> list[str]:
        """Return the choices of a group."""
        return sorted(self._loader.get_group_options(group, overrides=self._search))

    def changed_hydra(self, tree: DictConfig, lines: Sequence[str]) -> list[str]:
        """Return the keys of Hydra's own settings that a tree changes against the shipped files."""
        lines = [*self.cleared(lines), *lines]
        shipped = self._loader.load_configuration(self.config_name, [], RunMode.RUN)
        expected = {**_settings(shipped), "overrides": [*self._search, *lines]}
        settings = _settings(tree)
        keys = sorted({*expected, *settings})
        return [key for key in keys if settings.get(key) != expected.get(key)]

    def tree(self, lines: Sequence[str]) -> DictConfig:
        """Compose the root file with overrides, `hydra` included; raises ConfigError on failure."""
        overrides = [*self._search, *self.cleared(lines), *lines]
        try:
            tree = self._loader.load_configuration(self.config_name, overrides, RunMode.RUN)
        except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
            raise ConfigError(composition_problem(error)) from error
        except RecursionError as error:
            if self.config_dir is None:
                raise
            raise ConfigError(
                f"the defaults lists in --config-dir {str(self.config_dir)!r} name too many files, "
                "or lead back to themselves; list each file once"
            ) from error
        if self.config_name == RUN:
            leave_out_study(tree)
        return tree

    def cleared(self, lines: Sequence[str]) -> list[str]:
        """Return `++key=null` for each key in which a mapping replaces a list.

        Hydra merges a mapping into the value of a key, and fails if that value is a list.
        """
        mappings = {key_of(line): line for line in lines if _MAPPING.match(line)}
        if not mappings:
            return []
        tree = self.tree([line for line in lines if line not in mappings.values()])
        lists = [key for key in mappings if isinstance(node_at(tree, key), ListConfig | list)]
        return [f"++{key}=null" for key in lists]


def _settings(tree: DictConfig) -> dict[str, Any]:
    """Return Hydra's own settings, except those that Hydra fills in itself."""
    settings = written(tree.hydra)
    del settings["runtime"], settings["searchpath"]
    for key in _SET_BY_HYDRA:
        settings["job"].pop(key, None)
    settings["overrides"] = [*settings["overrides"]["hydra"], *settings["overrides"]["task"]]
    return settings


def composition_problem(error: BaseException) -> str:
    """Return an error of Hydra or OmegaConf and its cause as one line."""
    left_out = ("full_key:", "object_type=", "To append to your config")
    sentences: list[str] = []
    for text in (str(error), str(error.__cause__ or "")):
        for line in text.splitlines()[:2]:
            sentence = line.strip()
            if sentence and not sentence.startswith(left_out):
                sentences.append(sentence.rstrip("."))
    return ": ".join(dict.fromkeys(sentences)) or type(error).__name__


def leave_out_study(run: DictConfig) -> None:
    """Remove the options of a study from a single run, whose experiment may have them."""
    with open_dict(run):
        run.pop("sweep", None)
