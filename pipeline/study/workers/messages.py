"""What a worker says, a line of JSON each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from pipeline.processes.lease import Lease
from pipeline.study.trial_end import TrialEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A worker of another machine has found its place, and its process runs.

    Args:
        lease: The process.
    """

    lease: Lease


@dataclass(frozen=True, slots=True)
class Ready:
    """All libraries are loaded; it waits for work."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Its process runs: said once a second."""


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
        classes: Name and counts of each class, as `pipeline.metrics.ClassScores` takes them.
        baselines: Names of the naive and the linear baseline.
        figure: What the model that was left is compared by; `None` = none was left.
        problem: Why it failed, in one line.
        exit_code: What a single run would have ended with.
    """

    __test__ = False  # no test class, whatever its name makes pytest think

    metrics: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[Mapping[str, Any], ...] = ()
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


Message = Placed | Ready | Beat | Rung | TrialEnd | Tested | Gone
_KINDS = {kind.__name__.lower(): kind for kind in get_args(Message)}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "lease": lambda fields: Lease(**fields),
    **dict.fromkeys(("values", "classes", "baselines"), tuple),
}


def encode(message: Message) -> bytes:
    """Return a message as one line."""
    said = {"say": type(message).__name__.lower(), **asdict(message)}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Read what `encode` gave."""
    said: dict[str, Any] = json.loads(line)
    kind: Callable[..., Message] = _KINDS[said.pop("say")]
    return kind(**{key: _READERS[key](v) if key in _READERS else v for key, v in said.items()})
