"""Data report, made before training: columns, classes, missing cells and leaks."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import repeat
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from pipeline.data.parsing.cells.kind import UNKNOWN
from pipeline.data.parsing.row_blocks import count_among, evenly_spaced_rows, fingerprints
from pipeline.data.preparation import checks
from pipeline.data.preparation.near_copies import count_near_copies
from pipeline.data.preparation.schema import MISSING_LEVEL, MOST_LEVELS, Code, axis_of, statistics
from pipeline.data.source import Array, Indices, OnDemand, Samples, Series, Task

if TYPE_CHECKING:
    from pipeline.data.preparation.content import Content

DECILES = tuple(round(0.1 * n, 1) for n in range(1, 10))
#: Most rows that are measured, evenly spaced; the limits below hold as well.
MOST_ROWS = 100_000
MOST_CELLS = 4_000_000
MOST_COLUMNS = 1_000
#: Most columns without names that are variables; more are pixels or steps.
MOST_UNNAMED = 100
#: Most values of a channel that are measured.
MOST_VALUES = 100_000
#: Most test rows whose columns are permuted to see how often rows are equal by chance.
MOST_PERMUTED = 2_000
#: Such rows in the training part, as a share of the test rows in it, from which repeats are usual:
#: columns that depend on each other make them likelier than chance does.
USUAL = 0.1
FEW_ROWS = 50
COSTLY_ROWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReport:
    """Report on a column of a table, or on a channel of an array or a series.

    Args:
        name: Name of the column or channel.
        levels: Its most frequent categories; empty = it holds numbers.
        rows: Number of rows that were measured.
        missing: Number of these without a value.
        unknown: Number of these with a category that the training part did not have.
        filled: Replacement of a missing value, in words; empty = none.
        mean: Mean of the numbers; `None` = there are none (also for `deviation`, `minimum` and
            `maximum`).
        edges: Numbers that bound the bins of the shares: deciles of the training part. A value
            that holds a tenth of the rows or more has a bin of its own.
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

    @property
    def known(self) -> int:
        """Measured rows with a value."""
        return self.rows - self.missing

    @property
    def missing_share(self) -> float:
        """Share of the measured rows without a value."""
        return self.missing / max(1, self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRows:
    """A class and its number of rows in each part."""

    name: str
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """Description of a data set, in plain values.

    Args:
        kind: table, array, images or series.
        task: binary, multiclass or regression.
        rows: Number of rows in each part; for a series, of windows.
        shape: Shape of a raw row, before it is encoded.
        span: First time, last time and number of times of a series; empty = not a series.
        label: Name of the target; empty = it has none.
        units: Unit of the target; empty = none.
        positive: Positive class of a binary task; `None` for other tasks.
        of: Part whose rows are measured.
        measured: Number of its rows that were measured, evenly spaced if these are not all.
        are_channels: Whether the columns are channels, each measured over all its positions.
        columns: Columns of a table, or channels of an array or a series.
        unlisted: Number of further columns, which were not measured.
        targets: Values that a regression predicts.
        classes: Classes, with their rows in each part.
        constant: Columns or channels with one value in the whole training part.
        equal: Pairs of columns that are equal in every cell, in column order.
        repeated: Number of test rows whose inputs are also in the training part; `None` = not
            counted.
        near_copies: Number of test rows that are nearly training rows.
        is_repetitive: Whether rows with such cells are often equal by chance.
        left_out: Number of rows of the file that are in no part.
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
    equal: tuple[tuple[str, str], ...]
    repeated: int | None
    near_copies: int = 0
    is_repetitive: bool = False
    left_out: int = 0
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dicts, lists, strings and numbers."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "DataReport":
        """Build the report that `to_dict` returned.

        Raises:
            ValueError: A field is missing, has the wrong type or is not finite, or a column has
                another number of shares than of levels or bins.
        """
        report: DataReport = TypeAdapter(cls).validate_python(plain)
        json.dumps(asdict(report), allow_nan=False)
        for column in (*report.columns, *report.targets):
            if column.shares and len(column.shares) != 1 + len(column.levels or column.edges):
                raise ValueError(f"{column.name!r} has {len(column.shares)} shares")
        return report


def data_report(
    raw: Samples | Series,
    content: "Content",
    *,
    like: DataReport | None = None,
    trained: Array | None = None,
) -> DataReport:
    """Return a report on the training part, or on the rows that a trained model is evaluated on.

    Args:
        raw: Raw data, as read by the source.
        content: The same data, split and measured; without a training part in an evaluation.
        like: Report on a model's training part, whose deciles and levels are used; `None` = own.
        trained: Fingerprints of a model's training rows; `None` = those of the training part.
    """
    schema = content.schema
    split = content.split
    parts = {name: rows for name, rows in split.parts().items() if len(rows)}
    part, rows = next(iter(parts.items()))
    repeated = None
    is_repetitive = False
    is_table = isinstance(raw, Samples) and part == "train" and content.inputs.ndim == 2
    if isinstance(raw, Samples) and (trained is not None or part == "train"):
        if trained is None:
            trained = fingerprints(content.inputs, split.train)
        repeated = count_among(fingerprints(content.inputs, split.test), trained)
        if repeated and content.inputs.ndim == 2:
            share = _repeated_by_chance(content.inputs[split.test[:MOST_PERMUTED]], trained)
            is_repetitive = share >= USUAL * repeated / len(split.test)
    times = () if isinstance(raw, Samples) else raw.times
    return DataReport(
        kind=str(schema.reading["kind"]),
        task=schema.task,
        rows={name: len(part_rows) for name, part_rows in parts.items()},
        shape=schema.raw_shape,
        span=(times[0], times[-1], str(len(times))) if times else (),
        label=schema.label,
        units=schema.units,
        positive=schema.positive,
        of=part,
        **_inputs(raw, content, rows, like),
        targets=_targets(raw, content, rows, like),
        classes=_classes(content, parts),
        constant=content.constant,
        repeated=repeated,
        near_copies=count_near_copies(content.inputs, split) if is_table else 0,
        is_repetitive=is_repetitive,
        left_out=raw.left_out if isinstance(raw, Samples) else 0,
        notes=content.notes,
    )


def _repeated_by_chance(cells: Array, trained: Array) -> float:
    """Return how often a row with independently drawn cells of these rows is a training row."""
    drawn = np.random.default_rng(0).permuted(cells, axis=0)
    return count_among(fingerprints(drawn, np.arange(len(drawn))), trained) / len(drawn)


def _classes(content: "Content", parts: Mapping[str, Indices]) -> tuple[ClassRows, ...]:
    """Return the rows of each class in each part."""
    names = content.schema.classes
    if not names:
        return ()
    counts = {}
    for part, rows in parts.items():
        counts[part] = np.bincount(content.targets[rows], minlength=len(names)).tolist()
    classes = []
    for index, name in enumerate(names):
        class_counts = {part: part_counts[index] for part, part_counts in counts.items()}
        classes.append(ClassRows(name=name, rows=class_counts))
    return tuple(classes)


def _inputs(
    raw: Samples | Series, content: "Content", rows: Indices, like: DataReport | None
) -> dict[str, Any]:
    """Measure the columns or channels of the rows at these positions in `content.inputs`."""
    names, cells, measured, are_channels = _cells(raw, content, rows)
    encoder = content.schema.encoder
    codes = {} if encoder is None else {code.name: code for code in encoder.codes}
    reported = {} if like is None else {column.name: column for column in like.columns}
    filled = str(raw.reading.get("missing", ""))
    columns = []
    for name, values in zip(names, cells.T, strict=True):
        code = codes.get(name)
        columns.append(
            _column(name, values, measured, reported.get(name), code=code, filled=filled)
        )
    prints = fingerprints(np.ascontiguousarray(cells.T), np.arange(cells.shape[1]))
    first_names: dict[tuple[object, ...], str] = {}
    equal = []  # without constant columns
    for name, print_ in zip(names, prints, strict=True):
        if name not in content.constant:
            levels = codes[name].levels if codes else ()
            first = first_names.setdefault((print_, levels), name)
            if first != name:
                equal.append((first, name))
    return {
        "measured": measured,
        "are_channels": are_channels,
        "columns": tuple(columns),
        "unlisted": 0 if are_channels else content.inputs.shape[1] - len(names),
        "equal": tuple(equal),
    }


def _cells(
    raw: Samples | Series, content: "Content", rows: Indices
) -> tuple[tuple[str, ...], Array, int, bool]:
    """Select so few cells that they are measured quickly.

    Returns:
        Names of the columns or channels; their cells, float64 (values, columns), NaN = missing;
        the number of rows that these come from; whether a row has several values per channel.
    """
    schema = content.schema
    inputs = content.inputs
    if isinstance(raw, Series):  # the times that the windows see or predict
        end = int(content.numbers[rows[-1]]) + schema.horizon
        start = int(content.numbers[rows[0]]) if rows[0] else 0
        rows = evenly_spaced_rows(np.arange(start, end), MOST_ROWS)
        channels = [raw.names.index(name) for name in schema.features]
        cells = np.asarray(raw.values[rows][:, channels], dtype=np.float64)
        return schema.features, cells, len(rows), True
    names = schema.columns or checks.feature_names(schema)
    width = prod(inputs.shape[1:])
    if isinstance(inputs, OnDemand) and inputs.costly:
        most_rows = COSTLY_ROWS
    else:
        most_rows = max(FEW_ROWS, min(MOST_ROWS, MOST_CELLS // width))
    rows = evenly_spaced_rows(rows, most_rows)
    cells = np.asarray(inputs[rows])
    are_channels = cells.ndim > 2 or not (schema.features or width <= MOST_UNNAMED)
    if not are_channels:
        names = names[:MOST_COLUMNS]
        cells = cells[:, : len(names)]
    elif cells.ndim == 2:  # pixels or steps in a row, without names
        names = ("all columns",)
        cells = cells.reshape(-1, 1)
    else:
        cells = np.moveaxis(cells, axis_of(cells.ndim), -1)
        cells = cells.reshape(-1, cells.shape[-1])
    if are_channels and len(cells) > MOST_VALUES:
        cells = cells[np.random.default_rng(0).integers(0, len(cells), MOST_VALUES)]
    return names, cells.astype(np.float64), len(rows), are_channels


def _targets(
    raw: Samples | Series, content: "Content", rows: Indices, like: DataReport | None
) -> tuple[ColumnReport, ...]:
    """Report on the targets of a regression; those of a series are channels, reported already."""
    if content.schema.task != "regression" or isinstance(raw, Series):
        return ()
    names = checks.target_names(content.schema)
    trained_targets = repeat(None) if like is None else like.targets
    targets = zip(names, content.targets[rows].T, trained_targets, strict=False)
    return tuple(_column(name, values, len(rows), trained) for name, values, trained in targets)


def _column(
    name: str,
    values: Array,
    rows: int,
    like: ColumnReport | None,
    *,
    code: Code | None = None,
    filled: str = "",
) -> ColumnReport:
    """Report on a column or channel with the values (values,), float64, NaN = missing.

    `rows` is the number of rows that these come from. Categories are indices of levels in `code`.
    With `like`, its levels and edges are used for the shares.
    """
    present = values[~np.isnan(values)]
    if code is not None and code.is_category:
        counts, fields = _level_counts(present, code, like)
        filled = "no category" if code.fill == UNKNOWN else code.levels[int(code.fill)]
        if filled == MISSING_LEVEL:
            filled = "a category of its own"
    else:
        counts, fields = _bin_counts(present, like)
        if code is not None:
            filled = f"the mean {code.fill:.4g}"
    missing = round((len(values) - len(present)) * rows / max(1, len(values)))
    shares = tuple((counts / max(1, counts.sum())).tolist())
    return ColumnReport(
        name=name, rows=rows, missing=missing, filled=filled, shares=shares, **fields
    )


def _level_counts(
    cells: Array, code: Code, like: ColumnReport | None
) -> tuple[Array, dict[str, Any]]:
    """Return the counts of the reported levels and of all others, and fields of `ColumnReport`."""
    sizes = np.bincount(cells[cells > UNKNOWN].astype(np.int64), minlength=len(code.levels))
    if like is None:
        most_frequent = np.argsort(-sizes, kind="stable")[:MOST_LEVELS].tolist()
        indices = [index for index in most_frequent if sizes[index]] or [0]
    else:
        indices = [code.levels.index(level) for level in like.levels]
    counts = np.append(sizes[indices], len(cells) - sizes[indices].sum())
    levels = tuple(code.levels[index] for index in indices)
    return counts, {"levels": levels, "unknown": int((cells <= UNKNOWN).sum())}


def _bin_counts(numbers: Array, like: ColumnReport | None) -> tuple[Array, dict[str, Any]]:
    """Return the counts of the bins, and fields of `ColumnReport`."""
    edges = np.empty(0) if like is None else np.asarray(like.edges)
    if like is None and len(numbers):
        # The deciles; if several of them are equal, that value gets a bin of its own.
        edges, times = np.unique(np.quantile(numbers, DECILES), return_counts=True)
        edges = np.unique(np.append(edges, np.nextafter(edges[times > 1], -np.inf)))
    fields: dict[str, Any] = {"edges": tuple(edges.tolist())}
    if len(numbers):
        measured = statistics(numbers[:, None], np.arange(len(numbers)))
        for statistic in ("mean", "deviation", "minimum", "maximum"):
            fields[statistic] = float(getattr(measured, statistic)[0])
    return np.bincount(np.searchsorted(edges, numbers), minlength=len(edges) + 1), fields
