"""Readers of new rows, which apply what a trained model has learned from its training rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import ConfigError, DataError, did_you_mean, typed
from pipeline.data.parsing.cells.kind import UNKNOWN
from pipeline.data.parsing.labels import NAMES_ANOTHER
from pipeline.data.preparation.checks import check_finite, check_reach, check_rows
from pipeline.data.preparation.content import Content, Part
from pipeline.data.preparation.schema import Code, Schema
from pipeline.data.preparation.split import Split
from pipeline.data.source import Array, OnDemand, Samples, Series, Source

if TYPE_CHECKING:
    import pandas as pd

#: Number of example rows that are saved with a model.
EXAMPLE_ROWS = 3
#: Kinds whose module has a different name.
MODULES = {"array": "arrays"}
NOTHING = np.empty(0, dtype=np.int64)
HINT = "data= and data.path= choose the evaluated data"

Unknown = Literal["other", "refuse"]
Missing = Literal["refuse", "impute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules for reading new rows.

    Args:
        id: Column of a table that names its rows; None = the one used in training, if present.
        unknown: How to treat a category that training never saw.
        missing: How to treat an empty cell in a column that had none in training.
    """

    id: str | None = None
    unknown: Unknown = "other"
    missing: Missing = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """A block of rows.

    Args:
        raw: Raw rows, (rows, *raw_shape).
        names: Name of each answer, (rows,); for a series, the times of the steps to predict,
            (horizon,). None = the answers have no names.
        offsets: Values that undo the difference of a series, in units, (rows, outputs); None = no
            difference.
    """

    raw: Array
    names: list[str] | None = None
    offsets: Array | None = None

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(slots=True, kw_only=True, eq=False)
class NewRows:
    """New rows of an opened file; the counts are complete once all blocks have been read.

    Args:
        heading: Heading of the column of names; None = the rows have no names.
        blocks: The rows in order; each block but the last has the size that was asked for.
        total: Total number of rows; None = unknown before the end.
        unknown: Number of cells by column whose category was counted as another.
        missing: Number of cells by column that were filled in.
        ignored: Columns that the model does not know.
        gaps: Messages about missing steps of a series.
    """

    heading: str | None
    blocks: Iterator[Block] = field(default_factory=lambda: iter(()))
    total: int | None = None
    unknown: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    ignored: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()


class Reader(ABC):
    """Reader of new rows of one kind for a trained model.

    A source and the preparation learn from the training rows; the schema keeps what they have
    learned, and a reader applies it to other rows. `reader_of` finds the reader of a schema: the
    attribute `READER` of the module `pipeline.data.<kind>`.

    Args:
        schema: Schema of the trained model.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @abstractmethod
    def inputs(self) -> Any:
        """Describe a row: a list of `{name, type}`, or `{shape, dtype}` for arrays."""

    @abstractmethod
    def example(self, raw: Samples | Series, content: Content) -> Any:
        """Return a few raw training rows as JSON values: the first ones, or the end of a series.

        The format is `[{column: cell}, …]`, which `apply` takes as a DataFrame, or nested lists.
        """

    @abstractmethod
    def open(self, path: Path, rules: Rules, *, size: int) -> NewRows:
        """Open a file or folder of new rows, to be read in blocks of `size` rows.

        Raises:
            ConfigError: A rule does not suit this kind of rows.
            DataError: The file or, while its block is read, a row can't be used.
        """

    @abstractmethod
    def apply(self, rows: Any, *, what: str, missing: Missing = "refuse") -> Block:
        """Return rows in memory: a DataFrame, or numbers (rows, *raw_shape) as an array or lists.

        Raises:
            DataError: The rows can't be used; `what` is their name in the message.
        """

    def evaluated(self, source: Source, *, budget: int) -> tuple[Samples | Series, Content, Part]:
        """Read the rows of a source that fits the model; all of them are evaluated.

        Returns what was read, its content (all rows are in the test part), and the test part, which
        is lazy if it exceeds `budget` MiB.

        Raises:
            DataError: The rows do not fit the model.
        """
        raw = source.read()
        if isinstance(raw, Series):
            return raw, *self.evaluated_series(raw, what=source.place)
        content = rows_as_saved(raw, self.schema, what=source.place)
        return raw, content, content.part(content.split.test, budget=budget)

    def evaluated_series(self, series: Series, *, what: str) -> tuple[Content, Part]:
        """Return a series as content and test part. Raises DataError if the model reads rows."""
        del series, what
        raise DataError(
            "the data are a series, but the model was trained on independent rows; expected the "
            "same"
        )

    def refuse_id(self, rules: Rules) -> None:
        """Raise ConfigError if the rules name an id column, for rows that have no columns."""
        if rules.id is not None:
            raise ConfigError(
                f"id={rules.id} names a column of a table, but this model reads "
                f"{self.schema.reading['kind']}; remove it"
            )

    def required_frame(self, rows: Any) -> pd.DataFrame:
        """Return `rows`, whose columns need names. Raises DataError if not a DataFrame."""
        import pandas as pd

        if isinstance(rows, pd.DataFrame):
            return rows
        raise DataError(
            f"this model reads a {self.schema.reading['kind']}; expected a DataFrame with its "
            "columns by name"
        )


def reader_of(schema: Schema) -> Reader:
    """Return the reader of new rows for a schema. Raises KeyError if its kind has none."""
    kind = str(schema.reading["kind"])
    name = f"pipeline.data.{MODULES.get(kind, kind)}"
    try:
        reader_class: type[Reader] = import_module(name).READER
    except (AttributeError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not name.startswith(error.name or "?"):
            raise
        raise KeyError(kind) from error
    return reader_class(schema)


def first_rows(raw: Samples, content: Content) -> Array:
    """Return the first training rows, of those without missing cells if there are any."""
    rows = content.split.train[: 100 * EXAMPLE_ROWS]
    if raw.columns:
        is_complete = ~np.isnan(np.asarray(raw.inputs[rows], dtype=np.float64)).any(1)
        if is_complete.any():
            rows = rows[is_complete]
    return np.asarray(raw.inputs[rows[:EXAMPLE_ROWS]])


def numbers_of(rows: Any, shape: tuple[int, ...], *, what: str) -> Array:
    """Return flat or shaped rows in memory as (rows, *shape). Raises DataError if they can't be."""
    try:
        raw = np.asarray(rows)
        if raw.dtype.kind not in "biuf":
            raw = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what} holds values that are not numbers, or rows of different lengths"
        ) from error
    if raw.shape[1:] != shape and (raw.ndim != 2 or raw.shape[1] != int(np.prod(shape))):
        raise DataError(
            f"{what} has the shape {_sizes(raw.shape)}; expected rows of {_sizes(shape)}: "
            f"(rows, {', '.join(map(str, shape))})"
        )
    return raw.reshape(len(raw), *shape)


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def sliced(raw: Array | OnDemand, names: list[str] | None, *, size: int) -> Iterator[Block]:
    """Yield rows (rows, *raw_shape) in blocks of `size`; each is read when it is requested."""
    for start in range(0, len(raw), size):
        rows = slice(start, start + size)
        yield Block(raw=raw[rows], names=None if names is None else names[rows])


def regrouped(pieces: Iterable[Block], *, size: int) -> Iterator[Block]:
    """Yield the rows of `pieces` in blocks of `size` rows; the last one may be smaller."""
    waiting: list[Block] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= size:
            joined = _joined(waiting)
            blocks = list(sliced(joined.raw, joined.names, size=size))
            waiting = []
            if len(blocks[-1]) < size:
                waiting.append(blocks.pop())
            yield from blocks
    if any(map(len, waiting)):
        yield _joined(waiting)


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    names: list[str] | None = None
    if blocks[0].names is not None:
        names = []
        for block in blocks:
            names += block.names or ()
    return Block(raw=np.concatenate([block.raw for block in blocks]), names=names)


def rows_as_saved(samples: Samples, schema: Schema, *, what: str = "the data") -> Content:
    """Return samples as content with the schema of a model; all rows are in the test part.

    Raises:
        DataError: Shape, task, columns or classes are not those of the model.
    """
    check_rows(samples)
    inputs = _inputs(samples, schema)
    reach = check_finite(inputs, "the data", holes_too=schema.encoder is None)
    notes = [note for note in samples.notes if not note.endswith(NAMES_ANOTHER)]
    if schema.columns:
        ignored = [name for name in _names(samples) if name not in schema.columns]
        if ignored:
            notes.append(f"ignored columns (not used in training): {', '.join(ignored)}")
    targets = _targets(samples, schema)
    check_reach(schema, reach, targets, what=what)
    fields: dict[str, Any] = {"notes": tuple(notes), "groups": samples.group_numbers}
    if samples.numbers is not None:
        fields["numbers"] = samples.numbers
    return content_of_test(inputs, targets, schema, **fields)


def content_of_test(
    inputs: Array | OnDemand, targets: Array, schema: Schema, **fields: Any
) -> Content:
    """Return content whose rows are all in the test part; `fields` are further fields of it."""
    rows = np.arange(len(targets))
    split = Split(train=NOTHING, validation=None, test=rows)
    fields.setdefault("numbers", rows)
    return Content(inputs=inputs, targets=targets, schema=schema, split=split, **fields)


def split_as_saved(raw: Samples | Series, content: Content, schema: Schema) -> Content:
    """Return the content of a run, with its split, under the schema of its saved model.

    If the data are those of the training, only the schema object is replaced.

    Raises:
        DataError: The model can't read the data any more.
    """
    if isinstance(raw, Samples):
        # The targets are the content's, in which training labels may be shuffled.
        targets = _targets(replace(raw, targets=content.targets), schema)
        return replace(content, inputs=_inputs(raw, schema), targets=targets, schema=schema)
    if (raw.names, raw.targets) != (schema.features, schema.targets):
        raise DataError(
            f"the series has the columns {', '.join(raw.names)}, but the model was trained on "
            f"{', '.join(schema.features)} to predict {', '.join(schema.targets)}"
        )
    return replace(content, schema=schema)


def _inputs(samples: Samples, schema: Schema) -> Array | OnDemand:
    """Return the rows (rows, *raw_shape) with columns and categories in the model's order."""
    names = _names(samples)
    if not (schema.columns and names and samples.inputs.ndim == 2):
        if samples.input_shape != schema.raw_shape:
            raise DataError(
                f"the rows have shape {_sizes(samples.input_shape)}; the model was trained on rows "
                f"of shape {_sizes(schema.raw_shape)}. {HINT}"
            )
        return samples.inputs
    missing = [name for name in schema.columns if name not in names]
    if missing:
        unit = "column" if len(missing) == 1 else "columns"
        raise DataError(
            f"the data lack the {unit} "
            f"{', '.join(map(repr, missing))}, which the model was trained on; they have "
            f"{', '.join(names)}.{did_you_mean(missing[0], names)}"
        )
    levels = {column.name: column.levels for column in samples.columns}
    codes = () if schema.encoder is None else schema.encoder.codes
    have_indices = all(_has_indices(code, levels.get(code.name, ())) for code in codes)
    if names == schema.columns and have_indices:
        return samples.inputs
    positions = [names.index(name) for name in schema.columns]
    cells = np.asarray(samples.inputs[:][:, positions], dtype=np.float64)
    for index, code in enumerate(codes):
        cells[:, index] = _recoded(cells[:, index], levels.get(code.name, ()), code)
    return cells


def _has_indices(code: Code, levels: tuple[str, ...]) -> bool:
    """Return whether the model has the same indices for categories; it may know more."""
    return bool(levels) == code.is_category and code.levels[: len(levels)] == levels


def _recoded(cells: Array, levels: tuple[str, ...], code: Code) -> Array:
    """Return cells (rows,) with the model's indices of categories; others become `UNKNOWN`."""
    if bool(levels) != code.is_category and not np.isnan(cells).all():
        if code.is_category:
            problem = "numbers, but the model was trained on categories"
            key = "data.categorical"
        else:
            problem = "categories, but the model was trained on numbers"
            key = "data.numeric"
        raise DataError(
            f"column {code.name!r} holds {problem}; "
            f"{typed(key, [code.name])} reads it as in training"
        )
    if not levels or _has_indices(code, levels):
        return cells
    model_indices = {level: index for index, level in enumerate(code.levels)}
    new_indices = np.array([model_indices.get(level, UNKNOWN) for level in levels], np.float64)
    has_level = np.isfinite(cells) & (cells >= 0)
    recoded = cells.copy()
    recoded[has_level] = new_indices[cells[has_level].astype(int)]
    return recoded


def _targets(samples: Samples, schema: Schema) -> Array:
    are_values = schema.task == "regression"
    if (samples.task == "regression") != are_values:
        problem = f"values, but the model predicts the classes {', '.join(schema.classes)}"
        if are_values:
            problem = f"the classes {', '.join(samples.classes)}, but the model predicts values"
        raise DataError(f"the target holds {problem}. {HINT}")
    if are_values:
        values = np.asarray(samples.targets, dtype=np.float64).reshape(len(samples.targets), -1)
        if values.shape[1] != schema.outputs:
            raise DataError(
                f"the target has {values.shape[1]} values per row, but the model "
                f"predicts {schema.outputs}. {HINT}"
            )
        check_finite(values, "the target")
        return values
    targets = samples.targets.astype(np.int64)
    if samples.classes == schema.classes:
        return targets
    model_indices = {name: index for index, name in enumerate(schema.classes)}
    new_indices = np.array([model_indices.get(name, -1) for name in samples.classes])
    recoded: NDArray[np.int64] = new_indices[targets]
    if (recoded < 0).any():
        row = int((recoded < 0).argmax())
        name = samples.classes[targets[row]]
        raise DataError(
            f"row {row} is of class {name!r}, unknown to the model; expected one of "
            f"{', '.join(schema.classes)}.{did_you_mean(name, schema.classes)}"
        )
    return recoded


def _names(samples: Samples) -> tuple[str, ...]:
    return tuple(column.name for column in samples.columns) or samples.features
