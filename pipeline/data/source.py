"""What a source of data gives: independent rows or values in time, raw; and fetching its files."""

import hashlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, EnvironmentFaultError
from pipeline.paths import cache_folder, create_folder, is_url, replace_file

#: Timeout of a request in seconds; size in bytes of the largest file that is fetched.
SECONDS, MOST_BYTES = 60, 2**34
Task = Literal["binary", "multiclass", "regression"]
Array = NDArray[Any]
Indices = NDArray[np.int64]

#: Different whole numbers up to which a target holds classes, whatever they are, and not values.
MOST_CLASSES = 20


class OnDemand(ABC):
    """Rows that cost much to have, such as pictures to decode; each is made when it is taken.

    It is indexed as an array: by a slice or by row numbers (rows,). `shape` and `dtype` are those
    of all rows together.
    """

    #: Whether some rows have to stand for all when they are measured.
    costly: ClassVar[bool] = True
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    #: (rows,) equal for equal content, which is known without making the rows.
    fingerprints: NDArray[np.uint64]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, rows: slice | Indices) -> Array:
        """Make rows, (rows, *row_shape)."""


#: How a file of this kind is read again, as plain values; `kind` says which kind it is.
Reading = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table whose cells are not yet what a network gets, and its categories.

    The levels are in a fixed order; a column without levels holds numbers.
    """

    name: str
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Independent rows, as the source holds them.

    Args:
        inputs: (rows, features), (rows, steps, features) or (rows, channels, height, width);
            floats, or uint8 for pictures; may lie on disk.
        targets: Class indices, int64 (rows,), or values, float (rows, outputs).
        task: What is to be predicted.
        classes: Names of the classes in the order of their indices, the positive one at index 1
            of a binary task; empty for a regression.
        features: Names along the features or channels; empty = they have none.
        units: Unit of a regression's targets; empty = none.
        test: Row numbers that the source itself keeps for the test; None = to be split off.
        validation: Row numbers that the source itself keeps for the validation; None = likewise.
        groups: (rows,) label of what must stay in one part, such as a patient; None = no groups.
        columns: What the columns of `inputs` (rows, columns) are where they have still to be filled
            in and encoded: NaN = a missing cell, a category = the index of its level. Empty =
            `inputs` are numbers as they are.
        label: Name of what is to be predicted; empty = it has none.
        ids: (rows,) name of each row for reports; None = its number.
        order: Row numbers from the oldest to the newest, so that the newest test and those before
            them validate; None = rows have no order.
        strict: Refuse test rows that also train, instead of telling them.
        reading: How new rows of this kind are read from a file.
        notes: What was found and decided while reading, a line each.
    """

    inputs: Array | OnDemand
    targets: Array
    task: Task
    classes: tuple[str, ...]
    features: tuple[str, ...]
    units: str = ""
    test: Indices | None = None
    validation: Indices | None = None
    groups: Array | None = None
    columns: tuple[Column, ...] = ()
    label: str = ""
    ids: Array | None = None
    order: Indices | None = None
    strict: bool = False
    reading: Reading = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.inputs.shape[1:])

    @property
    def group_numbers(self) -> Indices | None:
        """(rows,) number of each row's group, whatever it is called; None = there are none."""
        if self.groups is None:
            return None
        numbers: Indices = np.unique(self.groups, return_inverse=True)[1].astype(np.int64)
        return numbers


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
        reading: How the past of a new forecast is read from a file.
        notes: What was found and decided while reading, a line each.
    """

    values: Array
    times: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[str, ...]
    units: str = ""
    test_from: int | None = None
    reading: Reading = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Source(ABC):
    """Where data comes from. Its constructor's keywords are the keys of `conf/data/<name>.yaml`."""

    @property
    def place(self) -> str:
        """What messages call the data: the path that was given, where there is one."""
        return str(getattr(self, "path", None) or "the data")

    @abstractmethod
    def read(self) -> Samples | Series:
        """Read or make the raw content, the same at every call."""


def local_file(path: str, *, key: str, allow_url: bool) -> Path:
    """Return the file that `key` gives, a URL fetched into the cache once where that is allowed.

    A ConfigError refuses other URLs, an EnvironmentFaultError says why one can't be fetched.
    """
    if not is_url(path):
        return Path(path)
    parts = urlsplit(path)
    # Without a name, a password or what is behind its question mark.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if not allow_url:
        raise ConfigError(
            f"{key}={shown} is a URL, and nothing is fetched unasked; save the file first, or say "
            "data.allow_url=true"
        )
    if parts.scheme.lower() not in ("http", "https"):
        raise ConfigError(f"{key}={shown} can't be fetched; expected http:// or https://")
    digest = hashlib.sha256(path.encode()).hexdigest()[:16]
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(parts.path).name)[-60:]
    file = cache_folder() / f"fetched-{digest}-{name}"
    if not file.exists():
        _fetch(path, file, shown)
    return file


def _fetch(url: str, file: Path, shown: str) -> None:
    import urllib.request
    from urllib.error import URLError

    too_large = EnvironmentFaultError(
        f"{shown} is larger than {MOST_BYTES // 2**30} GiB; save it yourself and give its path"
    )

    def copy(target: BinaryIO) -> None:
        while block := answer.read(2**20):
            target.write(block)
            if target.tell() > MOST_BYTES:
                raise too_large

    try:
        create_folder(file.parent)
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            if size > MOST_BYTES:
                raise too_large
            if size > shutil.disk_usage(file.parent).free:
                raise EnvironmentFaultError(
                    f"{shown} has {size} bytes, more than {file.parent} has room for; make room, "
                    "or choose another place with XDG_CACHE_HOME"
                )
            replace_file(file, copy)
    except (TimeoutError, ConnectionError, URLError) as error:
        reason = getattr(error, "reason", error)
        raise EnvironmentFaultError(f"{shown} can't be fetched: {reason}; try again") from error
