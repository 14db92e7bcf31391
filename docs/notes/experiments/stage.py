"""What all experiments share: a training, a claim, a place for pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from pipeline.base.errors import DivergedError
from pipeline.config.check import check
from pipeline.config.compose import compose
from pipeline.config.options import data_options
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.pictures.gallery import save
from pipeline.pictures.style import line_of
from pipeline.run import run
from pipeline.running.datasets import build_source
from pipeline.serving.model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.running.results import Result

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence of the notes, and whether an experiment bears it out.

    Args:
        words: The sentence, so that it can be false.
        numbers: What was measured.
        holds: Whether it is so.
    """

    words: str
    numbers: str
    holds: bool

    def __str__(self) -> str:
        return f"{'pass' if self.holds else 'fail'}  {self.words}\n      {self.numbers}"


Claims = Iterator[Claim]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where experiments train, and how large they are.

    Args:
        small: Few epochs and one seed, to see that all of it works.
        pictures: Folder that takes the pictures.
        runs: Folder that takes the runs.
    """

    small: bool
    pictures: Path
    runs: Path

    def pick(self, *, full: T, small: T) -> T:
        """Choose a setting by the size of the experiments."""
        return small if self.small else full

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds that a comparison of two accuracies is made over."""
        return self.pick(full=(0, 1, 2), small=(0,))

    def train(self, *words: str, test: bool = False) -> "Result | None":
        """Train as `pipeline train` with these words does; None = it diverged."""
        given = [*words, "tracking=none", "pictures=false", "trainer.threads=1"]
        given += ["trainer.accelerator=cpu", f"output={self.runs}", f"test={str(test).lower()}"]
        if not any(word.startswith("verbose=") for word in words):
            given.append("verbose=0")
        try:
            return run(compose(given))
        except DivergedError:
            return None

    def trained(self, *words: str, test: bool = False) -> "Result":
        """Train where nothing is meant to diverge."""
        result = self.train(*words, test=test)
        if result is None:
            raise DivergedError(f"{' '.join(words)} diverged")
        return result

    def mean_accuracy(self, *words: str) -> float:
        """Return the validation accuracy of the kept weights, its mean over the seeds."""
        found = [accuracy(self.trained(*words, f"seed={seed}")) for seed in self.seeds]
        return sum(found) / len(found)

    def keep(self, name: str, figure: "Figure") -> None:
        """Write a picture."""
        save(figure, self.pictures / f"{name}.png")


def look(number: int) -> dict[str, str]:
    """Return colour and kind of line of one of up to four, told apart in grey print too."""
    return {**line_of(number), "linestyle": ("-", "--", "-.", ":")[number]}


def accuracy(result: "Result | None") -> float:
    """Return the validation accuracy of the kept weights; 0 where training diverged."""
    return 0.0 if result is None else result.kept["val/accuracy"]


def curve(result: "Result", name: str) -> list[float]:
    """Return the values of a metric, epoch by epoch."""
    return [values[name] for values in result.history.values() if name in values]


def network_of(result: "Result") -> nn.Module:
    """Return the network that a run has left, ready to answer."""
    return Model.load(result.folder).network


def data_of(*words: str) -> Prepared:
    """Return the data that a run with these words trains on."""
    options = check(compose(words))
    return prepare(build_source(options), data_options(options), reports=False)


def inputs_of(prepared: Prepared, rows: int) -> tuple[Tensor, Tensor]:
    """Return the first training rows as the network gets them, and their targets."""
    first = torch.arange(rows)
    return prepared.train.take(first), prepared.train.targets[first]
