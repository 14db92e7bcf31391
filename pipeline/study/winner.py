"""Which trials are best, and how the best of all is trained again."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.config.overrides import quoted
from pipeline.paths import replace_text
from pipeline.study.rows import Row

if TYPE_CHECKING:
    from pipeline.metrics import Direction

TRAIN = "python -m pipeline.train"


class WritesRuns(Protocol):
    """Says a run's config in words and as YAML; `Trees` does."""

    def train_words(self, config: Mapping[str, Any]) -> list[str]:
        """Return the words that compose to this config."""

    def winner_yaml(self, config: Mapping[str, Any], name: str) -> str:
        """Return the experiment that composes to this config."""


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


def best(rows: Sequence[Row], directions: Sequence["Direction"], k: int = 1) -> list[Row]:
    """Return the k best complete trials with finite values, the best first, ties by number.

    Under two objectives those on the Pareto front come first, in the order of the first
    objective, then those on the front of what is left, and so on.
    """
    left = _complete(rows)
    if len(directions) == 1:
        return sorted(left, key=lambda row: (_loss(row, directions), row.number))[:k]
    ordered: list[Row] = []
    while left and len(ordered) < k:
        front = pareto(left, directions)
        ordered += front
        numbers = {row.number for row in front}
        left = [row for row in left if row.number not in numbers]
    return ordered[:k]


def pareto(rows: Sequence[Row], directions: Sequence["Direction"]) -> list[Row]:
    """Return the trials that no other beats, in the order of the first objective.

    One trial beats another if it is no worse in both objectives and better in one. Of trials
    with the very same values the earliest stands for all.
    """
    front: list[Row] = []
    ordered = sorted(_complete(rows), key=lambda row: (*_loss(row, directions), row.number))
    for row in ordered:  # each is no better in the first objective than those before it
        if not front or _loss(row, directions)[1:] < _loss(front[-1], directions)[1:]:
            front.append(row)
    return front


def winner(rows: Sequence[Row], directions: Sequence["Direction"]) -> Row | None:
    """Return the trial to test and to train again; of a front, the best by the first objective."""
    found = best(rows, directions)
    return found[0] if found else None


def write_winner(
    config: Mapping[str, Any], trees: WritesRuns, *, number: int, study: str, folder: Path
) -> Winner:
    """Write the winner's experiment below the study's folder and say both of its commands.

    Args:
        config: The winner's run as plain values, references unresolved.
        trees: Says it in words and as YAML.
        number: The winner's.
        study: Name of the study; the experiment gets it too.
        folder: The study's; the YAML goes to `conf/experiment/` in it.
    """
    name = study.removesuffix(".yaml")
    words = trees.train_words(config)
    trusted = [word for word in words if word.startswith("trust=")]
    path = folder / "conf" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, trees.winner_yaml(config, name))
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
    """Return the training command with these words, ready for a shell."""
    return f"{TRAIN} {shlex.join(words)}".rstrip()


def _complete(rows: Sequence[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row.state == "complete" and row.values and all(map(math.isfinite, row.values))
    ]


def _loss(row: Row, directions: Sequence["Direction"]) -> tuple[float, ...]:
    """Turn values so that less is better."""
    return tuple(
        -value if direction == "max" else value
        for value, direction in zip(row.values, directions, strict=True)
    )


def _word(name: str) -> str:
    """Quote a name that Hydra would take for a number or a truth value."""
    return name if name[0].isalpha() and not _bends(name) else quoted(name)


def _bends(name: str) -> bool:
    return name.lower() in ("true", "false", "null", "inf", "nan")
