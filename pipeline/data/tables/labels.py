"""Class names in a file as class indices: `1.0` is the class `1`, `TRUE` the class `True`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.tables.cells import all_numbers
from pipeline.data.tables.location import Place
from pipeline.data.tables.records import shown
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

NO_CLASS = -1
TRUTHS = frozenset({"true", "false"})


@dataclass(frozen=True, slots=True)
class Labels:
    """The classes of a target.

    Args:
        classes: Their names in the order of their indices.
    """

    classes: tuple[str, ...]

    def index(self, text: str) -> int | None:
        """Return the class that a cell names; None = there is no such class."""
        if text in self.classes:
            return self.classes.index(text)
        if all_numbers((text, *self.classes)):
            values = [float(name) for name in self.classes]
            return values.index(float(text)) if float(text) in values else None
        lowered = [name.lower() for name in self.classes]
        if TRUTHS.issuperset(lowered) and text.lower() in lowered:
            return lowered.index(text.lower())
        return None

    def indices(self, cells: pa.Array, *, column: str, place: Place) -> NDArray[np.int64]:
        """Return the class of each cell, int64 (rows,); `NO_CLASS` where a cell is empty.

        Raises:
            DataError: A cell names no class: says where and which.
        """
        import pyarrow.compute as pc

        encoded = pc.dictionary_encode(cells)
        names = encoded.dictionary.to_pylist()
        found = [self.index(name) for name in names]
        places = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
        unknown = [index for index, known in enumerate(found) if known is None]
        if unknown:
            position = int(np.isin(places, unknown).argmax())
            name = names[places[position]]
            raise DataError(
                f"{place.cell(position, column)}: {shown(name)} is no class; expected "
                f"{', '.join(map(repr, self.classes))}.{did_you_mean(name, self.classes)}"
            )
        known = np.array([index for index in found if index is not None] + [NO_CLASS])
        indices: NDArray[np.int64] = known.astype(np.int64)[places]
        return indices
