"""Arrays made once for a user and checked at every reading; scikit-learn's tables so cached."""

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.data.source import Array, Samples, Source, Task
from pipeline.paths import cache_folder, create_folder, replace_file

Arrays = dict[str, Array]

DIGEST_BYTES = 32


def cached(name: str, make: Callable[[], Arrays], *, made_by: str) -> Arrays:
    """Return what `make` returns, from the user's cache where it lies there unharmed.

    Any number of processes may do this at once. Where the cache can't be written, the arrays are
    made each time.

    Args:
        name: Name of the data, part of a file name.
        make: Makes the arrays, always the same ones for this name.
        made_by: The distribution whose version decides the content.
    """
    path = cache_folder() / f"{name}-{made_by}-{metadata.version(made_by)}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = make()
        with suppress(OSError):
            _write(path, arrays)
    return arrays


class ScikitLearnSet(Source):
    """The data set that `sklearn.datasets.load_<name>` gives, unchanged.

    It is cached, since the import of scikit-learn takes more than a second.
    """

    name: ClassVar[str]
    task: ClassVar[Task] = "multiclass"

    def read(self) -> Samples:
        """Read the table, (rows, features)."""
        arrays = cached(self.name, partial(_load_set, self.name), made_by="scikit-learn")
        return Samples(
            inputs=arrays["inputs"],
            targets=arrays["targets"],
            task=self.task,
            classes=tuple(str(label) for label in arrays["classes"]),
            features=tuple(str(feature) for feature in arrays["features"]),
        )


def _read(path: Path) -> Arrays | None:
    with suppress(OSError, ValueError):  # there is no file, or somebody put a pickle there
        content = path.read_bytes()
        archive, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(archive).digest() == digest:
            with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
                return dict(arrays)
    return None


def _write(path: Path, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its flag
    archive = buffer.getvalue()
    # Behind the archive, so that the file stays an .npz: numpy reads over what follows one.
    digest = hashlib.sha256(archive).digest()
    create_folder(path.parent)
    replace_file(path, lambda file: file.write(archive + digest))


def _load_set(name: str) -> Arrays:
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    return {
        "inputs": np.asarray(bunch.data),
        "targets": np.asarray(bunch.target),
        "features": np.asarray(bunch.feature_names, dtype=np.str_),
        "classes": np.asarray(getattr(bunch, "target_names", ()), dtype=np.str_),
    }
