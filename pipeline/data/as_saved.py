"""Rows of any source in the terms of a trained model: its columns, categories and classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import check_finite, check_reach, check_rows
from pipeline.data.content import Content
from pipeline.data.encode import UNKNOWN, Code
from pipeline.data.labels import NAMES_ANOTHER
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Column, Indices, OnDemand, Samples, Series
from pipeline.data.split import Split
from pipeline.errors import DataError, did_you_mean

NOTHING = np.empty(0, dtype=np.int64)
HINT = "data= and data.path= say which data are evaluated"


def rows_as_saved(samples: Samples, schema: Schema, *, what: str = "the data") -> Content:
    """Return all rows as the test part of some content, whose schema is the model's.

    Args:
        samples: The rows.
        schema: Of the model.
        what: Name of the data in messages.

    Raises:
        DataError: They are of another shape or task, lack a column, or have a class that the
            model does not know.
    """
    check_rows(samples)
    inputs = _inputs(samples, schema)
    reach = check_finite(inputs, "the data", holes_too=schema.encoder is None)
    notes = [note for note in samples.notes if not note.endswith(NAMES_ANOTHER)]
    more = [name for name in _names(samples) if name not in schema.columns]
    if schema.columns and more:
        told = ", ".join(more)
        notes.append(f"{len(more)} columns are ignored, which the model does not know: {told}")
    targets, groups = _targets(samples, schema), samples.group_numbers
    check_reach(schema, reach, targets, what=what)
    return content_of_test(inputs, targets, schema, notes=tuple(notes), groups=groups)


def content_of_test(
    inputs: Array | OnDemand,
    targets: Array,
    schema: Schema,
    *,
    notes: tuple[str, ...],
    groups: Indices | None,
) -> Content:
    """Return independent rows as content that is all test part."""
    rows = np.arange(len(targets))
    return Content(
        inputs=inputs,
        targets=targets,
        offsets=None,
        numbers=rows,
        split=Split(train=NOTHING, validation=None, test=rows),
        schema=schema,
        notes=notes,
        groups=groups,
    )


def split_as_saved(raw: Samples | Series, content: Content, schema: Schema) -> Content:
    """Return a run's own content, in its parts, in the terms of the model that it has left.

    Where the data are those of the training, nothing but the schema is another object.

    Raises:
        DataError: The data have changed so much that the model can't read them.
    """
    if isinstance(raw, Series):
        if (raw.names, raw.targets) != (schema.features, schema.targets):
            raise DataError(
                f"the series has the columns {', '.join(raw.names)} now, and the model was "
                f"trained on {', '.join(schema.features)} to predict {', '.join(schema.targets)}"
            )
        return replace(content, schema=schema)
    return replace(
        content,
        inputs=_inputs(raw, schema),
        # Those of the content: where the training labels were shuffled, they are here too.
        targets=_targets(replace(raw, targets=content.targets), schema),
        schema=schema,
    )


def _inputs(samples: Samples, schema: Schema) -> Array | OnDemand:
    """Return the rows (rows, *raw_shape), columns and categories in the model's order."""
    names = _names(samples)
    wanted = schema.columns
    if wanted and names and samples.inputs.ndim == 2:
        return _by_name(samples, names, wanted, schema)
    if samples.input_shape != schema.raw_shape:
        raise DataError(
            f"the rows have shape {_words(samples.input_shape)}; the model was trained on rows of "
            f"shape {_words(schema.raw_shape)}. {HINT}"
        )
    return samples.inputs


def _by_name(
    samples: Samples, names: Sequence[str], wanted: Sequence[str], schema: Schema
) -> Array | OnDemand:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DataError(
            f"the data lack the column{'s' * (len(missing) > 1)} "
            f"{', '.join(map(repr, missing))}, which the model was trained on; they have "
            f"{', '.join(names)}.{did_you_mean(missing[0], names)}"
        )
    positions = [names.index(name) for name in wanted]
    columns = samples.columns or tuple(Column(name=name) for name in names)
    codes = () if schema.encoder is None else schema.encoder.codes
    recoded = {code.name: columns[names.index(code.name)].levels for code in codes}
    if list(names) == list(wanted) and all(recoded[c.name] == c.levels for c in codes):
        return samples.inputs
    cells = np.asarray(samples.inputs[:][:, positions], dtype=np.float64)
    for index, code in enumerate(codes):
        cells[:, index] = _recoded(cells[:, index], recoded[code.name], code)
    return cells


def _recoded(cells: Array, levels: tuple[str, ...], code: Code) -> Array:
    """Return cells (rows,) whose categories are those of the model; others are `UNKNOWN`."""
    if bool(levels) != code.is_category and not np.isnan(cells).all():
        now, then = ("categories", "numbers") if levels else ("numbers", "categories")
        raise DataError(
            f"column {code.name!r} holds {now}, and the model was trained on {then}; "
            f"{'data.categorical' if code.is_category else 'data.numeric'}=[{code.name}] reads "
            "it as in training"
        )
    if not levels or levels == code.levels:
        return cells
    place = {level: index for index, level in enumerate(code.levels)}
    table = np.array([place.get(level, UNKNOWN) for level in levels], dtype=np.float64)
    known = np.isfinite(cells) & (cells >= 0)
    recoded: NDArray[np.float64] = np.where(
        known, table[np.where(known, cells, 0).astype(int)], cells
    )
    return recoded


def _targets(samples: Samples, schema: Schema) -> Array:
    if schema.task == "regression":
        return _values(samples, schema)
    if samples.task == "regression":
        raise DataError(
            f"the target holds values, and the model tells the classes "
            f"{', '.join(schema.classes)} apart. {HINT}"
        )
    if samples.classes == schema.classes:
        return samples.targets.astype(np.int64)
    place = {name: index for index, name in enumerate(schema.classes)}
    table = np.array([place.get(name, -1) for name in samples.classes])
    found: NDArray[np.int64] = table[samples.targets.astype(np.int64)]
    if (found < 0).any():
        row = int((found < 0).argmax())
        name = samples.classes[int(samples.targets[row])]
        raise DataError(
            f"row {row} is of class {name!r}, which the model does not know; expected one of "
            f"{', '.join(schema.classes)}.{did_you_mean(name, schema.classes)}"
        )
    return found


def _values(samples: Samples, schema: Schema) -> Array:
    if samples.task != "regression":
        raise DataError(
            f"the target holds the classes {', '.join(samples.classes)}, and the model predicts "
            f"values. {HINT}"
        )
    values = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
    if values.shape[1] != schema.outputs:
        raise DataError(
            f"the target has {values.shape[1]} values a row, and the model predicts "
            f"{schema.outputs}. {HINT}"
        )
    check_finite(values, "the target")
    return values


def _names(samples: Samples) -> tuple[str, ...]:
    return tuple(column.name for column in samples.columns) or samples.features


def _words(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
