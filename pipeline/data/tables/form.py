"""What a file of a user is: text with which separator and names, or Parquet."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pipeline.data.tables.encoding import require_utf8, utf8_problem
from pipeline.data.tables.records import shown
from pipeline.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean

SEPARATORS = (",", ";", "\t", "|")
TYPED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
HEAD_BYTES = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FILES = {
    b"PK\x03\x04": "an Excel or zip file; save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the sheet as CSV (UTF-8)",
    b"\x1f\x8b": "compressed; unpack it first, as with gunzip",
    b"BZh": "compressed; unpack it first, as with bunzip2",
    b"\xfd7zXZ": "compressed; unpack it first, as with unxz",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a file is read.

    Args:
        kind: Text with separators, or Parquet.
        names: Of the columns, without spaces around them.
        sep: What parts the cells of a text; empty for Parquet.
        start: Byte where the first row behind the header of a text begins.
    """

    kind: Literal["text", "parquet"]
    names: tuple[str, ...]
    sep: str = ""
    start: int = 0


def form_of(path: Path, *, sep: str | None = None) -> Form:
    """Look at the beginning of a file.

    Args:
        path: A CSV or Parquet file, told apart by their content.
        sep: What parts the cells; None = found.

    Raises:
        ConfigError: `sep` is no separator.
        DataError: There is no such file, or it is no table with a header.
        EnvironmentFaultError: It may not be read.
    """
    head = _head(path)
    for magic, words in OTHER_FILES.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {words}")
    if head.startswith(b"PAR1"):
        return Form(kind="parquet", names=_checked(path, _parquet_names(path)))
    require_utf8(path, head)
    if not head.removeprefix(BYTE_ORDER_MARK).strip():
        raise DataError(f"{path} is empty; expected a line of names and rows below it")
    chosen = _separator(head, _typed(sep))
    names, start = _header(path, chosen)
    return Form(kind="text", names=_checked(path, names), sep=chosen, start=start)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} does not exist; expected a CSV or Parquet file{_nearest(path)}"
        ) from error
    except NotADirectoryError as error:
        raise DataError(f"{path} does not exist; a part of its path is a file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; expected a CSV or Parquet file") from error
    except PermissionError as error:
        raise EnvironmentFaultError(
            f"{path} may not be read; give yourself permission, as with chmod u+r"
        ) from error


def _nearest(path: Path) -> str:
    try:
        there = [file.name for file in path.parent.iterdir()]
    except OSError:
        return f". Its folder {path.parent} does not exist either"
    return f".{did_you_mean(path.name, there)}"


def _typed(sep: str | None) -> str | None:
    if sep is None:
        return None
    chosen = TYPED.get(sep, sep)
    if len(chosen) != 1 or chosen in '"\r\n':
        raise ConfigError(
            f"data.sep={sep!r} is no separator; expected one character such as ';', or tab"
        )
    return chosen


def _separator(head: bytes, given: str | None) -> str:
    """Choose what parts the first records into most cells, equally many in each."""
    if given is not None:
        return given
    text = head.decode("utf-8-sig", errors="ignore")
    complete = text.rpartition("\n")[0] if len(head) == HEAD_BYTES else text
    return max(SEPARATORS, key=lambda sep: _fit(complete or text, sep))


def _fit(text: str, sep: str) -> tuple[bool, float, int]:
    try:
        widths = [len(record) for record in csv.reader(io.StringIO(text), delimiter=sep) if record]
    except csv.Error:
        return False, 0.0, 0
    header = widths[0] if widths else 0
    return header > 1, sum(width == header for width in widths) / max(1, len(widths)), header


def _header(path: Path, sep: str) -> tuple[tuple[str, ...], int]:
    """Read the first record; return its cells and the byte behind it."""
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        reader = csv.reader(_lines(file), delimiter=sep)
        try:
            names = next(record for record in reader if any(cell.strip() for cell in record))
        except UnicodeDecodeError as error:
            raise DataError(utf8_problem(path) or f"{path} is no UTF-8") from error
        except csv.Error as error:
            raise DataError(f"{path}: its first line can't be read as names: {error}") from error
        except StopIteration as error:
            raise DataError(f"{path} has no names in its first line") from error
        return tuple(names), file.tell()


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline():
        yield line.decode("utf-8")


def _parquet_names(path: Path) -> tuple[str, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} begins as a Parquet file and can't be read as one; it may be cut short"
        ) from error


def _checked(path: Path, cells: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(
        cell.strip() or f"unnamed_{position}" for position, cell in enumerate(cells, start=1)
    )
    if _all_numbers(names):
        raise DataError(
            f"{path}: its first line holds numbers ({', '.join(map(shown, names[:3]))}, …) where "
            "names of columns are expected; put a line of names above it"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        listed = ", ".join(map(repr, repeated))
        raise DataError(f"{path}: several columns are named {listed}; give each a name of its own")
    return names


def _all_numbers(names: tuple[str, ...]) -> bool:
    """Tell rows of numbers from names; 0, 1, 2, … are the names that pandas gives."""
    if names == tuple(map(str, range(len(names)))) and len(names) > 1:
        return False
    try:
        return bool([float(name) for name in names])
    except ValueError:
        return False
