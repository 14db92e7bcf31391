"""Where predictions come from and go to: looked at before any work, written whole or not at all."""

import errno
import io
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError, DataError, EnvironmentFaultError, did_you_mean
from pipeline.paths import is_url, place_problem, replace_file
from pipeline.serving.sheets import WRITERS, Sheet, write_csv_to


def require_places(source: str, output: str | None, *, overwrite: bool) -> None:
    """Look at what is to be read and where to write, before anything is loaded.

    Args:
        source: The file or folder of new rows.
        output: The file of predictions; None = standard output.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        ConfigError: The output can never be written so.
        DataError: There is no such input.
        EnvironmentFaultError: A place can't be read or written by this user, or not now.
    """
    for key, place in (("input", source), ("output", output)):
        if place is not None and (problem := place_problem(key, place)):
            raise ConfigError(problem)
    _require_input(source)
    if output is None:
        return
    if problems := list(_output_problems(Path(source), Path(output), overwrite=overwrite)):
        raise ConfigError(*problems)
    _require_writable(Path(output))


def write_sheet(output: str | None, sheet: Sheet) -> None:
    """Write predictions: into a file whole or not at all, or to standard output as CSV."""
    if output is None:
        _print(sheet)
        return
    write = WRITERS[Path(output).suffix.lower()]
    # A link stays one, and leads to the new file.
    replace_file(Path(os.path.realpath(output)), lambda file: write(file, sheet))


def _print(sheet: Sheet) -> None:
    """Write to standard output in UTF-8, whatever a terminal takes, since a program may read it."""
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.flush()
        write_csv_to(sys.stdout.buffer, sheet)
        sys.stdout.buffer.flush()
        return
    whole = io.BytesIO()  # a notebook takes texts alone
    write_csv_to(whole, sheet)
    sys.stdout.write(whole.getvalue().decode("utf-8"))


def _require_input(source: str) -> None:
    path = Path(source)
    if is_url(source):
        raise DataError(
            f"input={source!r} is an address; expected a file on this machine. Download it first"
        )
    if not path.exists():
        there = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"input={source!r} does not exist; expected a file of new rows."
            f"{did_you_mean(path.name, there)}"
        )
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise EnvironmentFaultError(f"input={source!r} can't be read: permission is denied")


def _output_problems(source: Path, output: Path, *, overwrite: bool) -> Iterator[str]:
    told = f"output={str(output)!r}"
    folder = (Path(os.path.realpath(output)) if output.is_symlink() else output).parent
    if output.suffix.lower() not in WRITERS:
        yield f"{told} ends in neither .csv nor .parquet, the two kinds that are written"
    if output.is_dir():
        yield f"{told} is a folder; expected a file, such as {output / 'predictions.csv'}"
    elif output.exists() and output.samefile(source):
        yield f"{told} is the input itself; choose another file"
    elif output.exists() and not overwrite:
        yield f"{told} is there already; choose another, or replace it with overwrite=true"
    elif not folder.exists():
        make = f"mkdir -p {shlex.quote(str(folder))}"
        yield f"{told} lies in no folder that is there; make it with: {make}"
    elif not folder.is_dir():
        yield f"{told} lies below {str(folder)!r}, which is a file; choose another"


def _require_writable(output: Path) -> None:
    folder = Path(os.path.realpath(output)).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        why = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise EnvironmentFaultError(
            f"output={str(output)!r} can't be written ({why}); choose another place"
        )
