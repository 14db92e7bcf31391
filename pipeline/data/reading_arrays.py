"""New rows for a trained model, from the files that `arrays`, `ucr`, `idx` and `images` read."""

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.array_files.as_trained import as_trained, series_as_trained
from pipeline.data.array_files.containers import NPY_MAGIC, ONLY, ZIP_MAGIC, arrays_at
from pipeline.data.array_files.flat_rows import read_flat
from pipeline.data.array_files.idx import is_idx, read_idx
from pipeline.data.array_files.lengths import stacked
from pipeline.data.array_files.names import inputs_name
from pipeline.data.array_files.places import readable, require_content
from pipeline.data.array_files.rows_of_series import read_rows_for
from pipeline.data.array_files.ts import read_ts
from pipeline.data.content import Content
from pipeline.data.pictures.decoding import decode
from pipeline.data.pictures.on_demand import Pictures
from pipeline.data.pictures.walk import pictures_below
from pipeline.data.reader import (
    Block,
    Missing,
    NewRows,
    Reader,
    Rules,
    first_rows,
    numbers_of,
    sliced,
)
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Samples, Series
from pipeline.errors import DataError

FILE, IMAGE = "file", "image"
"""Heading of the pictures' names; column of a DataFrame with their files' content."""


class ArrayReader(Reader):
    """Reads the files that `arrays`, `ucr` and `idx` read, and arrays in memory."""

    def inputs(self) -> Any:
        """Describe the shape of a row."""
        return {"shape": list(self.schema.raw_shape), "dtype": "float64"}

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the first training rows as nested lists."""
        assert isinstance(raw, Samples)
        return first_rows(raw, content).tolist()

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open a file of rows: see `read_new`."""
        self.refuse_id(rules)
        raw = read_new(path, self.schema)
        return NewRows(heading=None, blocks=sliced(raw, None, size=size), total=len(raw))

    def apply(self, held: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return numbers (rows, *raw_shape), those of a row flat or in their shape."""
        del missing
        held = held.to_numpy() if hasattr(held, "to_numpy") else held
        return Block(raw=numbers_of(held, self.schema.raw_shape, what=what))


class ImageReader(ArrayReader):
    """Reads pictures: files, or their content in the column `image` of a DataFrame."""

    def inputs(self) -> Any:
        """Describe the column of pictures."""
        return [{"name": IMAGE, "type": "binary"}]

    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return the first training pictures as PNG files in base64."""
        assert isinstance(raw, Samples)
        return [{IMAGE: _as_png(row)} for row in first_rows(raw, content)]

    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open one picture, or a folder of them."""
        self.refuse_id(rules)
        place = readable(path, key="input")
        files = pictures_below(place) if place.is_dir() else [place]
        names = (
            [file.relative_to(place).as_posix() for file in files]
            if place.is_dir()
            else [place.name]
        )
        height, width = self.schema.reading["size"]
        raw = Pictures(files, mode=self.schema.reading["mode"], size=(height, width))
        return NewRows(heading=FILE, blocks=sliced(raw, names, size=size), total=len(raw))

    def apply(self, held: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return the pictures of a DataFrame, uint8 (rows, channels, height, width), or numbers."""
        if not hasattr(held, "columns"):
            return super().apply(held, what=what, missing=missing)
        if IMAGE not in held.columns:
            raise DataError(
                f"{what} has no column {IMAGE!r}; expected the content of a picture's file in each "
                "of its cells, as bytes or base64"
            )
        height, width = self.schema.reading["size"]
        decoded = [
            decode(
                _content(cell, f"{what} row {row}"),
                mode=self.schema.reading["mode"],
                size=(height, width),
                name=f"{what} row {row}",
            )
            for row, cell in enumerate(held[IMAGE], start=1)
        ]
        none = np.zeros((0, *self.schema.raw_shape), dtype=np.uint8)
        return Block(raw=np.stack(decoded) if decoded else none)


def _content(cell: object, place: str) -> bytes:
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    try:
        return base64.b64decode(str(cell), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{place}, column {IMAGE!r}: neither bytes nor base64; expected the content "
            "of a picture's file"
        ) from error


def _as_png(row: Array) -> str:
    """Return a picture (channels, height, width) as the base64 text of a PNG file."""
    from PIL import Image

    pixels = np.moveaxis(row.astype(np.uint8), 0, -1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def read_new(path: Path, schema: Schema) -> Array:
    """Return the raw rows of a new file, (rows, *raw_shape).

    Args:
        path: An `.npz`, a `.npy`, a folder of `.npy`, a UCR file with labels or without, an idx
            file, or a CSV with a flattened sample a row.
        schema: Of the model that will predict.

    Raises:
        DataError: The file can't be read, or its rows are not those of the model; names the place.
    """
    place = readable(path, key="input")
    if place.is_dir() or _is_numpy(place):
        return _of_numpy(place, schema)
    require_content(place)
    if is_idx(place):
        return as_trained(read_idx(place), schema, str(place))
    if _holds_series(place, schema):
        return _of_series(place, schema)
    return read_flat(place, schema.raw_shape)


def _is_numpy(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(NPY_MAGIC)).startswith((NPY_MAGIC, ZIP_MAGIC))


def _of_numpy(place: Path, schema: Schema) -> Array:
    found = arrays_at(place)
    trained = str(schema.reading.get("x", ""))
    name = ONLY if ONLY in found else inputs_name(found, trained=trained, file=place.name)
    return as_trained(found[name].read(), schema, found[name].label)


def _holds_series(file: Path, schema: Schema) -> bool:
    suffix = file.suffix.lower()
    if suffix == ".ts":
        return True
    series = schema.reading.get("format") == "ucr" or schema.kind == "series"
    return series and suffix != ".csv"


def _of_series(file: Path, schema: Schema) -> Array:
    steps = schema.raw_shape[0]
    is_ts = file.suffix.lower() == ".ts"
    series = read_ts(file).series if is_ts else read_rows_for(file, steps=steps)
    length = steps if schema.reading.get("length") is not None else None
    return series_as_trained(stacked(series, length=length), schema, file)
