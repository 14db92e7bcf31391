"""What a source of data gives: independent rows or values in time, raw, with their names."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["binary", "multiclass", "regression"]
Array = NDArray[Any]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Independent rows, as the source holds them.

    Args:
        inputs: (rows, features), (rows, steps, features) or (rows, channels, height, width);
            floats, or uint8 for pictures.
        targets: Class indices, int64 (rows,), or values, float (rows, outputs).
        task: What is to be predicted.
        classes: Names of the classes in the order of their indices, the positive one at index 1
            of a binary task; empty for a regression.
        features: Names along the features or channels; empty = they have none.
        units: Unit of a regression's targets; empty = none.
        test: Row numbers that the source itself keeps for the test; None = to be split off.
        groups: (rows,) label of what must stay in one part, such as a patient; None = no groups.
    """

    inputs: Array
    targets: Array
    task: Task
    classes: tuple[str, ...]
    features: tuple[str, ...]
    units: str = ""
    test: Indices | None = None
    groups: Array | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.inputs.shape[1:])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Values in time, oldest first.

    Args:
        values: (time, channels), floats.
        times: A label for each time.
        names: A name for each channel.
        targets: The channels to predict, by name.
        units: Unit of these channels; empty = none.
        test_from: Index of the first time of the test; None = to be split off.
    """

    values: Array
    times: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[str, ...]
    units: str = ""
    test_from: int | None = None


class Source(ABC):
    """Where data comes from. Its constructor's keywords are the keys of `conf/data/<name>.yaml`."""

    @abstractmethod
    def read(self) -> Samples | Series:
        """Read or make the raw content, the same at every call."""
