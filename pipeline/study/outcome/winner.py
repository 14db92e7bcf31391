"""How the best trial is trained again: its command, and an experiment of its own."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.config.overrides import quoted
from pipeline.paths import replace_text
from pipeline.redaction import redact_word

TRAIN = "python -m pipeline.train"


class WritesRuns(Protocol):
    """Says a run's config in words and as YAML; `TrialConfigs` does."""

    def train_words(self, overrides: Mapping[str, str]) -> list[str]:
        """Return the words that compose to this run."""

    def winner_yaml(self, overrides: Mapping[str, str], name: str) -> str:
        """Return the experiment that composes to this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """How the best trial is trained again.

    Args:
        number: The trial's.
        command: The whole command, its words quoted for a shell.
        yaml: An experiment that says the same.
        yaml_command: The command that finds this experiment.
    """

    number: int
    command: str
    yaml: Path
    yaml_command: str


def write_winner(
    overrides: Mapping[str, str], trees: WritesRuns, *, number: int, study: str, folder: Path
) -> Winner:
    """Write the winner's experiment below the study's folder and say both of its commands.

    Args:
        overrides: The winner's run, as Hydra's texts by key or group.
        trees: Says it in words and as YAML.
        number: The winner's.
        study: Name of the study; the experiment gets it too.
        folder: The study's; the YAML goes to `conf/experiment/` in it.
    """
    name = study.removesuffix(".yaml")
    # Once is enough: the study has registered it.
    words = [word for word in trees.train_words(overrides) if word != "register=null"]
    trusted = [word for word in words if word.startswith("trust=")]
    path = folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, trees.winner_yaml(overrides, name))
    return Winner(
        number=number,
        command=command(words),
        yaml=path,
        yaml_command=experiment_command(folder, name, *trusted),
    )


def experiment_command(folder: Path, name: str, *more: str) -> str:
    """Return the training command of an experiment in a study's folder, with further words."""
    return command([f"--config-dir={folder / 'conf'}", f"experiment={_word(name)}", *more])


def command(words: Sequence[str]) -> str:
    """Return the training command with these words, ready for a shell, secrets masked."""
    return f"{TRAIN} {shlex.join(map(redact_word, words))}".rstrip()


def _word(name: str) -> str:
    """Quote a name that Hydra would take for a number or a truth value."""
    return name if name[0].isalpha() and not _bends(name) else quoted(name)


def _bends(name: str) -> bool:
    return name.lower() in ("true", "false", "null", "inf", "nan")
