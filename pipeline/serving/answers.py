"""What a model takes and says: its interface, and its outputs as classes or values."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.data.reader import Block, reader_of
from pipeline.data.schema import Schema
from pipeline.data.tables.file import where
from pipeline.errors import DataError
from pipeline.serving.model import Decision, Model
from pipeline.serving.sheets import Column

PREDICTION = "prediction"


def interface(schema: Schema, *, has_intervals: bool) -> dict[str, Any]:
    """Describe inputs and outputs as plain values: the signature that MLflow shows.

    Args:
        schema: The meaning of inputs and outputs.
        has_intervals: Values come with an interval.

    Returns:
        `kind`: table, series, images or array; `inputs`: a list of `{name, type}`, or
        `{shape, dtype}` of an array's rows; `outputs`: a list of `{name, type}`, with the times of
        a series before its values.
    """
    texts = [time] if (time := schema.reading.get("time")) else []
    names = output_names(schema, has_intervals=has_intervals)
    if schema.task != "regression":
        texts.append(PREDICTION)
    return {
        "kind": schema.reading["kind"],
        "inputs": reader_of(schema).inputs(),
        "outputs": [
            {"name": name, "type": "string" if name in texts else "double"}
            for name in ([time, *names] if time else names)
        ],
    }


def output_names(schema: Schema, *, has_intervals: bool) -> list[str]:
    """Return the names of an answer's columns, in order."""
    if schema.task == "binary":
        return [PREDICTION, f"probability of {schema.positive}"]
    if schema.task == "multiclass":
        return [PREDICTION, *(f"probability of {name}" for name in schema.classes)]
    ends = ("", " low", " high") if has_intervals else ("",)
    return [f"{name}{end}" for name in value_names(schema) for end in ends]


def value_names(schema: Schema) -> list[str]:
    """Return the name of each value that a regression predicts; those of a series each step."""
    if schema.targets:
        return list(schema.targets)
    if schema.outputs == 1:
        return [PREDICTION]
    return [f"{PREDICTION} {number + 1}" for number in range(schema.outputs)]


def answer_names(model: Model) -> list[str]:
    """Return the names of the columns of an answer."""
    return output_names(model.schema, has_intervals=bool(model.decision.intervals))


def answered(model: Model, rows: Block, *, what: str, first_row: int = 1) -> dict[str, Column]:
    """Answer for some rows.

    Args:
        model: That answers.
        rows: Of the reader of its schema.
        what: Where they come from, in messages.
        first_row: Number of the first one there, counted from 1.

    Returns:
        The columns that `output_names` names; of a series an entry a step.

    Raises:
        DataError: A value or an answer is no number in single precision; names its row.
    """
    outputs = model.outputs(rows.raw, what=what, first_row=first_row)
    if rows.offsets is not None:
        outputs = outputs + torch.from_numpy(rows.offsets).to(outputs)
    if model.schema.window is None:
        require_numbers(outputs, what=what, first_row=first_row)
    return answers(model, outputs)


def answers(model: Model, outputs: Tensor) -> dict[str, Column]:
    """Return the columns of an answer, named and ordered as `output_names` says.

    Args:
        model: Whose classes, threshold and intervals are meant.
        outputs: Of `Model.outputs`: probabilities (rows,) or (rows, classes), or values
            (rows, outputs) in units.
    """
    schema, decision = model.schema, model.decision
    if schema.task == "regression":
        columns = list(_values(schema, decision, outputs))
    else:
        is_binary = schema.task == "binary"
        chosen = outputs > decision.threshold if is_binary else outputs.argmax(1)
        shares = [outputs.tolist()] if is_binary else outputs.T.tolist()
        columns = [[schema.classes[index] for index in chosen.tolist()], *shares]
    return dict(zip(answer_names(model), columns, strict=True))


def require_numbers(outputs: Tensor, *, what: str, first_row: int) -> None:
    """Refuse outputs that are no numbers, which no cell of a usual size leads to.

    Args:
        outputs: (rows,) or (rows, outputs).
        what: Where the rows come from.
        first_row: Number of the first one, counted from 1.

    Raises:
        DataError: Names the first such row.
    """
    lost = ~torch.isfinite(outputs)
    lost = lost if lost.ndim == 1 else lost.any(1)
    if bool(lost.any()):
        row = where(what, first_row + int(lost.int().argmax()))
        raise DataError(
            f"{row}: the network's answer is no number; expected inputs of about the "
            "size that it was trained on. Look for a value there that is far too large"
        )


def _values(schema: Schema, decision: Decision, outputs: Tensor) -> Iterator[Column]:
    """Yield each value and the ends of its interval; a series' outputs go step by step."""
    steps = schema.horizon if schema.window is not None else 1
    names = schema.outputs // steps
    values = outputs.double().reshape(len(outputs) * steps, names)
    ends = torch.tensor(decision.intervals, dtype=torch.float64).reshape(-1, names, 2)
    for number, column in enumerate(values.T):
        yield column.tolist()
        for side in (0, 1) if decision.intervals else ():
            yield (column + ends[:, number, side]).tolist()
