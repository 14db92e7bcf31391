"""The arrays of an `.npz`, of a `.npy`, or of a folder of `.npy` files, by their names."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.data.array_files.places import files_in, require_content
from pipeline.data.array_files.stored import Stored, header_of, telling_damage
from pipeline.errors import DataError

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK"
ONLY = ""
"""Name of the array of a single `.npy`."""

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


def arrays_at(place: Path) -> Mapping[str, Stored]:
    """Return the arrays at a place by their names; that of a single `.npy` is named ``ONLY``.

    Raises:
        DataError: It is none of the three, or damaged.
    """
    if place.is_dir():
        return _of_folder(place)
    require_content(place)
    with place.open("rb") as file:
        magic = file.read(6)
    if magic == NPY_MAGIC:
        return {ONLY: _of_file(place, place.name)}
    if magic.startswith(ZIP_MAGIC):
        return _of_archive(place)
    raise DataError(
        f"{place} is no .npz or .npy file: it begins with {magic!r}; expected one that "
        "numpy.savez or numpy.save wrote"
    )


def _of_folder(folder: Path) -> Mapping[str, Stored]:
    files = [file for file in files_in(folder) if file.suffix.lower() == ".npy"]
    if not files:
        raise DataError(
            f"{folder} has no .npy file; expected x_train.npy, y_train.npy and so on in it, or "
            "the path of one .npz file"
        )
    for file in files:
        require_content(file)
    return {file.stem: _of_file(file, f"{folder.name}/{file.name}") for file in files}


def _of_file(path: Path, label: str) -> Stored:
    with path.open("rb") as file:
        shape, fortran, dtype = header_of(file, label)
        offset = file.tell()
    return Stored(
        path=path,
        member=None,
        label=label,
        shape=shape,
        dtype=dtype,
        fortran=fortran,
        offset=offset,
    )


def _of_archive(path: Path) -> Mapping[str, Stored]:
    with telling_damage(path.name), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        found = {
            info.filename.removesuffix(".npy"): _of_member(path, archive, info) for info in members
        }
    if not found:
        raise DataError(f"{path} has no array; expected x_train, y_train and so on in it")
    return found


def _of_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stored:
    label = f"{path.name}: {info.filename.removesuffix('.npy')}"
    with archive.open(info) as file:
        shape, fortran, dtype = header_of(file, label)
        header_bytes = file.tell()
    begins = None
    if info.compress_type == zipfile.ZIP_STORED:
        begins = _first_byte(path, info) + header_bytes
    return Stored(
        path=path,
        member=info.filename,
        label=label,
        shape=shape,
        dtype=dtype,
        fortran=fortran,
        offset=begins,
    )


def _first_byte(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where a member that is not compressed begins: behind its name and extra field."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return int(info.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes)
