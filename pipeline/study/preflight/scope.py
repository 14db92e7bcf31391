"""How far a preflight looks: what its command line leaves open, of all that the config holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.config.compose import Composer, composer
from pipeline.config.options import SweepOptions
from pipeline.errors import ConfigError
from pipeline.study.ledger.definition import read_options
from pipeline.study.space.grammar import read_range
from pipeline.study.space.surroundings import Surroundings
from pipeline.study.space.trees import Trees

GROUPS = ("model", "data", "experiment")
"""Groups of which a preflight tries every choice."""
PREFLIGHT = "preflight"
_LEFT_OUT = ("sweeps", "sweep.space", "sweep.preflight", "sweep.preflight_skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a preflight tries.

    Args:
        words: The overrides of its command line that are for every run.
        config_dir: A folder of the user's own YAML.
        trees: Composes runs from these words.
        options: How the preflight itself is done.
        choices: The choices of each group of `GROUPS` that are tried.
        fixed: Groups whose choice stands among the words.
        limited: Groups of which the command line names some choices, or one.
        files: Files of `sweeps/`.
    """

    words: Sequence[str]
    config_dir: str | None
    trees: Trees
    options: SweepOptions
    choices: Mapping[str, Sequence[str]]
    fixed: frozenset[str]
    limited: frozenset[str]
    files: Sequence[str]

    @property
    def models(self) -> Sequence[str]:
        """The models that are tried."""
        return self.choices["model"]

    @property
    def data(self) -> Sequence[str]:
        """The data sets that are tried."""
        return self.choices["data"]

    @property
    def experiments(self) -> Sequence[str]:
        """The experiments that are tried as they are: none where the line says of what."""
        return self.choices["experiment"] if not self.limited - {"experiment"} else ()

    def left_open(self, **groups: str) -> dict[str, str]:
        """Return those of these choices that the words leave open."""
        return {group: choice for group, choice in groups.items() if group not in self.fixed}

    def skips(self, pair: str) -> bool:
        """Tell whether a pair, `model=MODEL data=DATA`, is known not to fit."""
        return any(set(pair.split()) == set(one.split()) for one in self.options.preflight_skip)


def scope_of(words: Sequence[str], config_dir: str | None) -> Scope:
    """Return what the command line of a preflight leaves open.

    Args:
        words: Its overrides.
        config_dir: A folder of the user's own YAML.

    Raises:
        ConfigError: It can't be composed, has wrong options of a study, or a range of a key.
    """
    with composer("sweep", None if config_dir is None else Path(config_dir)) as source:
        around = Surroundings(source, words)
    tree = around.tree()
    ranges = _ranges(tree, around.on_the_line())
    kept = [word for word in words if _key(word) not in (*_LEFT_OUT, *ranges)]
    fixed = _fixed(kept)
    trees = Trees(kept, config_dir)
    files = [file for file in around.sweep_files() if file != PREFLIGHT]
    return Scope(
        words=kept,
        config_dir=config_dir,
        trees=trees,
        options=read_options(tree),
        choices={group: _choices(group, source, trees, ranges, fixed) for group in GROUPS},
        fixed=fixed,
        limited=fixed | frozenset(ranges),
        files=files or source.choices("sweeps"),
    )


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _ranges(tree: DictConfig, on_the_line: Iterable[str]) -> dict[str, list[str]]:
    """Return the choices of each group that the command line gives several of."""
    ranges: dict[str, list[str]] = {}
    problems = []
    for key in on_the_line:
        text = tree.sweep.space[key]
        if key not in GROUPS:
            problems.append(
                f"{key}={text}: a preflight tries the ranges of sweeps/; write a file there with "
                "this one, or leave it away."
            )
            continue
        try:
            ranges[key] = list(read_range(text).choices)
        except ConfigError as error:
            problems += [f"{key}={text}: {problem}." for problem in error.problems]
    if problems:
        raise ConfigError(*problems)
    return ranges


def _fixed(words: Sequence[str]) -> frozenset[str]:
    fixed = frozenset(GROUPS) & {_key(word) for word in words}
    return fixed | {"model", "data"} if "experiment" in fixed else fixed


def _choices(
    group: str,
    source: Composer,
    trees: Trees,
    ranges: Mapping[str, Sequence[str]],
    fixed: frozenset[str],
) -> Sequence[str]:
    if group in ranges:
        return ranges[group]
    if group in fixed:
        return [str(trees.choices[group])]
    choices = source.choices(group)
    return choices if group == "model" else [one for one in choices if _is_whole(trees, group, one)]


def _is_whole(trees: Trees, group: str, choice: str) -> bool:
    """Tell whether a choice needs nothing from the user, such as the path of a file."""
    try:
        return not OmegaConf.missing_keys(trees.config({group: choice}))
    except ConfigError:  # a preflight is there to tell of it
        return True
