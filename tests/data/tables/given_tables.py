"""Tables that a test writes itself, and the source that reads them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from helpers.file_sources import new_rows, stored
from helpers.sample_data import Shipped, array_of

from pipeline.base.errors import DataError, PipelineError
from pipeline.config.options import DataOptions
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.preparation.reader import reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Samples
from pipeline.data.table import Table

FILE = "patients.csv"


def write(content: str | bytes, name: str = FILE) -> Path:
    """Write a file into the current folder, a text as UTF-8 with its line ends as they are."""
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def source(content: str | bytes | None = None, **changes: Any) -> tuple[Table, DataOptions]:
    """The source of `conf/data/table.yaml` and the options beside it, for a given content."""
    if content is not None:
        write(content)
    given = Shipped("table", {"path": FILE, **changes})
    return cast(Table, given.source()), given.options()


def read(content: str | bytes | None = None, **keys: Any) -> Samples:
    """Read a table whose content is given, or that was written before."""
    return source(content, **keys)[0].read()


def prepared(content: str | bytes | None = None, **keys: Any) -> Prepared:
    """Read a table and split it as a run does."""
    return prepare(*source(content, **keys))


def patients(rows: int = 60, *, seed: int = 0) -> list[list[str]]:
    """Return a table by lines: a name, age, town, ward, dose and outcome; some cells are empty."""
    draw = random.Random(seed)
    lines = [["name", "age", "town", "ward", "dose", "outcome"]]
    for row in range(rows):
        age = draw.randint(20, 80)
        lines.append(
            [
                f"patient {row}",
                "" if row % 13 == 5 else str(age),
                draw.choice(["Bonn", "Köln", "Bad Ems, Lahn", ""]),
                str(draw.randint(1, 3)),
                f"{draw.gauss(5, 1):.3f}",
                "ill" if age + draw.gauss(0, 5) > 55 else "well",
            ]
        )
    return lines


def text(lines: list[list[str]], *, sep: str = ",", end: str = "\n") -> str:
    """Write lines as CSV, with quotes where a cell needs them."""

    def cell(content: str) -> str:
        needs = any(sign in content for sign in (sep, '"', "\n", "\r"))
        return '"' + content.replace('"', '""') + '"' if needs else content

    return "".join(sep.join(map(cell, line)) + end for line in lines)


def column(*cells: str, name: str = "a") -> str:
    """Return a table of a column and a target of 0 and 1."""
    return f"{name},y\n" + "".join(f'"{cell}",{row % 2}\n' for row, cell in enumerate(cells))


def target(*targets: str, repeat: int = 10) -> str:
    """Return a table of a column of numbers and repeated targets."""
    cells = targets * repeat
    return "x,y\n" + "".join(f'{row * 37 % 101}.5,"{cell}"\n' for row, cell in enumerate(cells))


def assert_read_again(made: Prepared, samples: Samples) -> Schema:
    """The model of a table reads the file, and its example rows, as training did; its schema."""
    schema = stored(made.schema)
    np.testing.assert_array_equal(new_rows(FILE, schema).raw, samples.inputs)
    example = reader_of(schema).apply(pd.DataFrame(made.example), what="rows", missing="impute")
    trained = array_of(samples)[made.train.rows]
    whole = trained[~np.isnan(trained).any(axis=1)]
    np.testing.assert_array_equal(example.raw, whole[: len(example.raw)])
    return schema


def targets_read(schema: Schema, path: str | Path = FILE) -> list[Any]:
    """Return the targets of a file as the model of a table evaluates them."""
    _, content, _ = reader_of(schema).evaluated(source(path=str(path))[0], budget=1)
    targets: list[Any] = content.targets.tolist()
    return targets


def damage_told(path: Path, read_rows: Callable[[], object], *, copies: int) -> int:
    """Return how many damaged copies of a file are refused, each by one line that names it."""
    whole = path.read_bytes()
    messages = []
    for seed in range(copies):
        chance = random.Random(seed)
        content = bytearray(whole)
        if seed % 2:
            del content[chance.randrange(8, len(whole)) :]
        for _ in range(5):
            content[chance.randrange(8, len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_rows()
        except DataError as error:
            messages.append(str(error))
    assert all(text.startswith(path.name) and "\n" not in text for text in messages)
    return len(messages)


def problems(content: str, **keys: object) -> tuple[str, ...]:
    """Return what is wrong with a table that is refused."""
    with pytest.raises(PipelineError) as raised:
        prepared(content, **keys)
    assert raised.value.exit_code == 2
    return raised.value.problems
