"""Sources of a user's own files, built as the program builds them from their YAML."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from pipeline.config.options import DataOptions
from pipeline.config.values import build
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.reader import Block, Rules, reader_of
from pipeline.data.schema import Schema
from pipeline.data.source import Samples, Source
from pipeline.paths import conf_folder


def source(name: str, path: str | Path, **changes: Any) -> Source:
    """The source of `conf/data/<name>.yaml` for a file."""
    keys = {**_keys(name), "path": str(path), **changes}
    own = {key: value for key, value in keys.items() if key not in DataOptions.model_fields}
    assert issubclass(get_class(own["_target_"]), Source)
    found = build(own)
    assert isinstance(found, Source)
    return found


def read(name: str, path: str | Path, **changes: Any) -> Samples:
    """What the source gives."""
    samples = source(name, path, **changes).read()
    assert isinstance(samples, Samples)
    return samples


def prepared(name: str, path: str | Path, **changes: Any) -> Prepared:
    """What a run gets, with the shared options among the changes."""
    shared = {key: value for key, value in changes.items() if key in DataOptions.model_fields}
    own = {key: value for key, value in changes.items() if key not in shared}
    defaults = dict(OmegaConf.load(conf_folder() / "train.yaml").data)
    defaults |= {key: value for key, value in _keys(name).items() if key in defaults}
    return prepare(source(name, path, **own), DataOptions(**{**defaults, **shared}))


def assert_equal_from_disk(name: str, path: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are left on disk are those that memory holds, and scaled alike."""
    near = prepared(name, path, scale="standard")
    monkeypatch.setattr("pipeline.data.array_files.MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr("pipeline.data.array_files.IN_MEMORY_BYTES", 0)
    assert not isinstance(read(name, path).inputs, np.ndarray)
    far = prepared(name, path, scale="standard", memory_budget=0)
    assert far.schema == near.schema
    assert (next(far.test.blocks()) == near.test.inputs).all()


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


def _keys(name: str) -> dict[str, Any]:
    keys = OmegaConf.to_container(OmegaConf.load(conf_folder() / "data" / f"{name}.yaml"))
    assert isinstance(keys, dict)
    return {str(key): value for key, value in keys.items()}
