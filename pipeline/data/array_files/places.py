"""The file or folder that a key names, or one line about why it can't be read."""

import os
from pathlib import Path

from pipeline.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean
from pipeline.paths import is_url, place_problem


def readable(path: str | Path, *, key: str = "data.path") -> Path:
    """Return the file or folder at `path` once it is known to be there and readable.

    Args:
        path: As the user typed it, relative to the current folder.
        key: The key it was given by.

    Raises:
        ConfigError: It is a URL.
        DataError: There is nothing at this place.
        EnvironmentFaultError: Permission is denied.
    """
    if is_url(str(path)):
        raise ConfigError(
            f"{key}={str(path)!r} is a URL; expected a file or folder on this machine. "
            f"Download it first, then give {key}=FILE"
        )
    place = Path(path).expanduser()
    if problem := place_problem(key, str(place)):
        raise ConfigError(problem)
    try:
        present = place.exists()
    except OSError as error:
        raise _denied(place, key) from error
    if not present:
        raise DataError(f"{key}={str(path)!r} is not there{_hint(place)}")
    if not os.access(place, os.R_OK | (os.X_OK if place.is_dir() else 0)):
        raise _denied(place, key)
    return place


def readable_file(path: str | Path, *, key: str, expected: str) -> Path:
    """Return the file at `path`, which holds something.

    Args:
        path: As the user typed it.
        key: The key it was given by.
        expected: What it should be, such as `an .npz file`.

    Raises:
        DataError: It is missing, a folder, or has no byte.
    """
    place = readable(path, key=key)
    if place.is_dir():
        raise DataError(f"{key}={str(path)!r} is a folder; expected {expected}")
    require_content(place)
    return place


def require_content(file: Path) -> None:
    """Refuse a file without a byte.

    Raises:
        DataError: It is empty.
    """
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty (0 bytes); expected data. Write or copy it again")


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder in sorted order, without hidden ones."""
    return sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )


def _denied(place: Path, key: str) -> EnvironmentFaultError:
    return EnvironmentFaultError(
        f"{key}={str(place)!r} can't be read: permission is denied. Ask its owner for the right "
        "to read it"
    )


def _hint(place: Path) -> str:
    folder = place.parent
    if not folder.is_dir():
        return f"; the folder {str(folder)!r} is not there either. Check the path"
    names = [path.name for path in folder.iterdir()]
    nearest = did_you_mean(place.name, names)
    return (
        f" (looked in {str(folder.resolve())!r}).{nearest}"
        if nearest
        else (f"; looked in {str(folder.resolve())!r}. Check the name")
    )
