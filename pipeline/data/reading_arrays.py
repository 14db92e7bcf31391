"""New rows for a trained model, from the files that `arrays`, `ucr`, `idx` and `images` read."""

from pathlib import Path

from pipeline.data.array_files.as_trained import as_trained, series_as_trained
from pipeline.data.array_files.containers import NPY_MAGIC, ONLY, ZIP_MAGIC, arrays_at
from pipeline.data.array_files.flat_rows import read_flat
from pipeline.data.array_files.idx import is_idx, read_idx
from pipeline.data.array_files.lengths import stacked
from pipeline.data.array_files.names import inputs_name
from pipeline.data.array_files.places import readable, require_content
from pipeline.data.array_files.rows_of_series import read_rows_for
from pipeline.data.array_files.ts import read_ts
from pipeline.data.pictures.decoding import decode
from pipeline.data.pictures.on_demand import Pictures
from pipeline.data.pictures.walk import pictures_below
from pipeline.data.schema import Schema
from pipeline.data.source import Array, OnDemand

__all__ = ["decode", "names_of_new", "read_new"]


def read_new(path: Path, schema: Schema) -> Array | OnDemand:
    """Return the raw rows of a new file, (rows, *raw_shape).

    Args:
        path: For pictures a folder or one picture; else an `.npz`, a `.npy`, a folder of `.npy`, a
            UCR file with labels or without, an idx file, or a CSV with a flattened sample a row.
        schema: Of the model that will predict.

    Raises:
        DataError: The file can't be read, or its rows are not those of the model; names the place.
    """
    place = readable(path, key="input")
    if schema.reading["kind"] == "images":
        height, width = schema.reading["size"]
        return Pictures(_pictures(place), mode=schema.reading["mode"], size=(height, width))
    if place.is_dir() or _is_numpy(place):
        return _of_numpy(place, schema)
    require_content(place)
    if is_idx(place):
        return as_trained(read_idx(place), schema, str(place))
    if _holds_series(place, schema):
        return _of_series(place, schema)
    return read_flat(place, schema.raw_shape)


def names_of_new(path: Path, schema: Schema) -> list[str] | None:
    """Return the name of each row of `read_new`: the pictures' files; None = rows have no names."""
    if schema.reading["kind"] != "images":
        return None
    place = readable(path, key="input")
    if not place.is_dir():
        return [place.name]
    return [file.relative_to(place).as_posix() for file in _pictures(place)]


def _pictures(place: Path) -> list[Path]:
    return pictures_below(place) if place.is_dir() else [place]


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
