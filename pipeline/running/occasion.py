"""What a run is done for, where that changes how its data, its record and its weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.running.datasets import Datasets

if TYPE_CHECKING:
    from pipeline.running.results import Result

Prunes = Callable[[int, Mapping[str, float]], bool]
Concludes = Callable[["Result"], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What a run is done for: by itself, which is the default, or as one of many.

    Args:
        datasets: Where the data come from.
        folder: The run's folder, which exists; `None` = a new one below `output`.
        key: Name by which MLflow's run is found again; `None` = that of the folder.
        parent_folder: Folder of the run that this one is a child of; `None` = no such run.
        tags: Tags beside those of the configuration.
        made_with: Tags of code, machine and versions; `None` = they are found out now.
        lean: Leave nothing but the journal and the weights: no checkpoint an epoch, no tables.
        weights: With `lean`, the file that takes the kept weights at the end; `None` = none does.
        prunes: Takes an epoch and the values of the weights kept so far, and says whether
            training ends there; `None` = never.
        concludes: Takes the result and returns the last tags; the run fails where it raises.
    """

    datasets: Datasets = field(default_factory=Datasets)
    folder: Path | None = None
    key: str | None = None
    parent_folder: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] | None = None
    lean: bool = False
    weights: Path | None = None
    prunes: Prunes | None = None
    concludes: Concludes | None = None


BY_ITSELF = Occasion()
