"""What outputs say to a person: a class with its probability, or a value with its interval."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.data.schema import Schema
from pipeline.errors import DataError
from pipeline.serving.decision import Decision
from pipeline.serving.interface import output_names
from pipeline.serving.model import Model

Column = list[str] | list[float]


def answers(model: Model, outputs: Tensor) -> dict[str, Column]:
    """Return the columns of an answer, named and ordered as `output_names` says.

    Args:
        model: Whose classes, threshold and intervals are meant.
        outputs: Of `Model.outputs`: probabilities (rows,) or (rows, classes), or values
            (rows, outputs) in units.
    """
    columns = _columns(model.schema, model.decision, outputs)
    return dict(zip(answer_names(model), columns, strict=True))


def answer_names(model: Model) -> list[str]:
    """Return the names of the columns of an answer."""
    return output_names(model.schema, has_intervals=bool(model.decision.intervals))


def require_numbers(outputs: Tensor, *, what: str, first_row: int) -> None:
    """Refuse outputs that are no numbers, which no cell of a usual size leads to.

    Args:
        outputs: (rows,) or (rows, outputs).
        what: Where the rows come from.
        first_row: Number of the first one, counted from 1.

    Raises:
        DataError: Names the first such row.
    """
    from pipeline.data.tables.location import where

    lost = ~torch.isfinite(outputs)
    lost = lost if lost.ndim == 1 else lost.any(1)
    if bool(lost.any()):
        row = where(what, first_row + int(lost.int().argmax()))
        raise DataError(
            f"{row}: the network's answer is no number; expected inputs of about the "
            "size that it was trained on. Look for a value there that is far too large"
        )


def _columns(schema: Schema, decision: Decision, outputs: Tensor) -> Iterator[Column]:
    if schema.task == "regression":
        yield from _values(decision, outputs)
    elif schema.task == "binary":
        yield _named(schema, outputs > decision.threshold)
        yield outputs.tolist()
    else:
        yield _named(schema, outputs.argmax(1))
        yield from outputs.T.tolist()


def _named(schema: Schema, chosen: Tensor) -> list[str]:
    return [schema.classes[index] for index in chosen.tolist()]


def _values(decision: Decision, outputs: Tensor) -> Iterator[Column]:
    for number, values in enumerate(outputs.double().T):
        yield values.tolist()
        if decision.intervals:
            yield from ((values + end).tolist() for end in decision.intervals[number])
