"""The data of runs: read and prepared once, kept in memory for later runs of the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.options import SERVING, DataOptions, RunConfig, data_options, parts
from pipeline.config.targets import build
from pipeline.data.preparation.content import Part
from pipeline.data.preparation.prepare import Prepared, prepare
from pipeline.data.source import Source
from pipeline.scoring.baselines import Baseline, Limits, begin_linear, linear, naive, seasonal
from pipeline.scoring.linear_fit import FittingProcess

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
    """Data that stay in memory; `moved` holds parts on other devices, by id and device."""

    prepared: Prepared
    moved: dict[tuple[int, torch.device], Part] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] | None = None
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
        return sum(tensor.nbytes for tensor in self.tensors())

    def count_writes(self) -> int:
        """Return how many writes into the data or views of them torch has counted."""
        return sum(tensor._version for tensor in self.tensors())


class Datasets:
    """Reads and prepares the data of each run; kept data are read once.

    Args:
        keeps: Keep the newest data, up to a gibibyte, for later runs of the process. Kept data have
            no report.
        fitting: Fits the linear baseline that `begin_baselines` begins; `None` = no process does.
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

    def begin_baselines(self, prepared: Prepared) -> None:
        """Begin what `baselines` returns, for one data set, while the caller does other work."""
        if self._fitting is not None:
            begin_linear(prepared, limits=BASELINE_LIMITS, process=self._fitting)

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return predictions of the test rows in the order of `markup.BASELINES`.

        There are none without training rows; a seasonal one comes only after a linear one.
        """
        data = self._kept_data_of(prepared.test)
        if data is not None and data.baselines is not None:
            return data.baselines
        baselines: tuple[Baseline, ...] = ()
        if len(prepared.train):
            baselines = self._fit_baselines(prepared)
        if data is not None:
            data.baselines = baselines
        return baselines

    def _fit_baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        linear_baseline = linear(prepared, limits=BASELINE_LIMITS, process=self._fitting)
        if linear_baseline is None:
            return (naive(prepared),)
        seasonal_baseline = seasonal(prepared)
        if seasonal_baseline is None:
            return (naive(prepared), linear_baseline)
        return (naive(prepared), linear_baseline, seasonal_baseline)

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


def _states(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and modification time of a file, or of all files in a folder."""
    with suppress(OSError):  # the value is not the name of a file
        path = Path(name)
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            state = file.stat()
            yield str(file), state.st_size, state.st_mtime_ns
