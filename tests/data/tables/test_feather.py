"""Feather files: their cells as texts, bounds on memory, and damage."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as pf
import pytest
from data.tables.given_tables import damage_told, source
from helpers.refused_calls import refusal

from pipeline.data.parsing.tables import row_store as store
from pipeline.data.parsing.tables.file import CsvOptions, batches, form_of

PATH = Path("t.feather")
CELLS = {
    "n": [1.5, None, 0.1],
    "i": [1, 2, None],
    "t": ["x", " y ", ""],
    "c": pa.array(["u", "v", "u"]).dictionary_encode(),
    "k": pa.array([5, 6, 5]).dictionary_encode(),
    "b": [True, False, None],
    "d": [dt.date(2024, 1, 2)] * 3,
}


def rows(**keys: Any) -> list[list[str | None]]:
    read = batches(PATH, CsvOptions(), **keys)
    return [list(row.values()) for _, batch in read for row in batch.to_pylist()]


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_cells_are_those_of_a_parquet_file(compression: str) -> None:
    pf.write_feather(pa.table(CELLS), PATH, compression=compression, chunksize=2)
    assert form_of(PATH, CsvOptions()).names == tuple(CELLS)
    assert rows() == [
        ["1.5", "1", "x", "u", "5", "true", "2024-01-02"],
        [None, "2", "y", "v", "6", "false", "2024-01-02"],
        ["0.1", None, None, "u", "5", None, "2024-01-02"],
    ]
    assert rows(columns=["t", "n"]) == [["x", "1.5"], ["y", None], [None, "0.1"]]


def test_cells_are_counted_without_reading_them() -> None:
    pf.write_feather(pa.table({"x": np.zeros(10**6), "y": np.ones(10**6)}), PATH)
    size = store.size_of([(PATH, 0)], source()[0])
    assert PATH.stat().st_size < size == 16 * 10**6


@pytest.mark.parametrize(
    "write",
    [
        lambda: pf.write_feather(
            pa.table({"x": np.zeros(14 * 10**7)}), PATH, compression="zstd", chunksize=10**9
        ),
        lambda: pf.write_feather(pa.table({"x": pa.nulls(14 * 10**7)}), PATH),
    ],
    ids=["zeros", "nulls"],
)
def test_cells_of_a_small_file_are_bounded(write: Any) -> None:
    write()
    assert " to 1120000000 bytes" in refusal(form_of, PATH, CsvOptions())


@pytest.mark.parametrize("cells", [[[1], [2]], [b"a", b"b"], [{"a": 1}, {"a": 2}]])
def test_column_that_holds_no_texts_is_named(cells: list[Any]) -> None:
    pf.write_feather(pa.table({"x": cells, "y": [1, 2]}), PATH)
    problem = refusal(rows)
    assert problem.startswith("t.feather: the column 'x' has type ")
    assert problem.endswith("data.drop: x")
    assert rows(columns=["y"]) == [["1"], ["2"]]


def test_any_damage_is_one_line_of_the_file() -> None:
    pf.write_feather(pa.table(CELLS), PATH)
    assert damage_told(PATH, rows, copies=200) > 150


def test_first_version_of_feather_is_refused() -> None:
    PATH.write_bytes(b"FEA1\0\0\0\0")
    assert "version 1; save it as version 2, or as CSV" in refusal(rows)
