"""A study's space as a command line gives it, read as the command reads it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config import compose
from pipeline.config.options import SweepConfig
from pipeline.errors import ConfigError
from pipeline.study.space.space import Space, with_space
from pipeline.study.space.trial_configs import TrialConfigs, names_of_study


def checked(*words: str, config_dir: Path | None = None) -> list[str]:
    """Return a sweep's overrides as Hydra is given them."""
    lines, _ = compose.checked(
        with_space(words),
        config_name="sweep",
        config_dir=config_dir,
        options=SweepConfig,
        more=names_of_study,
    )
    return lines


def study(*words: str) -> tuple[Space, TrialConfigs]:
    """Return the space of a command line, and the runs of its trials."""
    lines = checked(*words)
    trials = TrialConfigs(lines, None)
    return trials.read_space(), trials


def problems(*words: str) -> Sequence[str]:
    """Return the lines of a command line that is refused."""
    try:
        checked(*words)
    except ConfigError as error:
        return error.problems
    raise AssertionError("nothing was refused")


def problem(*words: str) -> str:
    """Return the only line of a command line that is refused."""
    (line,) = problems(*words)
    return line
