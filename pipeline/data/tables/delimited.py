"""The rows of a CSV or Parquet file as batches of texts; never the whole file at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.tables.damage import parse_problems, unended_quote
from pipeline.data.tables.encoding import nul_problem
from pipeline.data.tables.form import Form, form_of
from pipeline.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 2**22
BATCH_ROWS = 65_536


def column_names(path: Path, *, sep: str | None = None) -> tuple[str, ...]:
    """Return the names of the columns, without spaces around them.

    Args:
        path: A CSV or Parquet file, told apart by their content.
        sep: What parts the cells of a CSV file: `,` `;` `|` or a tab; None = found.

    Raises:
        DataError: It is no table with a header.
        EnvironmentFaultError: It may not be read.
    """
    return form_of(path, sep=sep).names


def batches(
    path: Path, *, sep: str | None = None, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield batches of rows in order, each with the number of its first row, counted from 1.

    All cells are texts without spaces around them; an empty cell is null. A header without rows
    yields nothing.

    Args:
        path: A CSV or Parquet file, told apart by their content.
        sep: What parts the cells of a CSV file; None = found.
        columns: Names of those to read, in the order of the batches; None = all.

    Raises:
        DataError: It is no table, lacks a column, or is damaged: says in which line.
        EnvironmentFaultError: It may not be read.
    """
    form = form_of(path, sep=sep)
    chosen = form.names if columns is None else tuple(columns)
    require_columns(path, form.names, chosen)
    read = _text if form.kind == "text" else _parquet
    first = 1
    for batch in read(path, form, chosen):
        if batch.num_rows:
            yield first, batch
        first += batch.num_rows


def rows_times_columns(path: Path) -> int:
    """Return how many cells a Parquet file says it has; 0 for a text, which does not say."""
    import pyarrow.parquet as pq

    if form_of(path).kind == "text":
        return 0
    found = pq.read_metadata(path)
    return int(found.num_rows * found.num_columns)


def require_columns(
    what: Path | str, there: Sequence[str], wanted: Sequence[str], *, needed: str = ""
) -> None:
    """Refuse what lacks columns.

    Args:
        what: A file, or a word for what else holds the columns.
        there: The columns that it has.
        wanted: Those that it must have.
        needed: What they are needed for, in words.

    Raises:
        DataError: Names all that are missing and all that are there.
    """
    missing = [name for name in wanted if name not in there]
    if missing:
        named = ", ".join(map(repr, missing))
        purpose = f", which {needed}" if needed else ""
        raise DataError(
            f"{what} lacks the column{'s' * (len(missing) > 1)} {named}{purpose}; it has "
            f"{', '.join(there)}.{did_you_mean(missing[0], there)}"
        )


def _text(path: Path, form: Form, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    last = None
    try:
        for last in _parsed(path, form, columns):
            _refuse_nul(path, last)
            yield _trimmed(last)
    except pa.ArrowInvalid as error:
        raise DataError(*parse_problems(path, form, str(error))) from error
    if last is not None and (problems := unended_quote(path, form, last)):
        raise DataError(*problems)


def _parsed(path: Path, form: Form, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    if not path.stat().st_size > form.start:
        return
    with pa.OSFile(str(path), "rb") as file:
        file.seek(form.start)
        if _is_blank(path, form.start):
            return
        yield from csv.open_csv(
            file,
            read_options=csv.ReadOptions(
                column_names=[*form.names], block_size=BLOCK_BYTES, use_threads=True
            ),
            parse_options=csv.ParseOptions(delimiter=form.sep, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(form.names, pa.string()),
                include_columns=[*columns],
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )


def _is_blank(path: Path, start: int) -> bool:
    """Tell a file that has nothing but blank lines behind its header."""
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(BLOCK_BYTES):
            if block.strip():
                return False
    return True


def _refuse_nul(path: Path, batch: pa.RecordBatch) -> None:
    if not all(_content(cells).all() for cells in batch.columns):
        raise DataError(nul_problem(path))


def _trimmed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take the spaces around all cells away; what is empty then is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def trimmed(cells: pa.Array) -> pa.Array:
        # Letters, digits and signs of ASCII become 0 to 93, spaces of any kind lie above them.
        if not (_content(cells) - np.uint8(33) > 93).any() and not _has_empty(cells):
            return cells
        texts = pc.utf8_trim_whitespace(cells)
        return pc.if_else(pc.equal(texts, ""), None, texts)

    return pa.RecordBatch.from_arrays(
        [trimmed(cells) for cells in batch.columns], names=batch.schema.names
    )


def _has_empty(cells: pa.Array) -> bool:
    import pyarrow.compute as pc

    return bool(pc.min(pc.binary_length(cells)).as_py() == 0)


def _content(cells: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all cells, one behind the other."""
    texts = cells.buffers()[2]
    if texts is None:
        return np.empty(0, dtype=np.uint8)
    content: NDArray[np.uint8] = np.frombuffer(texts, dtype=np.uint8)
    return content


def _parquet(path: Path, form: Form, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            stored = dict(zip(form.names, file.schema_arrow.names, strict=True))
            _require_plain(path, file.schema_arrow, [stored[name] for name in columns])
            for batch in file.iter_batches(BATCH_ROWS, columns=[stored[name] for name in columns]):
                texts = [_as_texts(batch.column(stored[name])) for name in columns]
                yield _trimmed(pa.RecordBatch.from_arrays(texts, names=[*columns]))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} can't be read as Parquet: {_one_line(error)}") from error


def _require_plain(path: Path, schema: pa.Schema, columns: Sequence[str]) -> None:
    import pyarrow as pa

    nested = [
        name
        for name in columns
        if pa.types.is_nested(schema.field(name).type)
        or pa.types.is_binary(schema.field(name).type)
        or pa.types.is_large_binary(schema.field(name).type)
    ]
    if nested:
        raise DataError(
            f"{path}: the column {nested[0]!r} holds {schema.field(nested[0]).type}; expected "
            f"numbers or texts. Leave it out: data.drop=[{','.join(nested)}]"
        )


def _as_texts(cells: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells.cast(pa.string())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
