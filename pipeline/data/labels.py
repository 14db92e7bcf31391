"""The two classes of a binary task, in the order that makes the named one positive."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.source import Array
from pipeline.errors import ConfigError, did_you_mean

NAMES_ANOTHER = "data.positive= names another"
"""End of a note that tells which class was taken for the positive one; a model knows its own."""


def positive_second(
    labels: Array, classes: tuple[str, str], positive: str
) -> tuple[Array, tuple[str, str]]:
    """Return labels (rows,) and names so that index 1 is the positive class.

    Raises:
        ConfigError: `positive` is neither class.
    """
    if positive not in classes:
        raise unknown_positive(positive, classes)
    if positive == classes[1]:
        return labels.astype(np.int64, copy=False), classes
    return 1 - labels.astype(np.int64, copy=False), (classes[1], classes[0])


def unknown_positive(positive: str, classes: Sequence[str]) -> ConfigError:
    """Return the error for a positive class that there is not."""
    return ConfigError(
        f"data.positive={positive!r} is no class of this data; expected {classes[0]!r} or "
        f"{classes[1]!r}.{did_you_mean(positive, classes)}"
    )
