"""Classes of a target, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.errors import did_you_mean
from pipeline.data.parsing.cells.kind import Grammar
from pipeline.data.parsing.cells.texts import MISSING, Cells, Numbers, all_numbers, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassNames(Grammar):
    """Names of classes, each read as the index of its class.

    Args:
        names: The classes, in the order of their indices.
        are_words: Whether the names are words, so that one of them may be called `NA`.
    """

    names: tuple[str, ...]
    are_words: bool

    @classmethod
    def of_model(cls, names: Sequence[str]) -> ClassNames:
        """Return the classes of a trained model."""
        return cls(names=tuple(names), are_words=not MISSING.isdisjoint(names))

    def read(self, cells: Cells) -> Numbers:
        """Return the index of each cell's class, float64 (rows,), NaN = missing.

        Raises:
            DataError: A cell names no class.
        """
        texts, places = (cells if self.are_words else cells.present()).encoded()
        indices = [None if text is None else self.index(text) for text in texts]
        for position, text in enumerate(texts):
            if text is not None and indices[position] is None:
                names = ", ".join(map(repr, self.names))
                near = did_you_mean(text, self.names)
                problem = f"{shown(text)} is not a class; expected {names}.{near}"
                raise cells.fault(places == position, problem)
        return np.array(indices, dtype=np.float64)[places]

    def write(self, values: Sequence[float]) -> str | None:
        """Return the name of the class; None if it is missing."""
        (value,) = values
        return None if np.isnan(value) else self.names[int(value)]

    def index(self, text: str) -> int | None:
        """Return the index of the class that a text names, or None if it names none.

        `1.0` names the class `1`, and `TRUE` the class `True`.
        """
        if text in self.names:
            return self.names.index(text)
        if all_numbers((text, *self.names)):
            numbers = [float(name) for name in self.names]
            return numbers.index(float(text)) if float(text) in numbers else None
        lower = [name.lower() for name in self.names]
        if set(lower) <= {"true", "false"} and text.lower() in lower:
            return lower.index(text.lower())
        return None
