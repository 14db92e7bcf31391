"""Files of a model's folder, tables of predictions, and checks of input and output paths.

Nothing here imports torch.
"""

import csv
import errno
import io
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.base.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean
from pipeline.base.paths import place_problem, replace_file, replace_text, url_problem

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Folder of a run that holds its model and the files that describe it.
FOLDER = "model"
#: Files in that folder.
FILE = "model.ckpt"
INTERFACE = "interface.json"
EXAMPLE = "example.json"
CARD = "card.md"
#: Folder of a run with the user's own code that its model needs.
CODE = "code"
#: Paths at which a folder may hold its weights, the most complete file first.
PLACES = (
    FILE,
    f"{FOLDER}/{FILE}",
    f"artifacts/{FOLDER}/{FILE}",
    "checkpoints/kept.ckpt",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
)

Column = list[str] | list[float]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
CSV = ".csv"
PARQUET = ".parquet"
#: Rows from which a row group of a Parquet file is written.
GROUP_ROWS = 65_536


def model_file(folder: Path) -> Path:
    """Return the file that holds the weights. Raises ConfigError if the folder has none."""
    if not folder.is_dir():
        return folder
    for path in PLACES:
        if (folder / path).is_file():
            return folder / path
    raise ConfigError(
        f"{str(folder)!r} has no model; expected the folder of a run with a finished epoch, or its "
        f"MLflow model ({FILE} does not exist)"
    )


def cell(text: str) -> str:
    """Escape a text that a spreadsheet would run as a formula; numbers stay as they are."""
    if not text.startswith(FORMULA_STARTS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


class _Lines(list[str]):
    """List of the lines that `csv.writer` writes."""

    write = list.append


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Return lines of cells as CSV text, each line ended by a line feed.

    Before Python 3.13 the writer quotes only the characters of its line ending, but readers also
    take a bare carriage return for one. With CR LF as the line ending it quotes both.
    """
    end = "\r\n"
    texts = _Lines()
    csv.writer(texts, lineterminator=end).writerows(lines)
    return "".join(f"{text.removesuffix(end)}\n" for text in texts)


def write_csv(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file atomically."""
    replace_text(path, csv_text([header, *lines]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheet:
    """A table that is produced piece by piece; a piece holds all columns of its rows.

    The columns named in `texts` hold texts, the others numbers.
    """

    header: tuple[str, ...]
    texts: frozenset[str]
    pieces: Iterator[Sequence[Column]]


class _PrintedBytes(io.BytesIO):
    """A file whose content is printed as text."""

    def write(self, content: "ReadableBuffer", /) -> int:
        """Print bytes that begin and end with whole characters."""
        return sys.stdout.write(bytes(content).decode("utf-8"))


def write_sheet(output: str | None, sheet: Sheet) -> None:
    """Write a table atomically to a file, or as CSV to standard output if `output` is `None`."""
    if output is not None:
        write = WRITERS[Path(output).suffix.lower()]
        # A symbolic link is kept and points to the new file.
        replace_file(Path(os.path.realpath(output)), lambda file: write(file, sheet))
    elif hasattr(sys.stdout, "buffer") and not sys.stdout.isatty():
        # Always UTF-8, whatever the terminal's encoding, since a program may read it.
        sys.stdout.flush()
        write_csv_to(sys.stdout.buffer, sheet)
        sys.stdout.buffer.flush()
    else:  # a notebook takes text only, and a terminal must not obey what the bytes hold
        write_csv_to(_PrintedBytes(), sheet)


def write_csv_to(file: BinaryIO, sheet: Sheet) -> None:
    """Write a table as CSV; cells that a spreadsheet would run as formulas are escaped."""
    heading = csv_text([[cell(name) for name in sheet.header]]).encode("utf-8")
    for columns in sheet.pieces:
        file.write(heading)  # only once the first rows have been computed
        heading = b""
        cells: list[Iterable[Any]] = []
        for name, column in zip(sheet.header, columns, strict=True):
            cells.append(map(cell, map(str, column)) if name in sheet.texts else column)
        file.write(csv_text(zip(*cells, strict=True)).encode("utf-8"))
    file.write(heading)


def write_parquet_to(file: BinaryIO, sheet: Sheet) -> None:
    """Write a table as Parquet; its texts are not escaped, since no program runs them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = []
    for name in sheet.header:
        fields.append((name, pa.string() if name in sheet.texts else pa.float64()))
    schema = pa.schema(fields)
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema) as writer:
        for columns in sheet.pieces:
            waiting.append(pa.record_batch([list(column) for column in columns], schema=schema))
            if sum(map(len, waiting)) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


#: Writer of a table by the suffix of its file.
WRITERS = {CSV: write_csv_to, PARQUET: write_parquet_to}


def require_places(source: str, output: str | None, *, overwrite: bool) -> None:
    """Check the paths to read and to write (None = standard output) before any other work.

    Raises:
        ConfigError: A path is malformed, or the output can't be written there.
        DataError: The input is a URL or does not exist.
        EnvironmentFaultError: The user may not read the input or write the output.
    """
    problem = place_problem("input", source)
    if not problem and output is not None:
        problem = place_problem("output", output)
    if problem:
        raise ConfigError(problem)
    problem = url_problem("input", source)
    if problem:
        raise DataError(problem)
    path = Path(source)
    if not path.exists():
        names = []
        if path.parent.is_dir():
            names = [file.name for file in path.parent.iterdir()]
        raise DataError(
            f"input={source!r} does not exist; expected a file of new rows."
            f"{did_you_mean(path.name, names)}"
        )
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise EnvironmentFaultError(f"input={source!r} can't be read: permission is denied")
    if output is None:
        return
    problems = list(_output_problems(path, Path(output), overwrite=overwrite))
    if problems:
        raise ConfigError(*problems)
    folder = Path(os.path.realpath(output)).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        reason = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise EnvironmentFaultError(
            f"output={output!r} can't be written ({reason}); choose another place"
        )


def _output_problems(source: Path, output: Path, *, overwrite: bool) -> Iterator[str]:
    option = f"output={str(output)!r}"
    folder = (Path(os.path.realpath(output)) if output.is_symlink() else output).parent
    if output.suffix.lower() not in WRITERS:
        yield f"{option} must end in .csv or .parquet"
    if output.is_dir():
        yield f"{option} is a folder; expected a file, such as {output / 'predictions.csv'}"
    elif output.exists() and output.samefile(source):
        yield f"{option} is the input file; choose another"
    elif output.exists() and not overwrite:
        yield f"{option} already exists; choose another, or replace it with overwrite=true"
    elif not folder.exists():
        command = f"mkdir -p {shlex.quote(str(folder))}"
        yield f"{option} is in a folder that does not exist; create it with: {command}"
    elif not folder.is_dir():
        yield f"{option} is below {str(folder)!r}, which is a file; choose another"
