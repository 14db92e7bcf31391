"""Where the runs of a process have their data from: read anew for each, or kept for the next."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.baselines import Baseline, linear, naive
from pipeline.config.options import SERVING, RunConfig, data_options
from pipeline.data.part import Part
from pipeline.data.prepare import Prepared, prepare
from pipeline.running.assembly import build_source

BASELINE_ROWS = 20_000
BASELINE_SECONDS = 20.0
KEPT_BYTES = 2**30
"""What may be kept beside the newest data."""


class Datasets:
    """Reads and prepares the data of each run anew."""

    reports: ClassVar[bool] = True
    """Whether the data are measured for people to read."""

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration in its parts."""
        return prepare(build_source(options), data_options(options), reports=self.reports)

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on the device that trains."""
        return moved(part, device)

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return what simpler predictors say about the test rows: the naive, then the linear."""
        line = linear(prepared, max_rows=BASELINE_ROWS, max_seconds=BASELINE_SECONDS)
        return (naive(prepared), *([] if line is None else [line]))


@dataclass(slots=True, eq=False)
class _Kept:
    prepared: Prepared
    moved: dict[tuple[int, torch.device], Part] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] | None = None
    writes: int = 0

    def __post_init__(self) -> None:
        self.writes = self.count_writes()

    def move(self, part: Part, device: torch.device) -> Part:
        """Return a part on a device, moved there once."""
        place = id(part), device
        if place not in self.moved:
            self.moved[place] = moved(part, device)
            self.writes = self.count_writes()
        return self.moved[place]

    def count_writes(self) -> int:
        """Return how often something was written into the data; their views count as well."""
        return sum(tensor._version for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        parts = [self.prepared.train, self.prepared.validation, self.prepared.test]
        for part in [*parts, *self.moved.values()]:
            if part is not None:
                yield part.targets
                if isinstance(part.inputs, Tensor):
                    yield part.inputs


class KeptDatasets(Datasets):
    """Reads equal data once for all runs of a process; the newest stay up to a gibibyte."""

    reports: ClassVar[bool] = False

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def prepared(self, options: RunConfig) -> Prepared:
        """Return the data of a configuration, as an earlier run left them if they are the same."""
        key = _key(options)  # other files are other data
        kept = self._kept.pop(key, None) or _Kept(super().prepared(options))
        self._kept[key] = kept  # the newest comes last
        self._drop_oldest()
        return kept.prepared

    def on_device(self, part: Part, device: torch.device) -> Part:
        """Return a part whose tensors lie on the device, moved there once."""
        kept = self._of(part)
        if device.type == "cpu" or kept is None:
            return super().on_device(part, device)
        return kept.move(part, device)

    def baselines(self, prepared: Prepared) -> tuple[Baseline, ...]:
        """Return what simpler predictors say about the test rows, fitted once."""
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
        for kept in self._kept.values():
            prepared = kept.prepared
            if part in (prepared.train, prepared.validation, prepared.test):
                return kept
        return None

    def _drop_oldest(self) -> None:
        sizes = {
            key: sum(tensor.nbytes for tensor in kept.tensors()) for key, kept in self._kept.items()
        }
        *older, _ = sizes
        for key in older:
            if sum(sizes.values()) <= KEPT_BYTES:
                break
            del self._kept[key], sizes[key]


def moved(part: Part, device: torch.device) -> Part:
    """Return a part whose tensors lie on a device; lazy rows stay where they are."""
    if not isinstance(part.inputs, Tensor):
        return part
    return replace(part, inputs=part.inputs.to(device), targets=part.targets.to(device))


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
