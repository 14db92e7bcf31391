"""The tree of a run, composed by Hydra: for notebooks, tests and the check of names."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from pipeline.config.options import RunConfig
from pipeline.errors import ConfigError
from pipeline.paths import conf_folder

_SAID_BY_HYDRA = ("name", "config_name", "override_dirname")
LONGEST_NAME = 56
"""Letters of a name that the program makes up; that of a trial has its number behind it."""


class Composer:
    """Composes one root file with any overrides.

    Args:
        loader: Hydra's own.
        config_name: The root file, without `.yaml`.
        config_dir: A folder of the user's own YAML; `None` = only what ships.
    """

    def __init__(self, loader: ConfigLoader, config_name: str, config_dir: Path | None) -> None:
        self._loader = loader
        self.config_name = config_name
        self._search = [] if config_dir is None else [_search_path(config_dir)]

    def groups(self) -> list[str]:
        """Return the names of the config groups, Hydra's own left out."""
        found = self._loader.get_group_options(
            "", ObjectType.GROUP, config_name=self.config_name, overrides=self._search
        )
        return sorted(group for group in found if group != "hydra")

    def choices(self, group: str) -> list[str]:
        """Return the choices of a group."""
        return sorted(
            self._loader.get_group_options(
                group, config_name=self.config_name, overrides=self._search
            )
        )

    def changed_hydra(self, tree: DictConfig, lines: Sequence[str]) -> list[str]:
        """Return Hydra's own settings in which a composed tree differs from what ships."""
        shipped = self._loader.load_configuration(self.config_name, [], RunMode.RUN)
        expected = {**_settings(shipped), "overrides": [*self._search, *lines]}
        found = _settings(tree)
        return sorted(key for key in {*expected, *found} if found.get(key) != expected.get(key))

    def tree(self, lines: Sequence[str]) -> DictConfig:
        """Compose the root with overrides; `hydra` stands in it too.

        Raises:
            ConfigError: Hydra or OmegaConf refuses.
        """
        try:
            return self._loader.load_configuration(
                self.config_name, [*self._search, *lines], RunMode.RUN
            )
        except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
            raise ConfigError(composition_problem(error)) from error


def _settings(tree: DictConfig) -> dict[str, Any]:
    """Return Hydra's own settings but for those that it fills in itself."""
    content = OmegaConf.to_container(tree.hydra, resolve=False)
    assert isinstance(content, dict)
    settings = {str(key): value for key, value in content.items()}
    del settings["runtime"], settings["searchpath"]
    settings["job"] = {k: v for k, v in settings["job"].items() if k not in _SAID_BY_HYDRA}
    settings["overrides"] = [*settings["overrides"]["hydra"], *settings["overrides"]["task"]]
    return settings


@contextmanager
def composer(config_name: str, config_dir: Path | None = None) -> Iterator[Composer]:
    """Give a composer, Hydra's global state cleared before and after."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base=None):
            loader = GlobalHydra.instance().config_loader()
            yield Composer(loader, config_name, config_dir)
    finally:
        GlobalHydra.instance().clear()


def _search_path(folder: Path) -> str:
    from pipeline.config.overrides import quoted

    return f"hydra.searchpath=[{quoted(f'file://{folder.absolute()}')}]"


def compose(
    overrides: Sequence[str] = (),
    *,
    config_name: str = "train",
    config_dir: Path | None = None,
    options: type[BaseModel] = RunConfig,
) -> DictConfig:
    """Return the composed tree of a run, its references not yet resolved.

    Args:
        overrides: As on a command line, such as `["model=lstm", "optimizer.lr=0.003"]`.
        config_name: The root file, without `.yaml`.
        config_dir: A folder of the user's own YAML, in groups as ours are.
        options: Which keys the tree may have.

    Raises:
        ConfigError: All wrong names, one line each.
    """
    from pipeline.config.names import checked_lines

    lines = checked_lines(
        overrides, config_name=config_name, config_dir=config_dir, options=options
    )
    with composer(config_name, config_dir) as source:
        tree = source.tree(lines)
    hydra = tree.hydra
    with open_dict(tree):
        del tree["hydra"]
    return with_name(tree, hydra)


def with_name(tree: DictConfig, hydra: DictConfig | HydraConf) -> DictConfig:
    """Name a run, and a study, that has no name, by the short names of what it is made of.

    A run is `<model>-<data>`; a study `<sweeps>-<model>-<data>`, without what it varies.

    Args:
        tree: A composed tree.
        hydra: What Hydra says of it.
    """
    choices = dict(hydra.runtime.choices)
    if _has_no_name(tree):
        tree.name = _joined([choices.get("model"), choices.get("data")])
    if isinstance(tree.get("sweep"), DictConfig) and _has_no_name(tree.sweep):
        kept = [choices.get(group) for group in _fixed_groups(tree.sweep)]
        tree.sweep.name = _joined([_sweeps(hydra) or "sweep", *kept])
    return tree


def _has_no_name(tree: DictConfig) -> bool:
    return "name" in tree and OmegaConf.to_container(tree, resolve=False)["name"] is None  # type: ignore[index,call-overload] # a mapping


def _joined(words: Sequence[object]) -> str | None:
    name = "-".join(str(word).replace("/", "-") for word in words if word)
    return name[:LONGEST_NAME].rstrip("-.") or None


def _fixed_groups(sweep: DictConfig) -> list[str]:
    space = sweep.get("space")
    varied = set(space) if isinstance(space, DictConfig) else set()
    return [group for group in ("model", "data") if not varied & {group, "experiment"}]


def _sweeps(hydra: DictConfig | HydraConf) -> str | None:
    """Return the chosen files of `sweeps/`; Hydra counts a list of them among no choices."""
    given = [str(word) for word in hydra.overrides.task if str(word).startswith("sweeps=[")]
    words = given[0].partition("=")[2] if given else hydra.runtime.choices.get("sweeps")
    return "-".join(re.findall(r"[\w.-]+", str(words))) if words else None


def composition_problem(error: BaseException) -> str:
    """Return one line for whatever Hydra or OmegaConf raised, with its cause."""
    texts = [str(error), str(error.__cause__ or "")]
    words = [line.strip() for text in texts for line in text.splitlines()[:2] if line.strip()]
    left_out = ("full_key:", "object_type=", "To append to your config")
    words = [word.rstrip(".") for word in words if not word.startswith(left_out)]
    return ": ".join(dict.fromkeys(words)) or type(error).__name__
