"""Interface of a model, its answers for rows in memory, and its predictions for a file."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import __version__
from pipeline.base.errors import ConfigError, DataError, some
from pipeline.base.terminal import counted, draw_over, duration, number
from pipeline.data.parsing.tables.file import CsvOptions, where
from pipeline.data.preparation.reader import Block, NewRows, Rules, reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.serving.files import Column, Sheet
from pipeline.serving.model import Decision, Model

PREDICTION = "prediction"
#: Seconds before a long command reports its progress.
PATIENCE = 2.0
#: Most names in a line before "…".
SHOWN = 5


def interface(schema: Schema, decision: Decision) -> dict[str, Any]:
    """Describe inputs and outputs as plain values: the signature that MLflow shows.

    Returns `kind`: table, series, images or array; `inputs`: a list of `{name, type}`, or `{shape,
    dtype}` of an array's rows; `outputs`: a list of `{name, type}`, with the times of a series
    before its values.
    """
    time_column = schema.reading.get("time")
    names = output_names(schema, decision)
    if time_column:
        names = [time_column, *names]
    texts = {time_column} if schema.task == "regression" else {time_column, PREDICTION}
    return {
        "kind": schema.reading["kind"],
        "inputs": reader_of(schema).inputs(),
        "outputs": [
            {"name": name, "type": "string" if name in texts else "double"} for name in names
        ],
    }


def output_names(schema: Schema, decision: Decision) -> list[str]:
    """Return the names of an answer's columns, in order."""
    if schema.task != "regression":
        classes = schema.classes[1:] if schema.task == "binary" else schema.classes
        return [PREDICTION, *(f"probability of {name}" for name in classes)]
    if not decision.intervals:
        return value_names(schema)
    names = []
    for name in value_names(schema):
        names += [name, f"{name} low", f"{name} high"]
    return names


def value_names(schema: Schema) -> list[str]:
    """Return the names of the values that a regression predicts; for a series, at each step."""
    if schema.targets:
        return list(schema.targets)
    if schema.outputs == 1:
        return [PREDICTION]
    return [f"{PREDICTION} {number}" for number in range(1, schema.outputs + 1)]


def answered(model: Model, rows: Block, *, what: str, first_row: int = 1) -> dict[str, Column]:
    """Return the columns of `answers` for a block of rows that the model's reader has read.

    `what` and `first_row`, counted from 1, name the rows in messages.

    Raises:
        DataError: A value or (except for a series) an answer is not finite in single precision.
    """
    outputs = model.outputs(rows.raw, what=what, first_row=first_row)
    if rows.offsets is not None:
        outputs = outputs + torch.from_numpy(rows.offsets).to(outputs)
    infinite = (~torch.isfinite(outputs)).nonzero()
    if model.schema.window is None and len(infinite):
        row = first_row + int(infinite[0, 0])
        raise DataError(
            f"{where(what, row, CsvOptions.of(model.schema.reading))}: the prediction is NaN or "
            "infinite; expected inputs of the size of the training data. Look for a far too large "
            "value in this row"
        )
    return answers(model, outputs)


def answers(model: Model, outputs: Tensor) -> dict[str, Column]:
    """Return the columns of an answer, named and ordered as `output_names` says.

    `outputs` are those of `Model.outputs`: probabilities (rows,) or (rows, classes), or values
    (rows, outputs) in units.
    """
    schema = model.schema
    decision = model.decision
    columns: list[Column] = []
    if schema.task == "regression":
        steps = schema.horizon if schema.window is not None else 1
        names = schema.outputs // steps
        values = outputs.double().reshape(len(outputs) * steps, names)  # step by step
        ends = torch.tensor(decision.intervals, dtype=torch.float64).reshape(-1, names, 2)
        for index, column in enumerate(values.T):
            columns.append(column.tolist())
            if decision.intervals:
                columns.append((column + ends[:, index, 0]).tolist())
                columns.append((column + ends[:, index, 1]).tolist())
    else:
        if schema.task == "binary":
            predicted = outputs > decision.threshold
            probabilities = [outputs.tolist()]
        else:
            predicted = outputs.argmax(1)
            probabilities = outputs.T.tolist()
        columns.append([schema.classes[index] for index in predicted.tolist()])
        columns += probabilities
    return dict(zip(output_names(schema, decision), columns, strict=True))


class RowsDone:
    """Progress of a command on standard error: the number of rows done.

    `verbose`: 0 = silent, 1 = one line that is overwritten, 2 = a new line each time.
    """

    def __init__(
        self, *, verbose: int, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self._verbose = verbose
        self._clock = clock
        self._started_at = clock()
        self._next_at = self._started_at + PATIENCE
        self._has_printed = False

    def __call__(self, rows: int) -> None:
        """Take the number of rows done, and print it if enough time has passed."""
        now = self._clock()
        if self._verbose == 0 or now < self._next_at:
            return
        self._has_printed = True
        count = f"{rows:,}" if self.total is None else f"{rows:,} of {self.total:,}"
        seconds = now - self._started_at
        line = f"{count} rows, {rows / seconds:,.0f} rows/s, {duration(seconds)}"
        if self._verbose == 1:
            self._next_at = now + 0.5
            draw_over(sys.stderr, f"\r{line}\x1b[K")
        else:
            self._next_at = now + 10.0
            draw_over(sys.stderr, f"{line}\n")

    def end(self) -> None:
        """Clear the line that is overwritten."""
        if self._has_printed and self._verbose == 1:
            draw_over(sys.stderr, "\r\x1b[K")


@dataclass(slots=True, kw_only=True, eq=False)
class Predictions:
    """Predictions for a file; the counts are complete once all pieces of `sheet` were taken.

    Args:
        sheet: The table of the predictions.
        new: The rows that are predicted.
        values: Names of the values that a regression predicts; empty for classes.
        rows: Number of all rows.
        classes: Number of rows of each predicted class.
        ranges: Lowest and highest prediction of each value.
    """

    sheet: Sheet
    new: NewRows
    values: Sequence[str] = ()
    rows: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, columns: Mapping[str, Column]) -> None:
        """Count the answers of a piece, as `answers` returns them."""
        self.rows += len(next(iter(columns.values())))
        if not self.values:
            self.classes.update(map(str, columns[PREDICTION]))
        for name in self.values:
            numbers = [*map(float, columns[name])]
            lowest, highest = self.ranges.get(name, (inf, -inf))
            self.ranges[name] = (min([lowest, *numbers]), max([highest, *numbers]))


def predictions(
    model: Model, path: Path, rules: Rules, *, progress: Callable[[int], object] = bool
) -> Predictions:
    """Open a file and prepare its predictions; `progress` is called with the number of rows done.

    Raises:
        ConfigError: A rule does not suit this kind of data, or a column is named like an answer.
        DataError: The file or, while `sheet` is written, one of its rows can't be used.
    """
    names = output_names(model.schema, model.decision)
    new = reader_of(model.schema).open(path, rules, size=model.block_rows)
    heading = () if new.heading is None else (new.heading,)
    if new.heading in names:
        raise ConfigError(
            f"column {new.heading!r} of {path} has the name of an output column; rename it, or "
            "set another id: id=COLUMN"
        )

    def pieces() -> Iterator[Sequence[Column]]:
        for block in new.blocks:
            columns = answered(model, block, what=str(path), first_row=result.rows + 1)
            result.add(columns)
            cells = [*columns.values()]
            yield cells if block.names is None else [block.names, *cells]
            progress(result.rows)

    texts = {*heading}
    values: Sequence[str] = ()
    if model.schema.task == "regression":
        values = value_names(model.schema)
    else:
        texts.add(PREDICTION)
    sheet = Sheet(header=(*heading, *names), texts=frozenset(texts), pieces=pieces())
    result = Predictions(sheet=sheet, new=new, values=values)
    return result


def summary(model: Model, result: Predictions, *, output: str | None) -> list[str]:
    """Return one line that sums up the predictions, and one of notes if there are any."""
    schema = model.schema
    line = counted(result.rows, "row")
    if output is not None:
        line += f" written to {output}"
    if result.rows and schema.task == "regression":
        line += f": {_ranges(result, schema.units)}"
    elif result.rows:
        line += f": {_counts_text(result.classes)}"
    if result.rows and schema.task == "binary":
        decision = model.decision
        rule = "" if decision.rule == str(decision.threshold) else f", from {decision.rule}"
        condition = f"if its probability is above {decision.threshold:.4g}{rule}"
        line += f" ({schema.positive} {condition})"
    lines = [line]
    notes = "; ".join(_notes(model, result.new))
    if notes:
        lines.append(f"note: {notes}")
    return lines


def _ranges(result: Predictions, units: str) -> str:
    """Return the range of the predictions, after its name where several values are predicted."""
    texts = []
    for name, (lowest, highest) in result.ranges.items():
        text = f"{number(lowest)} to {number(highest)}"
        if units:
            text += f" {units}"
        texts.append(text if len(result.ranges) == 1 else f"{name}: {text}")
    return texts[0] if len(texts) == 1 else some(texts, most=SHOWN)


def _notes(model: Model, new: NewRows) -> Iterator[str]:
    if new.unknown:
        yield f"categories not seen in training, treated as other ({_counts_text(new.unknown)})"
    if new.missing:
        yield f"missing cells, filled as in training ({_counts_text(new.missing)})"
    if new.ignored:
        yield f"ignored columns (not used in training): {some(new.ignored, most=SHOWN)}"
    yield from new.gaps
    version = model.facts.get("version")
    if version != __version__:
        yield f"the model was written by pipeline {version}; this is {__version__}"


def _counts_text(counts: Counter[str]) -> str:
    return some([f"{name}: {count:,}" for name, count in counts.most_common()], most=SHOWN)
