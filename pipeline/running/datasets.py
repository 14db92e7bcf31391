"""The data of the runs of a process: read anew for each run, or kept for the next."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.baselines import Baseline, linear, naive
from pipeline.config.options import SERVING, RunConfig, data_options, source_target
from pipeline.config.values import build
from pipeline.data.content import Part
from pipeline.data.prepare import Prepared, prepare
from pipeline.data.source import Source

BASELINE_ROWS = 20_000
BASELINE_SECONDS = 20.0
KEPT_BYTES = 2**30
"""Memory for kept data beside the newest."""


def build_source(options: RunConfig) -> Source:
    """Build the source of the data from the keys that are its own."""
    source = build(source_target(options), trust=options.trust)
    assert isinstance(source, Source)
    return source


class Datasets:
    """Reads and prepares the data of each run anew."""

    reports: ClassVar[bool] = True
    """Whether the data are measured for the report that people read."""

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration in its parts."""
        return prepare(build_source(options), data_options(options), reports=self.reports)

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on a device; lazy rows stay where they are."""
        if not isinstance(part.inputs, Tensor):
            return part
        return replace(part, inputs=part.inputs.to(device), targets=part.targets.to(device))

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return the predictions of baselines for the test rows: the naive, then the linear.

        Where there are no training rows to fit them on, there are none.
        """
        if not len(prepared.train):
            return ()
        line = linear(prepared, max_rows=BASELINE_ROWS, max_seconds=BASELINE_SECONDS)
        return (naive(prepared), *([] if line is None else [line]))


@dataclass(slots=True, eq=False)
class _Kept:
    prepared: Prepared
    moved: dict[tuple[int, torch.device], Part] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] | None = None
    writes: int = 0

    def parts(self) -> list[Part]:
        found = (self.prepared.train, self.prepared.validation, self.prepared.test)
        return [part for part in found if part is not None]

    def tensors(self) -> Iterator[Tensor]:
        for part in (*self.parts(), *self.moved.values()):
            yield part.targets
            if isinstance(part.inputs, Tensor):
                yield part.inputs

    def count_writes(self) -> int:
        """Return how often something was written into the data or a view of them."""
        return sum(tensor._version for tensor in self.tensors())


class KeptDatasets(Datasets):
    """Reads equal data once for all runs of a process; the newest stay up to a gibibyte."""

    reports: ClassVar[bool] = False

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration, those of an earlier run where they are the same."""
        key = _key(options)  # other files are other data
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = _Kept(super().prepared(options))
            kept.writes = kept.count_writes()
        self._kept[key] = kept  # the newest comes last
        self._drop_oldest()
        return kept.prepared

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on the device, moved there once."""
        kept, place = self._of(part), (id(part), device)
        if device.type == "cpu" or kept is None:
            return super().on_device(part, device)
        if place not in kept.moved:
            kept.moved[place] = super().on_device(part, device)
            kept.writes = kept.count_writes()
        return kept.moved[place]

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return the predictions of baselines for the test rows, fitted once."""
        kept = self._of(prepared.test)
        if kept is None:
            return super().baselines(prepared)
        if kept.baselines is None:
            kept.baselines = super().baselines(prepared)
        return kept.baselines

    def forget_changed(self) -> None:
        """Drop data that a run has written into, so that the next one reads them anew."""
        for key, kept in list(self._kept.items()):
            if kept.count_writes() != kept.writes:
                del self._kept[key]

    def _of(self, part: Part) -> _Kept | None:
        return next((kept for kept in self._kept.values() if part in kept.parts()), None)

    def _drop_oldest(self) -> None:
        sizes = {
            key: sum(tensor.nbytes for tensor in kept.tensors()) for key, kept in self._kept.items()
        }
        *older, _ = sizes
        for key in older:
            if sum(sizes.values()) <= KEPT_BYTES:
                break
            del self._kept[key], sizes[key]


def _key(options: RunConfig) -> str:
    kept = {key: value for key, value in options.data.items() if key not in SERVING}
    files = [state for value in kept.values() if isinstance(value, str) for state in _states(value)]
    return json.dumps([kept, files], sort_keys=True, default=str)


def _states(name: str) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and time of change of the file of this name, or of all in its folder."""
    with suppress(OSError):  # a word that is no file's name
        path = Path(name)
        for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
            state = file.stat()
            yield str(file), state.st_size, state.st_mtime_ns
