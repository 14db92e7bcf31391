"""What a worker is told to do: train one trial, or test the weights of one that has ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

KEPT = "kept.ckpt"
"""File of the weights that a trial keeps, among its checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to train.

    Args:
        number: Its number in the study.
        folder: Its run folder, which exists.
        name: Name of its run.
        config: The run's configuration as plain values, references unresolved.
        trust: Packages whose classes it may name, from the command line.
        parent_folder: The study's folder, whose MLflow run is the parent.
        key: Name by which MLflow's run is found again.
        tags: Tags of the run beside those of every run.
        objectives: Names of the values that the trial comes to: `val/f1`, `model/parameters`, …
        rungs: Epochs at which it asks whether to go on, with the number of the rung.
        data: Hash of the data that it is to train on; `None` = not known yet.
        test: Touch the test rows at its end.
        keep: Write the weights it keeps to `checkpoints/kept.ckpt`.
    """

    number: int
    folder: str
    name: str
    config: dict[str, Any]
    trust: list[str]
    parent_folder: str
    key: str
    tags: dict[str, str]
    objectives: list[str]
    rungs: dict[int, int] = field(default_factory=dict)
    data: str | None = None
    test: bool = False
    keep: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; JSON has made texts of the epochs."""
        rungs = {int(epoch): step for epoch, step in values["rungs"].items()}
        return cls(**{**values, "rungs": rungs})


@dataclass(frozen=True, slots=True, kw_only=True)
class TestJob:
    """The kept weights of an ended trial to test once, and to leave as a model.

    Args:
        folder: The trial's run folder, with its journal and `checkpoints/kept.ckpt`.
        into: Folder that takes the tables: config, predictions, classes, history; `None` = they
            are not tested.
        config: The trial's configuration as plain values, references unresolved.
        trust: Packages whose classes it may name, from the command line.
        leave: Folder that takes the model; `None` = none is left.
        data: Hash of the data that it was trained on; `None` = not known.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    folder: str
    into: str | None
    config: dict[str, Any]
    trust: list[str]
    leave: str | None = None
    data: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(**values)
