"""Sources of a user's own files, built as the program builds them from their YAML."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.refused_calls import refusal
from helpers.sample_data import Shipped, shipped
from pipeline.data.preparation.prepare import Prepared
from pipeline.data.preparation.reader import Block, Rules, reader_of
from pipeline.data.preparation.schema import Schema
from pipeline.data.source import Samples


def read(name: str, path: str | Path, **changes: Any) -> Samples:
    """What the source of `conf/data/<name>.yaml` gives for a file."""
    samples = Shipped(name, {"path": str(path), **changes}).source().read()
    assert isinstance(samples, Samples)
    return samples


def prepared(name: str, path: str | Path, **changes: Any) -> Prepared:
    """What a run gets, with the shared options among the changes."""
    return shipped(name, path=str(path), **changes)


def assert_equal_from_disk(name: str, path: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are left on disk are those that memory holds, and scaled alike."""
    near = prepared(name, path, scale="standard")
    monkeypatch.setattr("pipeline.data.parsing.array_files.MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr("pipeline.data.parsing.array_files.IN_MEMORY_BYTES", 0)
    assert not isinstance(read(name, path).inputs, np.ndarray)
    far = prepared(name, path, scale="standard", memory_budget=0)
    assert far.schema == near.schema
    assert next(far.test.blocks()).equal(next(near.test.blocks()))


def idx_bytes(values: np.ndarray, *, code: int = 8, dtype: str = ">u1") -> bytes:
    """The bytes of an idx file, by its description."""
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, code, values.ndim]) + sizes + values.astype(dtype).tobytes()


def stored(schema: Schema) -> Schema:
    """The schema as a checkpoint gives it back."""
    return Schema.from_dict(schema.to_dict())


def new_rows(path: Path | str, schema: Schema, rules: Rules | None = None) -> Block:
    """All rows of a new file for a trained model, with their names."""
    opened = reader_of(schema).open(Path(path), rules or Rules(), size=2**30)
    blocks = list(opened.blocks)
    return blocks[0] if blocks else Block(raw=np.zeros((0, *schema.raw_shape)))


def refused_rows(content: str, schema: Schema) -> str:
    """Return the message with which a model refuses `new.csv`, a file of this content."""
    Path("new.csv").write_bytes(content.encode())
    return refusal(new_rows, "new.csv", schema)
