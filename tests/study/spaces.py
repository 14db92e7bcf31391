"""A study's space as a command line gives it, read as the command reads it."""

from functools import cache
from pathlib import Path

from pipeline.base.errors import ConfigError
from pipeline.config.name_check import check_names
from pipeline.config.options import SweepConfig
from pipeline.study.space.space import Space, with_space
from pipeline.study.space.space_reading import names_of_study, read_space
from pipeline.study.space.trial_configs import TrialConfigs


def checked(*words: str, config_dir: Path | None = None) -> list[str]:
    """Return a sweep's overrides as Hydra is given them."""
    lines, _ = check_names(
        with_space(words),
        config_name="sweep",
        config_dir=config_dir,
        options=SweepConfig,
        more_names=names_of_study,
    )
    return lines


@cache
def study(*words: str) -> tuple[Space, TrialConfigs]:
    """Return the space of a command line, and the runs of its trials."""
    trials = TrialConfigs(checked(*words), None)
    return read_space(trials), trials


def problems(*words: str) -> list[str]:
    """Return the lines of a command line that is refused."""
    try:
        checked(*words)
    except ConfigError as error:
        return list(error.problems)
    raise AssertionError("nothing was refused")


def cases(table: str) -> list[tuple[list[str], list[str]]]:
    """Read a table: words of a command line, two spaces apart, and below them lines with a dash."""
    pairs = []
    for block in table.strip().split("\n\n"):
        words, *lines = block.split("\n- ")
        pairs.append((words.split("  "), [" ".join(line.split()) for line in lines]))
    return pairs
