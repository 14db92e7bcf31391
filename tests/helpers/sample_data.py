"""Options as the program composes them, content given by hand, and the data sets that ship."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from pipeline.base.paths import conf_folder
from pipeline.config.options import DataOptions
from pipeline.config.targets import build
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.source import Samples, Series, Source

DEFAULTS: dict[str, Any] = dict(OmegaConf.load(conf_folder() / "train.yaml").data)


@dataclass
class Given(Source):
    """Content that stands in the test itself."""

    content: Samples | Series

    def read(self) -> Samples | Series:
        return self.content


@dataclass
class Shipped:
    """A data set of `conf/data`, with what its YAML says."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)

    def keys(self) -> dict[Any, Any]:
        loaded = OmegaConf.to_container(
            OmegaConf.load(conf_folder() / "data" / f"{self.name}.yaml")
        )
        assert isinstance(loaded, dict)
        return {**DEFAULTS, **loaded, **self.changes}

    def source(self) -> Source:
        own = {k: v for k, v in self.keys().items() if k not in DataOptions.model_fields}
        source = build(own)
        assert isinstance(source, Source)
        return source

    def options(self) -> DataOptions:
        keys = self.keys()
        return DataOptions(**{key: keys[key] for key in DataOptions.model_fields})

    def prepared(self) -> Prepared:
        return prepare(self.source(), self.options())


def shipped(name: str, **changes: Any) -> Prepared:
    return Shipped(name, changes).prepared()


def names() -> list[str]:
    """The data sets that ship; those of a user's own files have a path to be given."""
    files = sorted((conf_folder() / "data").glob("*.yaml"))
    return [file.stem for file in files if not OmegaConf.is_missing(OmegaConf.load(file), "path")]


def options(**changes: Any) -> DataOptions:
    return DataOptions(**{**DEFAULTS, **changes})


def labelled(targets: list[int] | np.ndarray, **changes: Any) -> Samples:
    """Distinct rows (rows, 3) with these classes, named a, b, c, …"""
    targets = np.asarray(targets)
    count = int(targets.max()) + 1
    rows = np.random.default_rng(1).normal(size=(len(targets), 3))
    fields = {
        "inputs": rows,
        "targets": targets,
        "task": "binary" if count == 2 else "multiclass",
        "classes": tuple("abcdefghij"[:count]),
        "features": ("x", "y", "z"),
    }
    return Samples(**{**fields, **changes})


def valued(inputs: np.ndarray, targets: np.ndarray, **changes: Any) -> Samples:
    """A regression of rows without names."""
    fields = {
        "inputs": inputs,
        "targets": targets,
        "task": "regression",
        "classes": (),
        "features": (),
    }
    return Samples(**{**fields, **changes})


def series(values: np.ndarray, **changes: Any) -> Series:
    """A series (time, channels) whose channels are named c0, c1, … and all are predicted."""
    named = tuple(f"c{channel}" for channel in range(values.shape[1]))
    fields = {
        "values": values,
        "times": tuple(str(time) for time in range(len(values))),
        "names": named,
        "targets": named,
    }
    return Series(**{**fields, **changes})
