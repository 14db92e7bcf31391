"""Which rows are looked at when a network is opened."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.data.part import Part
from pipeline.data.prepare import Prepared
from pipeline.data.schema import Schema
from pipeline.data.source import Indices
from pipeline.errors import ConfigError, some

KEY = "feature_maps.samples"
MOST_CLASSES = 12
"""Classes of which a row is shown, the first ones."""
OF_A_REGRESSION = 6
"""Rows that are shown where there are no classes."""
MOST_SAMPLES = 16
"""Rows that a person may ask for."""


class Chosen(NamedTuple):
    """Rows to look at.

    `rows` are their numbers in the source, int64 (samples,); `labels` say what each is; `inputs`
    are as the network gets them, (samples, *input_shape).
    """

    rows: Indices
    labels: tuple[str, ...]
    inputs: Tensor


def chosen(prepared: Prepared, samples: Sequence[int] | None) -> Chosen:
    """Take the rows that are looked at; only these are read.

    Args:
        prepared: The data in their parts.
        samples: Numbers of rows in the source, whichever part they are in; `None` = the first test
            row of each of the first 12 classes, or 6 rows of a regression, evenly spaced over the
            test part.

    Raises:
        ConfigError: A number is that of no row, or there are more than 16.
    """
    if samples is None:
        return _joined([_of(prepared.test, prepared.schema, _usual(prepared))])
    _require_few(samples)
    wanted = list(dict.fromkeys(samples))
    parts = (prepared.test, prepared.validation, prepared.train)
    there = [part for part in parts if part is not None]
    places = {row: place for row in wanted if (place := _place(there, row)) is not None}
    _require_known(wanted, places, prepared.test)
    return _joined(
        [_of(there[part], prepared.schema, [at]) for part, at in (places[row] for row in wanted)]
    )


def _usual(prepared: Prepared) -> list[int]:
    """Return positions in the test part, a class each where there are classes."""
    targets = prepared.test.targets
    if prepared.schema.task == "regression":
        count = min(OF_A_REGRESSION, len(targets))
        return torch.linspace(0, len(targets) - 1, count).round().long().tolist()
    _, firsts = np.unique(targets.numpy(), return_index=True)  # in the order of the classes
    return [int(first) for first in firsts[:MOST_CLASSES]]


def _of(part: Part, schema: Schema, positions: Sequence[int]) -> Chosen:
    indices = torch.tensor(positions, dtype=torch.int64)
    return Chosen(
        rows=np.asarray(part.rows[indices.numpy()], dtype=np.int64),
        labels=_labels(part, schema, indices),
        inputs=part.take(indices),
    )


def _labels(part: Part, schema: Schema, indices: Tensor) -> tuple[str, ...]:
    """Return the class of each row, or its value in units: the first one of several."""
    targets = part.targets[indices]
    if schema.task != "regression":
        return tuple(schema.classes[int(target)] for target in targets)
    offsets = None if part.offsets is None else part.offsets[indices]
    values = schema.to_units(targets, offsets)[:, 0]
    return tuple(f"{float(value):.4g}" for value in values)


def _joined(found: Sequence[Chosen]) -> Chosen:
    return Chosen(
        rows=np.concatenate([one.rows for one in found]),
        labels=tuple(label for one in found for label in one.labels),
        inputs=torch.cat([one.inputs for one in found]),
    )


def _place(parts: Sequence[Part], row: int) -> tuple[int, int] | None:
    """Return the part that has a row, and its position there."""
    for number, part in enumerate(parts):
        found = np.flatnonzero(part.rows == row)
        if len(found) > 0:
            return number, int(found[0])
    return None


def _require_few(samples: Sequence[int]) -> None:
    if len(set(samples)) > MOST_SAMPLES:
        raise ConfigError(
            f"{KEY} names {len(set(samples))} rows; expected at most {MOST_SAMPLES}, since each is "
            "a row of every picture"
        )


def _require_known(
    wanted: Sequence[int], places: Mapping[int, tuple[int, int]], test: Part
) -> None:
    unknown = [str(row) for row in wanted if row not in places]
    if unknown:
        rows = [str(row) for row in test.rows[:4]]
        word = "row" if len(unknown) == 1 else "rows"
        raise ConfigError(
            f"{KEY}=[{','.join(map(str, wanted))}] names the {word} {some(unknown, most=4)}, which "
            "no part of the data has; expected numbers of rows in the source, such as "
            f"{some(rows, most=3)} of the test part"
        )
