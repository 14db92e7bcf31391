"""Rows for which the inside of a network is shown."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.base.errors import ConfigError, some
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Indices
from pipeline.scoring.importance import evenly_spaced

KEY = "feature_maps.samples"
#: Largest number of classes for which a row is shown.
MOST_CLASSES = 12
#: Number of rows that are shown for a regression.
OF_A_REGRESSION = 6
#: Largest number of rows in `feature_maps.samples`.
MOST_SAMPLES = 16


class ShownRows(NamedTuple):
    """Rows to look at.

    Args:
        rows: Numbers of the rows in the source, int64 (samples,).
        labels: Class or value of each row as text.
        inputs: Inputs as the network gets them, (samples, *input_shape).
    """

    rows: Indices
    labels: tuple[str, ...]
    inputs: Tensor


def choose_rows(prepared: Prepared, samples: Sequence[int] | None) -> ShownRows:
    """Return the rows to look at; no other rows are read.

    `samples` are row numbers in the source, of any part. `None` means the first test row of each of
    the first 12 classes or, for a regression, 6 rows evenly spaced over the test part.

    Raises:
        ConfigError: A number is not that of a row, or there are more than 16.
    """
    targets = prepared.test.targets
    if samples is not None:
        positions = _positions_of(prepared, samples)
    elif prepared.schema.task == "regression":
        spread = evenly_spaced(len(targets), OF_A_REGRESSION).tolist()
        positions = [(prepared.test, index) for index in spread]
    else:  # in the order of the classes
        _, first_rows = np.unique(targets.numpy(), return_index=True)
        positions = [(prepared.test, index) for index in first_rows[:MOST_CLASSES].tolist()]
    rows = []
    labels = []
    inputs = []
    for part, index in positions:
        rows.append(part.rows[index])
        labels.append(_label(part, prepared.schema, index))
        inputs.append(part.take(torch.tensor([index])))
    return ShownRows(
        rows=np.array(rows, dtype=np.int64), labels=tuple(labels), inputs=torch.cat(inputs)
    )


def _positions_of(prepared: Prepared, samples: Sequence[int]) -> list[tuple[Part, int]]:
    """Return the part that has each of these rows, and the index of the row in it."""
    rows = list(dict.fromkeys(samples))
    if len(rows) > MOST_SAMPLES:
        raise ConfigError(f"{KEY} names {len(rows)} rows; expected at most {MOST_SAMPLES}")
    positions: dict[int, tuple[Part, int]] = {}
    for part in (prepared.test, prepared.validation, prepared.train):
        if part is None:
            continue
        for row in rows:
            indices = np.flatnonzero(part.rows == row)
            if len(indices):
                positions[row] = (part, int(indices[0]))
    unknown = [str(row) for row in rows if row not in positions]
    if unknown:
        examples = [str(row) for row in prepared.test.rows[:4]]
        word = "row" if len(unknown) == 1 else "rows"
        raise ConfigError(
            f"{KEY}=[{','.join(map(str, rows))}]: the data have no {word} "
            f"{some(unknown, most=4)}; expected row numbers of the source, such as "
            f"{some(examples, most=3)} of the test part"
        )
    return [positions[row] for row in rows]


def _label(part: Part, schema: Schema, index: int) -> str:
    """Return the class of a row, or its value in units (of several values, the first)."""
    if schema.task != "regression":
        return schema.classes[int(part.targets[index])]
    offsets = None if part.offsets is None else part.offsets[[index]]
    return f"{float(schema.to_units(part.targets[[index]], offsets)[0, 0]):.4g}"
