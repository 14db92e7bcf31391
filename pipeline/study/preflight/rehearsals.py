"""What a preflight tries: each model on each data set, and each experiment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import OmegaConf

from pipeline.errors import ConfigError
from pipeline.study.preflight.scope import Scope
from pipeline.study.space.trees import Trees

Part = Literal["pairs", "experiments", "sweeps"]
Verdict = Literal["ok", "skipped", "misfit", "fails"]
OWN = "its own"
"""Column of what chooses its model itself: an experiment, a study of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A place in one of the tables.

    Args:
        part: Which table.
        row: Its heading: a data set, an experiment or a file of `sweeps/`.
        column: Its heading: a model, or `OWN`.
        words: What a person types for it.
    """

    part: Part
    row: str
    column: str
    words: str

    @property
    def may_misfit(self) -> bool:
        """Whether a model that can't read its data is no failure: nobody has put them together."""
        return self.column != OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A run to be tried.

    Args:
        cell: What it belongs to.
        config: The run as plain values, references unresolved.
        point: What a study has varied, as Hydra's texts by key or group.
        objectives: Values that it has to come to.
    """

    cell: Cell
    config: dict[str, Any]
    point: Mapping[str, str] = field(default_factory=dict)
    objectives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of a cell, or of a point of it.

    Args:
        cell: The cell.
        verdict: What came of it; `misfit` where it is no failure that it can't run.
        message: Why it fails, in one line.
        point: The point that fails; empty where all do.
        hint: How to see more, behind the message.
    """

    cell: Cell
    verdict: Verdict
    message: str = ""
    point: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""


Step = Rehearsal | Found


def of_pairs(scope: Scope) -> Iterator[Step]:
    """Yield a run of each model on each data set, composed when asked for."""
    for data in scope.data:
        for model in scope.models:
            words = f"model={model} data={data}"
            cell = Cell(part="pairs", row=data, column=model, words=words)
            if scope.skips(words):
                yield Found(cell=cell, verdict="skipped")
            else:
                yield composed(cell, scope.trees, scope.left_open(model=model, data=data))


def of_experiments(scope: Scope) -> Iterator[Step]:
    """Yield a run of each experiment, composed when asked for."""
    for name in scope.experiments:
        cell = Cell(part="experiments", row=name, column=OWN, words=f"experiment={name}")
        yield composed(cell, scope.trees, {"experiment": name})


def composed(
    cell: Cell, trees: Trees, overrides: Mapping[str, str], objectives: tuple[str, ...] = ()
) -> Step:
    """Compose a run to be tried, or say why that can't be done.

    Args:
        cell: What it belongs to.
        trees: Composes it.
        overrides: Hydra's texts by key or group.
        objectives: Values that it has to come to.
    """
    point = overrides if cell.part == "sweeps" else {}
    try:
        config = OmegaConf.to_container(trees.config(overrides), resolve=False)
    except ConfigError as error:
        return Found(cell=cell, verdict="fails", message=in_one_line(error.problems), point=point)
    assert isinstance(config, dict)
    named = {str(key): value for key, value in config.items()}
    return Rehearsal(cell=cell, config=named, point=point, objectives=objectives)


def in_one_line(problems: tuple[str, ...]) -> str:
    """Join problems to one line."""
    return " ".join(" ".join(problems).split())
