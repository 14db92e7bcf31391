"""The data of runs: read and prepared once, kept in memory for later runs of the process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.options import SERVING, DataOptions, RunConfig, data_options, parts
from pipeline.config.targets import build
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.source import Source
from pipeline.scoring.baseline_fits import begin_fits, predictions
from pipeline.scoring.baselines import Limits, Prediction
from pipeline.scoring.fitting_process import FittingProcess

BASELINE_LIMITS = Limits(rows=20_000, seconds=20.0)

#: Memory for all kept data; the newest are kept in any case.
KEPT_BYTES = 2**30


def build_source(options: RunConfig) -> Source:
    """Build the source of the data from the keys that are its own."""
    source = build(parts(options.data, DataOptions)[1], trust=options.trust)
    assert isinstance(source, Source)
    return source


@dataclass(slots=True, eq=False)
class _KeptData:
    """Data that stay in memory.

    `moved` holds parts on other devices, by id and device; `baselines` what these predict, by the
    options of `Datasets.baselines`.
    """

    prepared: Prepared
    moved: dict[tuple[int, torch.device], Part] = field(default_factory=dict)
    baselines: dict[str, Mapping[str, Prediction]] = field(default_factory=dict)
    writes: int = 0

    def parts(self) -> list[Part]:
        parts = [self.prepared.train, self.prepared.test]
        if self.prepared.validation is not None:
            parts.append(self.prepared.validation)
        return parts

    def tensors(self) -> list[Tensor]:
        tensors = []
        for part in (*self.parts(), *self.moved.values()):
            tensors.append(part.targets)
            if isinstance(part.inputs, Tensor):
                tensors.append(part.inputs)
        return tensors

    def nbytes(self) -> int:
        cells = self.prepared.train.cells
        raw_bytes = 0
        if cells is not None and isinstance(cells.raw, np.ndarray):
            raw_bytes = cells.raw.nbytes
        return raw_bytes + sum(tensor.nbytes for tensor in self.tensors())

    def count_writes(self) -> int:
        """Return how many writes into the data or views of them torch has counted."""
        return sum(tensor._version for tensor in self.tensors())


class Datasets:
    """Reads and prepares the data of each run; kept data are read once.

    Args:
        keeps: Keep the newest data, up to a gibibyte, for later runs of the process. Kept data have
            no report.
        fitting: Fits the baselines that `begin_baselines` begins; `None` = no process does.
    """

    def __init__(self, *, keeps: bool = False, fitting: FittingProcess | None = None) -> None:
        self._keeps = keeps
        self._fitting = fitting
        self._kept: dict[str, _KeptData] = {}

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration, from an earlier run if they were kept."""
        if not self._keeps:
            return prepare(build_source(options), data_options(options))
        values = {key: value for key, value in options.data.items() if key not in SERVING}
        files: list[tuple[str, int, int]] = []  # changed files are other data
        for value in values.values():
            if isinstance(value, str):
                files += _states(value)
        key = json.dumps([values, files], sort_keys=True, default=str)
        data = self._kept.pop(key, None)
        if data is None:
            data = _KeptData(prepare(build_source(options), data_options(options), reports=False))
            data.writes = data.count_writes()
        self._kept[key] = data  # the newest comes last
        size = sum(kept_data.nbytes() for kept_data in self._kept.values())
        for old_key in list(self._kept)[:-1]:
            if size > KEPT_BYTES:
                size -= self._kept.pop(old_key).nbytes()
        return data.prepared

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on a device; lazy rows stay where they are."""
        if not isinstance(part.inputs, Tensor):
            return part
        data = self._kept_data_of(part)
        key = (id(part), device)
        if data is not None and key in data.moved:
            return data.moved[key]
        moved = replace(part, inputs=part.inputs.to(device), targets=part.targets.to(device))
        if data is not None and device.type != "cpu":
            data.moved[key] = moved
            data.writes = data.count_writes()
        return moved

    def begin_baselines(self, prepared: Prepared, options: RunConfig) -> None:
        """Begin what `baselines` returns, for one data set, while the caller does other work."""
        if self._fitting is not None:
            fit_options = _fit_options(prepared, options)
            begin_fits(prepared, **fit_options, limits=BASELINE_LIMITS, process=self._fitting)

    def baselines(self, prepared: Prepared, options: RunConfig) -> Mapping[str, Prediction]:
        """Return what the baselines predict for the test rows, by name, in the order of tables.

        There are none without training rows.
        """
        if not len(prepared.train):
            return {}
        fit_options = _fit_options(prepared, options)
        key = json.dumps(fit_options)
        data = self._kept_data_of(prepared.test)
        if data is not None and key in data.baselines:
            return data.baselines[key]
        baselines = predictions(
            prepared, **fit_options, limits=BASELINE_LIMITS, process=self._fitting
        )
        if data is not None:
            data.baselines[key] = baselines
        return baselines

    def forget_changed(self) -> None:
        """Drop data that a run has written into, so that the next run reads them again."""
        for key, data in list(self._kept.items()):
            if data.count_writes() != data.writes:
                del self._kept[key]

    def _kept_data_of(self, part: Part) -> _KeptData | None:
        for data in self._kept.values():
            if part in data.parts():
                return data
        return None


def _fit_options(prepared: Prepared, options: RunConfig) -> dict[str, Any]:
    """Return which baselines a run has, and the weights of the classes in their fits."""
    return {
        "names": options.baselines,
        "class_weights": prepared.class_weights(options.loss.class_weights),
    }


def _states(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and modification time of a file, or of all files in a folder."""
    with suppress(OSError):  # the value is not the name of a file
        path = Path(name)
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            state = file.stat()
            yield str(file), state.st_size, state.st_mtime_ns
