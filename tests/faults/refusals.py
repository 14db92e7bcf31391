"""Commands that are refused: what they say, and that they leave everything as it was."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from helpers.fixture_types import Capture

from faults.listener import SECRET

Main = Callable[[list[str]], int]

#: A table of one row of the irises, without its class.
IRIS_ROW = (
    "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)\n"  # of the iris data
    "5,3,1,0.2\n"
)


def content_of(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder, by its path; links are named by their targets."""
    return {
        str(path.relative_to(folder)): (
            f"-> {path.readlink()}"
            if path.is_symlink()
            else hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()
        )
        for path in sorted(folder.rglob("*"))
    }


def refusals(capsys: Capture, main: Main, *words: str) -> list[str]:
    """Return the lines of a refused command, which changes nothing below the current folder."""
    before = content_of(Path.cwd())
    capsys.readouterr()
    assert main(list(words)) == 2
    assert content_of(Path.cwd()) == before
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    lines = printed.err.splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    return [line.removeprefix("error: ") for line in lines]


def refusal(capsys: Capture, main: Main, *words: str) -> str:
    """Return the only line of a refused command, which changes nothing."""
    (line,) = refusals(capsys, main, *words)
    return line
