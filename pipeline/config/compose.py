"""The tree of a run, composed by Hydra: for notebooks, tests and the check of names."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
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
    choices = dict(tree.hydra.runtime.choices)
    with open_dict(tree):
        del tree["hydra"]
    return with_name(tree, choices)


def with_name(tree: DictConfig, choices: dict[str, Any]) -> DictConfig:
    """Name a run that has no name after its model and its data, by their short names."""
    if "name" in tree and OmegaConf.to_container(tree, resolve=False)["name"] is None:  # type: ignore[index,call-overload] # a mapping
        words = [str(choices[group]) for group in ("model", "data") if choices.get(group)]
        tree.name = "-".join(words).replace("/", "-") or None
    return tree


def composition_problem(error: BaseException) -> str:
    """Return one line for whatever Hydra or OmegaConf raised, with its cause."""
    texts = [str(error), str(error.__cause__ or "")]
    words = [line.strip() for text in texts for line in text.splitlines()[:2] if line.strip()]
    left_out = ("full_key:", "object_type=", "To append to your config")
    words = [word.rstrip(".") for word in words if not word.startswith(left_out)]
    return ": ".join(dict.fromkeys(words)) or type(error).__name__
