"""What the data are, found out before training: columns, classes, holes, leaks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from pipeline.config.options import DataOptions
from pipeline.data.checks import count_among, fingerprints, repeated_rows
from pipeline.data.column_report import ColumnReport, categories, numbers
from pipeline.data.content import Content
from pipeline.data.measured import Cells, measured_cells
from pipeline.data.schema import Schema
from pipeline.data.source import Array, Indices, Samples, Series, Task

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """A class, with its rows in each part."""

    name: str
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What some data are, all of it plain values.

    Args:
        kind: table, array, images or series.
        task: What is to be predicted.
        rows: Rows in each part; of a series, windows.
        shape: Of a raw row, before it is encoded.
        span: First and last time of a series, and how many there are; empty = it is no series.
        label: Name of the target; empty = it has none.
        units: Of the target; empty = none.
        positive: The class that a binary task looks for; `None` for other tasks.
        of: The part that is measured below.
        measured: Rows of it that were measured, evenly spaced where that is not all.
        are_channels: The columns are channels, each measured over all its positions.
        columns: Of a table, or the channels of an array or a series.
        unlisted: Further columns, which were not measured.
        targets: The values that a regression predicts.
        classes: With their rows in each part.
        constant: Columns or channels with one value in the whole training part.
        scaled: How inputs are scaled: none, standard, minmax.
        equal: Columns that hold the same as one before them, cell by cell.
        repeated: Test rows whose inputs also stand in the training part; `None` = not looked for.
        notes: What was found and decided while reading.
    """

    kind: str
    task: Task
    rows: Mapping[str, int]
    shape: tuple[int, ...]
    span: tuple[str, ...]
    label: str
    units: str
    positive: str | None
    of: str
    measured: int
    are_channels: bool
    columns: tuple[ColumnReport, ...]
    unlisted: int
    targets: tuple[ColumnReport, ...]
    classes: tuple[ClassRows, ...]
    constant: tuple[str, ...]
    scaled: str
    equal: Pairs
    repeated: int | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as dicts, lists, texts and numbers."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "DataReport":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: The task is none that there is.
        """
        if plain["task"] not in get_args(Task):
            raise ValueError(f"{plain['task']!r} is no task")
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()
        }
        for key in ("columns", "targets"):
            fields[key] = tuple(ColumnReport.from_dict(one) for one in plain[key])
        fields["classes"] = tuple(ClassRows(**one) for one in plain["classes"])
        fields["equal"] = tuple(tuple(pair) for pair in plain["equal"])
        return cls(**fields)


def data_report(raw: Samples | Series, content: Content, options: DataOptions) -> DataReport:
    """Report on data that are about to be trained on; columns are those of the training part."""
    repeated = None
    if isinstance(raw, Samples):
        repeated = repeated_rows(content.inputs, content.split)
    return _report(raw, content, part="train", scaled=options.scale, repeated=repeated)


def report_of_test(
    raw: Samples | Series, content: Content, like: DataReport | None, trained: Array | None
) -> DataReport:
    """Report on rows that a trained model is evaluated on: the test part of some content.

    Args:
        raw: What they were read as.
        content: All their meaning is the model's.
        like: Report of the training part, whose deciles and levels are used; `None` = its own.
        trained: Fingerprints of the rows that the model was trained on; `None` = not known.
    """
    repeated = None
    if trained is not None and isinstance(raw, Samples):
        repeated = count_among(fingerprints(content.inputs, content.split.test), trained)
    scaled = "none" if like is None else like.scaled
    return _report(raw, content, part="test", scaled=scaled, repeated=repeated, like=like)


def _report(
    raw: Samples | Series,
    content: Content,
    *,
    part: str,
    scaled: str,
    repeated: int | None,
    like: DataReport | None = None,
) -> DataReport:
    schema, parts = content.schema, content.split.parts()
    if part == "test":
        parts = {part: parts[part]}
    cells = measured_cells(raw, content, parts[part])
    return DataReport(
        kind=str(schema.reading["kind"]),
        task=schema.task,
        rows={name: len(rows) for name, rows in parts.items()},
        shape=schema.raw_shape,
        span=_span(raw),
        label=schema.label,
        units=schema.units,
        positive=schema.positive,
        of=part,
        measured=cells.rows,
        are_channels=cells.are_channels,
        columns=_columns(cells, like),
        unlisted=cells.unlisted,
        targets=_targets(raw, content, parts[part], like),
        classes=_classes(content, parts),
        constant=content.constant,
        scaled=scaled,
        equal=_equal(cells, content.constant),
        repeated=repeated,
        notes=content.notes,
    )


def _span(raw: Samples | Series) -> tuple[str, ...]:
    if isinstance(raw, Samples):
        return ()
    return raw.times[0], raw.times[-1], str(len(raw.times))


def _columns(cells: Cells, like: DataReport | None) -> tuple[ColumnReport, ...]:
    known = {} if like is None else {column.name: column for column in like.columns}
    found = []
    for index, name in enumerate(cells.names):
        values, code = cells.values[:, index], cells.codes.get(name)
        if code is not None and code.is_category:
            found.append(categories(code, values, like=known.get(name)))
        else:
            filled = cells.filled.get(name, "")
            found.append(
                numbers(name, values, rows=cells.rows, filled=filled, like=known.get(name))
            )
    return tuple(found)


def _targets(
    raw: Samples | Series, content: Content, rows: Indices, like: DataReport | None
) -> tuple[ColumnReport, ...]:
    """Measure what a regression predicts; of a series these are channels, measured already."""
    if content.schema.task != "regression" or isinstance(raw, Series):
        return ()
    names = target_names(content.schema)
    known = [None] * len(names) if like is None else list(like.targets)
    values = content.targets[rows]
    return tuple(
        numbers(name, values[:, index], rows=len(rows), like=known[index])
        for index, name in enumerate(names)
    )


def target_names(schema: Schema) -> list[str]:
    """Return a name for each value that a regression of independent rows predicts."""
    label = schema.label or "target"
    if schema.outputs == 1:
        return [label]
    return [f"{label} {number + 1}" for number in range(schema.outputs)]


def _classes(content: Content, parts: Mapping[str, Indices]) -> tuple[ClassRows, ...]:
    names = content.schema.classes
    counts = {
        part: np.bincount(content.targets[rows], minlength=len(names)).tolist()
        for part, rows in parts.items()
        if names
    }
    return tuple(
        ClassRows(name=name, rows={part: each[index] for part, each in counts.items()})
        for index, name in enumerate(names)
    )


def _equal(cells: Cells, constant: tuple[str, ...]) -> Pairs:
    """Return columns that hold the same as an earlier one; those with one value are left out."""
    columns = np.ascontiguousarray(cells.values.T)
    first: dict[tuple[object, ...], str] = {}
    pairs = []
    for name, print_ in zip(
        cells.names, fingerprints(columns, np.arange(len(columns))), strict=True
    ):
        if name not in constant:
            code = cells.codes.get(name)
            before = first.setdefault((print_, () if code is None else code.levels), name)
            pairs += [(before, name)] if before != name else []
    return tuple(pairs)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value
