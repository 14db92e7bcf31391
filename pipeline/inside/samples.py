"""The rows whose hidden activations are shown."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.content import Part
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.errors import ConfigError, some

KEY = "feature_maps.samples"
#: Classes of which a row is shown.
MOST_CLASSES = 12
#: Rows that are shown of a regression.
OF_A_REGRESSION = 6
#: Largest number of rows in `feature_maps.samples`.
MOST_SAMPLES = 16


class Chosen(NamedTuple):
    """Rows to look at.

    `rows` are their numbers in the source, int64 (samples,); `labels` say what each is; `inputs`
    are as the network gets them, (samples, *input_shape).
    """

    rows: Indices
    labels: tuple[str, ...]
    inputs: Tensor


def chosen(prepared: Prepared, samples: Sequence[int] | None) -> Chosen:
    """Return the rows to look at; only these are read.

    Args:
        prepared: The parts of the data.
        samples: Row numbers in the source, of any part; `None` = the first test row of each of the
            first 12 classes, or 6 rows of a regression, evenly spaced over the test part.

    Raises:
        ConfigError: A number is not that of a row, or there are more than 16.
    """
    if samples is None:
        return _read([(prepared.test, _usual(prepared))], prepared.schema)
    wanted = list(dict.fromkeys(samples))
    if len(wanted) > MOST_SAMPLES:
        raise ConfigError(
            f"{KEY} names {len(wanted)} rows; expected at most {MOST_SAMPLES}, since each is "
            "a row of every picture"
        )
    parts = [one for one in (prepared.test, prepared.validation, prepared.train) if one is not None]
    places = {row: place for row in wanted if (place := _place(parts, row)) is not None}
    unknown = [str(row) for row in wanted if row not in places]
    if unknown:
        rows = [str(row) for row in prepared.test.rows[:4]]
        word = "row" if len(unknown) == 1 else "rows"
        raise ConfigError(
            f"{KEY}=[{','.join(map(str, wanted))}] names the {word} {some(unknown, most=4)}, which "
            "no part of the data has; expected numbers of rows in the source, such as "
            f"{some(rows, most=3)} of the test part"
        )
    return _read([(part, [at]) for part, at in places.values()], prepared.schema)


def _usual(prepared: Prepared) -> list[int]:
    """Return positions in the test part."""
    targets = prepared.test.targets
    if prepared.schema.task == "regression":
        count = min(OF_A_REGRESSION, len(targets))
        return torch.linspace(0, len(targets) - 1, count).round().long().tolist()
    _, firsts = np.unique(targets.numpy(), return_index=True)  # in the order of the classes
    return [int(first) for first in firsts[:MOST_CLASSES]]


def _place(parts: Sequence[Part], row: int) -> tuple[Part, int] | None:
    """Return the part that has a row, and its position there."""
    for part in parts:
        found = np.flatnonzero(part.rows == row)
        if len(found) > 0:
            return part, int(found[0])
    return None


def _read(places: Sequence[tuple[Part, Sequence[int]]], schema: Schema) -> Chosen:
    """Read the rows at some positions of each part."""
    found = [(part, torch.tensor(positions, dtype=torch.int64)) for part, positions in places]
    rows = [np.asarray(part.rows[at.numpy()], dtype=np.int64) for part, at in found]
    return Chosen(
        rows=np.concatenate(rows),
        labels=tuple(label for part, at in found for label in _labels(part, schema, at)),
        inputs=torch.cat([part.take(at) for part, at in found]),
    )


def _labels(part: Part, schema: Schema, indices: Tensor) -> tuple[str, ...]:
    """Return the class of each row, or its value in units: the first one of several."""
    targets = part.targets[indices]
    if schema.task != "regression":
        return tuple(schema.classes[int(target)] for target in targets)
    offsets = None if part.offsets is None else part.offsets[indices]
    values = schema.to_units(targets, offsets)[:, 0]
    return tuple(f"{float(value):.4g}" for value in values)
