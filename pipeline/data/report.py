"""What the data are, found out before training: columns, classes, missing cells, leaks."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from pipeline.config.options import DataOptions
from pipeline.data import checks
from pipeline.data.content import Content
from pipeline.data.schema import MOST_LEVELS, UNKNOWN, Code, statistics
from pipeline.data.source import Array, Indices, OnDemand, Samples, Series, Task

DECILES = tuple(round(0.1 * n, 1) for n in range(1, 10))
#: Rows that are measured, evenly spaced; the following limits hold as well.
MOST_ROWS = 100_000
MOST_CELLS = 4_000_000
MOST_COLUMNS = 1_000
#: Columns without a name, more of which are pixels or steps rather than variables.
MOST_UNNAMED = 100
#: Values of a channel.
MOST_VALUES = 100_000
FEW_ROWS = 50
COSTLY_ROWS = 200

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReport:
    """One column of a table, or one channel of an array or a series.

    Args:
        name: Of the column or the channel.
        levels: Its most frequent categories; empty = it holds numbers.
        rows: Rows that were measured.
        missing: Those of them without a value.
        unknown: Those of them with a category that the training part did not have.
        filled: What takes the place of a missing value; empty = nothing does.
        mean: Of the numbers; `None` = there are none.
        deviation: Their standard deviation.
        minimum: The smallest.
        maximum: The largest.
        edges: Numbers between which the shares are counted: deciles of the training part. A value
            that holds a tenth of the rows or more has a share of its own.
        shares: Share of the values up to each edge and above the last one, or of each level and
            of all others; they add up to 1.
    """

    name: str
    levels: tuple[str, ...] = ()
    rows: int
    missing: int
    unknown: int = 0
    filled: str = ""
    mean: float | None = None
    deviation: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    edges: tuple[float, ...] = ()
    shares: tuple[float, ...]


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
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "DataReport":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: A field is missing or of another type.
        """
        return TypeAdapter(cls).validate_python(plain)


def data_report(raw: Samples | Series, content: Content, options: DataOptions) -> DataReport:
    """Report on data that are about to be trained on; columns are those of the training part."""
    is_rows = isinstance(raw, Samples)
    repeated = checks.repeated_rows(content.inputs, content.split) if is_rows else None
    parts = content.split.parts()
    return _report(raw, content, parts, scaled=options.scale, repeated=repeated)


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
    test = content.split.test
    repeated = None
    if trained is not None and isinstance(raw, Samples):
        repeated = checks.count_among(checks.fingerprints(content.inputs, test), trained)
    scaled = "none" if like is None else like.scaled
    return _report(raw, content, {"test": test}, scaled=scaled, repeated=repeated, like=like)


def _report(
    raw: Samples | Series,
    content: Content,
    parts: Mapping[str, Indices],
    *,
    scaled: str,
    repeated: int | None,
    like: DataReport | None = None,
) -> DataReport:
    """Measure the first of the parts, and count the rows and classes of all."""
    schema = content.schema
    part, rows = next(iter(parts.items()))
    cells = _cells(raw, content, rows)
    times = () if isinstance(raw, Samples) else raw.times
    counts = {
        name: np.bincount(content.targets[each], minlength=len(schema.classes)).tolist()
        for name, each in parts.items()
        if schema.classes
    }
    return DataReport(
        kind=str(schema.reading["kind"]),
        task=schema.task,
        rows={name: len(each) for name, each in parts.items()},
        shape=schema.raw_shape,
        span=(times[0], times[-1], str(len(times))) if times else (),
        label=schema.label,
        units=schema.units,
        positive=schema.positive,
        of=part,
        measured=cells.rows,
        are_channels=cells.are_channels,
        columns=_columns(cells, like),
        unlisted=cells.unlisted,
        targets=_targets(raw, content, rows, like),
        classes=tuple(
            ClassRows(name=name, rows={part: each[index] for part, each in counts.items()})
            for index, name in enumerate(schema.classes)
        ),
        constant=content.constant,
        scaled=scaled,
        equal=_equal(cells, content.constant),
        repeated=repeated,
        notes=content.notes,
    )


class _Cells(NamedTuple):
    """Cells of some rows, few enough to be measured quickly.

    Args:
        names: Of the columns or channels.
        values: float64 (values, columns); NaN = missing.
        rows: How many rows they come from.
        are_channels: A row has several values of each.
        codes: How columns of a table are encoded, by name.
        filled: What takes the place of a missing value in columns without a code.
        unlisted: Further columns.
    """

    names: tuple[str, ...]
    values: Array
    rows: int
    are_channels: bool
    codes: Mapping[str, Code] = {}
    filled: str = ""
    unlisted: int = 0


def _cells(raw: Samples | Series, content: Content, rows: Indices) -> _Cells:
    """Take cells of the rows at these positions in `content.inputs`."""
    schema, inputs = content.schema, content.inputs
    if isinstance(raw, Series):
        return _times(raw, content, rows)
    width = int(np.prod(inputs.shape[1:]))
    costly = isinstance(inputs, OnDemand) and inputs.costly
    most = COSTLY_ROWS if costly else min(MOST_ROWS, MOST_CELLS // width)
    rows = _evenly_spaced(rows, max(FEW_ROWS, most))
    names = schema.columns or checks.feature_names(schema)
    if inputs.ndim > 2 or not (schema.features or width <= MOST_UNNAMED):
        return _channels(np.asarray(inputs[rows]), names)
    listed = names[:MOST_COLUMNS]
    values = np.asarray(inputs[rows][:, : len(listed)], dtype=np.float64)
    codes = {code.name: code for code in (schema.encoder.codes if schema.encoder else ())}
    unlisted = len(names) - len(listed)
    return _Cells(listed, values, len(rows), are_channels=False, codes=codes, unlisted=unlisted)


def _channels(block: Array, names: tuple[str, ...]) -> _Cells:
    if block.ndim == 2:  # pixels or steps in a row, without names
        names, values = ("all columns",), block.reshape(-1, 1)
    else:
        last = np.moveaxis(block, 1, -1) if block.ndim == 4 else block
        values = last.reshape(-1, last.shape[-1])
    if len(values) > MOST_VALUES:
        values = values[np.random.default_rng(0).integers(0, len(values), MOST_VALUES)]
    return _Cells(names, values.astype(np.float64), len(block), are_channels=True)


def _times(series: Series, content: Content, rows: Indices) -> _Cells:
    """Take the times of a series that the windows see or predict."""
    schema = content.schema
    end = int(content.numbers[rows[-1]]) + schema.horizon
    start = int(content.numbers[rows[0]]) if rows[0] else 0
    times = _evenly_spaced(np.arange(start, end), MOST_ROWS)
    columns = [series.names.index(name) for name in schema.features]
    values = np.asarray(series.values[times][:, columns], dtype=np.float64)
    filled = str(series.reading.get("missing", ""))
    return _Cells(schema.features, values, len(times), are_channels=True, filled=filled)


def _evenly_spaced(rows: Indices, most: int) -> Indices:
    if len(rows) <= most:
        return rows
    chosen: Indices = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return chosen


def _columns(cells: _Cells, like: DataReport | None) -> tuple[ColumnReport, ...]:
    known = {} if like is None else {column.name: column for column in like.columns}
    found = []
    for index, name in enumerate(cells.names):
        values, code, before = cells.values[:, index], cells.codes.get(name), known.get(name)
        if code is not None and code.is_category:
            found.append(_categories(code, values, before))
        else:
            filled = cells.filled if code is None else _filling(code)
            found.append(_numbers(name, values, cells.rows, before, filled=filled))
    return tuple(found)


def _targets(
    raw: Samples | Series, content: Content, rows: Indices, like: DataReport | None
) -> tuple[ColumnReport, ...]:
    """Measure what a regression predicts; of a series these are channels, measured already."""
    if content.schema.task != "regression" or isinstance(raw, Series):
        return ()
    names = checks.target_names(content.schema)
    known = repeat(None) if like is None else like.targets
    columns = zip(names, content.targets[rows].T, known, strict=False)
    return tuple(_numbers(name, values, len(rows), before) for name, values, before in columns)


def _numbers(
    name: str, values: Array, rows: int, like: ColumnReport | None, *, filled: str = ""
) -> ColumnReport:
    """Measure float64 (values,), NaN = missing; a channel has several of each row."""
    known = values[~np.isnan(values)]
    edges = _edges(known) if like is None else np.asarray(like.edges)
    counts = np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1)
    figures: dict[str, Any] = {}
    if len(known):
        measured = statistics(known[:, None], np.arange(len(known)))
        ends = ("mean", "deviation", "minimum", "maximum")
        figures = {end: float(getattr(measured, end)[0]) for end in ends}
    return ColumnReport(
        name=name,
        rows=rows,
        missing=round((len(values) - len(known)) * rows / max(1, len(values))),
        filled=filled,
        edges=tuple(edges.tolist()),
        shares=tuple((counts / max(1, counts.sum())).tolist()),
        **figures,
    )


def _categories(code: Code, cells: Array, like: ColumnReport | None) -> ColumnReport:
    """Measure float64 (rows,): the index of each category in `code.levels`, NaN = missing."""
    known = cells[~np.isnan(cells)]
    counts = np.bincount(known[known > UNKNOWN].astype(np.int64), minlength=len(code.levels))
    if like is None:
        ordered = np.argsort(-counts, kind="stable")[:MOST_LEVELS].tolist()
        named = [index for index in ordered if counts[index]] or [0]
    else:
        named = [code.levels.index(level) for level in like.levels]
    counts = np.append(counts[named], len(known) - counts[named].sum())
    return ColumnReport(
        name=code.name,
        levels=tuple(code.levels[index] for index in named),
        rows=len(cells),
        missing=len(cells) - len(known),
        unknown=int((known <= UNKNOWN).sum()),
        filled=_filling(code),
        shares=tuple((counts / max(1, counts.sum())).tolist()),
    )


def _filling(code: Code) -> str:
    """Say what a missing cell of a column becomes."""
    if not code.is_category:
        return f"the mean {code.fill:.4g}"
    return "no category" if code.fill == UNKNOWN else code.levels[int(code.fill)]


def _edges(known: Array) -> Array:
    """Return the deciles; where several are one value, that value has a share of its own."""
    if not len(known):
        return np.empty(0)
    edges, times = np.unique(np.quantile(known, DECILES), return_counts=True)
    below = np.nextafter(edges[times > 1], -np.inf)
    return np.unique(np.concatenate([edges, below]))


def _equal(cells: _Cells, constant: tuple[str, ...]) -> Pairs:
    """Return columns that hold the same as an earlier one; those with one value are left out."""
    columns = np.ascontiguousarray(cells.values.T)
    prints = checks.fingerprints(columns, np.arange(len(columns)))
    first: dict[tuple[object, ...], str] = {}
    pairs = []
    for name, print_ in zip(cells.names, prints, strict=True):
        if name not in constant:
            code = cells.codes.get(name)
            before = first.setdefault((print_, () if code is None else code.levels), name)
            pairs += [(before, name)] if before != name else []
    return tuple(pairs)
