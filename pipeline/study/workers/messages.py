"""What a worker is told to do, and what it answers; all of it passes through JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter

from pipeline.study.trial_end import TrialEnd

#: File of the weights that a trial keeps, among its checkpoints.
KEPT = "kept.ckpt"
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to train.

    Args:
        number: Its number in the study.
        folder: Its run folder, which exists.
        name: Name of its run.
        config: The run's configuration as plain values, references unresolved.
        trust: Packages whose classes it may name, from the command line.
        objectives: Names of the values that the trial comes to: `val/f1`, `model/parameters`, …
        parent_folder: The study's folder, whose MLflow run is the parent; `None` = it has none.
        key: Name by which MLflow's run is found again.
        tags: Tags of the run beside those of every run.
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
    objectives: list[str]
    parent_folder: str | None = None
    key: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    rungs: dict[int, int] = field(default_factory=dict)
    data: str | None = None
    test: bool = False
    keep: bool = True


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A trial waits for the verdict whether it goes on.

    Args:
        step: Number of the rung.
        epoch: Epochs trained.
        value: The first objective of the weights kept so far.
    """

    step: int
    epoch: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The kept weights of a trial were tested, or could not be.

    Args:
        metrics: `test/f1`, `naive/f1`, `linear/f1`, …; empty where it failed.
        baselines: Names of the naive and the linear baseline.
        figure: What the model that was left is compared by; `None` = none was left.
        problem: Why it failed, in one line.
        exit_code: What a single run would have ended with.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    metrics: Mapping[str, float] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    figure: Mapping[str, Any] | None = None
    problem: str | None = None
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Its process has died; nothing more will come.

    Args:
        message: How, in a few words; where no other can live, one line for people.
        final: No other worker can live there either.
    """

    message: str
    final: bool = False


Answer = Rung | TrialEnd | Tested | Gone
_ANSWERS: Mapping[str, type[Answer]] = {kind.__name__: kind for kind in get_args(Answer)}


def encode(answer: Answer) -> dict[str, Any]:
    """Return an answer as plain values, its kind among them."""
    return {"say": type(answer).__name__, **asdict(answer)}


def decode(said: Mapping[str, Any]) -> Answer:
    """Return the answer of which `encode` gave the plain values, also after a way as JSON."""
    values = {key: value for key, value in said.items() if key != "say"}
    return read(_ANSWERS[said["say"]], values)


def read(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """Return a record of a kind from plain values, to which JSON has made lists and texts."""
    return TypeAdapter(kind).validate_python(values)
