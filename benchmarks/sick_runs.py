"""Tables and networks from which `doctor_cures` draws sick runs and their healthy twins."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.doctor.diagnosis import HEALTHY

Array = NDArray[Any]
Draw = np.random.Generator


class Table(NamedTuple):
    """Columns of numbers, (rows, columns), and the target of each row.

    A series has one column, which is its target as well.
    """

    inputs: Array
    targets: Array
    is_series: bool = False


def series(values: Array) -> Table:
    """Values in time as data."""
    return Table(values[:, None], values, is_series=True)


@dataclass(frozen=True)
class Case:
    """A healthy run and its sick twin on one table.

    Args:
        table: The data.
        base: Overrides of both runs.
        sick: Overrides that make the run sick.
        healthy: Overrides of the healthy twin alone; `None` = nothing can be learned.
        score: Metric of the test that is compared; empty = accuracy or R².
        is_leak: Whether a score far above that of the twin is no cure either.
        right: Verdict that is right for the healthy twin as well.
    """

    table: Table
    base: str
    sick: str = ""
    healthy: str | None = ""
    score: str = ""
    is_leak: bool = False
    right: str = HEALTHY

    @property
    def metric(self) -> str:
        """Metric of the test that is compared."""
        is_number = self.table.targets.dtype.kind == "f"
        return self.score or f"test/{'r2' if is_number else 'accuracy'}"


def teacher(
    draw: Draw,
    *,
    rows: int = 0,
    columns: int = 0,
    classes: int | None = None,
    noise: float = 0.2,
) -> Table:
    """A target that several columns explain, mostly by their sum; 0 classes = a number."""
    columns = columns or int(draw.integers(5, 9))
    rows = rows or int(draw.integers(1400, 2200))
    classes = int(draw.choice([0, 2, 3])) if classes is None else classes
    inputs = draw.normal(size=(rows, columns))
    values = 1.5 * inputs @ draw.choice([-1, 1], columns) / math.sqrt(columns)
    values += np.tanh(inputs[:, 0] * inputs[:, 1]) + noise * draw.normal(size=rows)
    return Table(inputs, into_classes(values, classes) if classes else values)


def into_classes(values: Array, classes: int) -> Array:
    """Classes of equal size by rising values."""
    edges = np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1])
    return np.array([f"kind {number}" for number in np.searchsorted(edges, values)])


def mlp(
    draw: Draw, *, hidden: str = "", epochs: int = 0, optimizer: str = "adam", schedule: str = ""
) -> str:
    """A healthy multi-layer perceptron."""
    hidden = hidden or str(draw.choice(["[16]", "[32]", "[32,16]"]))
    low, high = (0.02, 0.1) if optimizer == "sgd" else (0.003, 0.01)
    drawn_schedule = draw.choice(["cosine", "none"])
    return (
        f"model=mlp model.hidden={hidden} model.norm=none model.init=default model.activation=relu"
        f" optimizer={optimizer} optimizer.lr={draw.uniform(low, high):.2g}"
        f" scheduler={schedule or drawn_schedule}"
        f" trainer.max_epochs={epochs or int(draw.integers(20, 40))}"
    )


def power(draw: Draw, low: float, high: float) -> str:
    """A power of ten between two exponents, with one digit."""
    return f"{10 ** draw.uniform(low, high):.1g}"
