"""Data source for a user's table, one sample per row; reader of any table's rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isqrt, prod

import numpy as np

from pipeline.base.errors import ConfigError, DataError, typed
from pipeline.data.parsing.tables import row_store as store
from pipeline.data.parsing.tables.beside import TEST, TRAIN, VALIDATION
from pipeline.data.parsing.tables.conversion import read_samples
from pipeline.data.parsing.tables.roles import Keys
from pipeline.data.preparation.table_reader import TableReader
from pipeline.data.source import Samples, Source, local_file

#: Rows that are looked at for pixels.
PIXEL_ROWS = 100
#: Fewest pixels along a side.
FEWEST_PIXELS = 8


class Table(Keys, Source):
    """Columns of a file as features, and one of them as the target."""

    def read(self) -> Samples:
        """Read the table, (rows, columns); a large one is memory-mapped from the cache."""
        by_file = [key for key in ("test_path", "validation_path") if getattr(self, key)]
        by_column = [key for key in ("time", "split") if getattr(self, key) not in (None, "")]
        if by_file and by_column:
            raise ConfigError(
                f"data.{by_file[0]} and data.{by_column[0]} both split the rows; expected "
                "one of them"
            )
        parts = {"path": TRAIN, "validation_path": VALIDATION, "test_path": TEST}
        paths = []
        for key, part in parts.items():
            path = getattr(self, key)
            if path is not None:
                paths.append((local_file(path, key=f"data.{key}"), part))
        if store.size_of(paths, self) >= store.LARGE_BYTES:
            samples = store.stored(paths, self)
        else:
            samples = read_samples(paths, self)
        if self.image_shape is not None:
            return _as_images(samples, self)
        return replace(samples, notes=(*samples.notes, *_note_on_pixels(samples)))


def _note_on_pixels(samples: Samples) -> Iterator[str]:
    """Yield a note if the columns look like the pixels of a square image."""
    side = isqrt(len(samples.columns))
    is_square = side >= FEWEST_PIXELS and side**2 == len(samples.columns)
    if not is_square or any(column.levels for column in samples.columns):
        return
    cells = np.asarray(samples.inputs[:PIXEL_ROWS])
    are_bytes = ((cells >= 0) & (cells <= 255) & (cells == np.floor(cells))).all()
    if are_bytes and cells.max(initial=0) > 1:
        yield (
            f"the {side**2} columns look like pixels but are scaled one by one; "
            f"{typed('data.image_shape', [str(side)] * 2)} reads them as images"
        )


def _as_images(samples: Samples, keys: Keys) -> Samples:
    """Return the pixels of a table as images (rows, channels, height, width)."""
    shape = (1, *(keys.image_shape or ()))[-3:]
    names = tuple(column.name for column in samples.columns)
    categorical = [column.name for column in samples.columns if column.levels]
    if categorical or len(names) != prod(shape):
        problem = f"; column {categorical[0]!r} holds words" if categorical else ""
        raise DataError(
            f"data.image_shape={list(keys.image_shape or ())} is {prod(shape)} pixels, but "
            f"{keys.path} has {len(names)} feature columns{problem}; expected one numeric column "
            "per pixel. Drop others with data.drop=[COLUMN], or name the target with "
            "data.target=COLUMN"
        )
    return replace(
        samples,
        inputs=samples.inputs[:].reshape(-1, *shape),
        features=(),
        columns=(),
        reading={**samples.reading, "pixels": names},
    )


READER = TableReader
