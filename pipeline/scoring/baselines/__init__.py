"""The baselines of the program: a record in a file for each, found by listing this package.

A baseline predicts the test rows from the training part alone, to compare a network's predictions
with. Its outputs have the form of a network's final ones: probabilities (rows,) of the positive
class or (rows, classes), or values (rows, outputs) in the target's units. Reading the records needs
neither torch nor NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.base.kinds import load_records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.data.preparation.prepare import Prepared


@dataclass(frozen=True, slots=True)
class Limits:
    """What the fit of a baseline may cost.

    `rows` is the largest number of training rows; where there are more, evenly spaced ones are
    taken. `seconds` is the time, as operations of a slow core, so that it gives equal results.
    """

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """What a baseline predicts for the test rows, or why it predicts nothing.

    Args:
        words: What predicts, such as `least squares on 12 steps`, or `not fitted: …`.
        outputs: The predictions; `None` = there are none.
    """

    words: str
    outputs: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitPlan:
    """How a baseline is fitted.

    Args:
        words: What is fitted, such as `logistic regression`.
        rows: Positions of the training rows, int64.
        of_cells: Whether the inputs are the raw cells of a table, rather than a network's inputs.
        options: Further arguments of the fit, as plain values.
    """

    words: str
    rows: Tensor
    of_cells: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineKind:
    """What the program knows about a baseline. It has either `predict`, or `plan` and `fit`.

    Args:
        name: Name in keys, such as `trees` in `trees/f1`: that of its file.
        label: Name in sentences.
        order: Place among the baselines, in tables.
        line: Style of its line in the picture of a comparison, as matplotlib names it.
        glossary: What it predicts, in half a sentence.
        chinese: The same in Chinese, with its Chinese name.
        is_plural: Whether the label is a plural.
        predict: Predicts at once; `None` = the data have no such baseline.
        plan: Takes the data, the weights of their classes (`None` = equal ones) and the limits.
            `None` = the data have no such baseline; a text says why it can't be fitted.
        fit: Takes training inputs, float32 or float64 (rows, columns), targets, blocks of test
            inputs and the options of the plan. It returns probabilities, float64 (rows, classes),
            or values (rows, outputs), scaled as the targets are.
    """

    name: str
    label: str
    order: int
    line: str | tuple[int, tuple[int, ...]]
    glossary: str
    chinese: str
    is_plural: bool = False
    predict: Callable[[Prepared], Prediction | None] | None = None
    plan: Callable[[Prepared, Sequence[float] | None, Limits], FitPlan | str | None] | None = None
    fit: Callable[..., NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        """Refuse fields that contradict each other, which no type forbids."""
        if (self.predict is None) == (self.plan is None) or self.is_fitted != bool(self.fit):
            raise ValueError(f"Baseline {self.name!r}: expected `predict`, or `plan` and `fit`")

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted on the inputs, so that a threshold applies to it."""
        return self.plan is not None


@cache
def all_baselines() -> dict[str, BaselineKind]:
    """Return the records of the baselines by name, in the order of tables.

    Raises:
        ConfigError: A record is incomplete, or two have one name.
    """
    records = load_records(__name__, BaselineKind)
    kinds = sorted(records.values(), key=lambda kind: kind.order)
    return {kind.name: kind for kind in kinds}


def shown_baselines(values: Iterable[str], words: Mapping[str, str]) -> list[str]:
    """Return the names of the baselines that a run has, in the order of tables.

    `values` are keys of metrics: `naive/f1`, …; `words` say what each baseline is, if known.
    """
    stages = {key.partition("/")[0] for key in values}
    return [name for name in all_baselines() if name in words or name in stages]


def baselines_note(words: Mapping[str, str]) -> str:
    """Return what each baseline is, or why it was not fitted, in a line below a table."""
    meanings = [f"{name} = {meaning}" for name, meaning in words.items()]
    return f"baselines: {', '.join(meanings)}"
