"""Events of a run's journal: a line of JSON each, checked when it is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from pipeline.base.ends import Status, TrialEnd
from pipeline.base.processes.lease import Lease
from pipeline.tracking.fields import COMMAND_TAG

Scalar = str | int | float | bool | None
#: A whole number that fits into the columns of a database.
Count = Annotated[int, Field(ge=0, lt=1 << 53)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a run before its first epoch.

    `uri` is the address of the store, '' if there is none; `params` is the flattened configuration.
    `parent` is the MLflow id of the parent run; `parent_folder` is the parent's folder, for when
    that id is not known yet. `key` is a unique name that identifies the run in MLflow; `None` means
    the folder's name. `register` is the name under which the model is registered. `trust` lists
    packages whose classes the model may name. `rows` is the number of rows of each part of the
    data, empty if the run has none of its own. `order` is larger than that of each run that the
    same user began before; `None` means the time, as for trials and older runs.
    """

    name: str
    experiment: str
    uri: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    parent_folder: str | None = None
    key: str | None = None
    register: str | None = None
    trust: Sequence[str] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    order: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """The validation value by which a model is judged, and the hash of its training data.

    `monitor` is the metric, `None` if none was monitored; `value` is `None` if it is unknown.
    """

    data: str
    monitor: str | None
    value: float | None
    better: Literal["max", "min"]


def _without_other_keys(record: type, value: object) -> object:
    """Return a value, of which the keys are fields of a record. Raises ValueError for others."""
    names = {field.name for field in fields(record)}
    if isinstance(value, dict) and not names.issuperset(value):
        raise ValueError(f"expected no keys but {', '.join(sorted(names))}")
    return value


_CONFIG = ConfigDict(allow_inf_nan=False, defer_build=True)


class _Line(BaseModel):
    """What each line of a journal has."""

    model_config = _CONFIG

    event: str
    time: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginEvent(Header):
    """What `Journal.begin` writes; older versions wrote all that has no default here."""

    __pydantic_config__ = _CONFIG

    event: Literal["begin"]
    time: Count
    lease: Annotated[Lease, BeforeValidator(partial(_without_other_keys, Lease))]
    params: Mapping[str, Scalar]
    tags: Mapping[str, str]
    parent: str | None

    @property
    def command(self) -> str:
        """Command that the run belongs to, such as `train`."""
        return self.tags.get(COMMAND_TAG, "train")


class EpochEvent(_Line):
    """Values of an epoch, counted from 1."""

    event: Literal["epoch"]
    epoch: Count
    values: dict[str, float]


class TagEvent(_Line):
    """A tag of the run, which replaces an earlier one of the same key."""

    event: Literal["tag"]
    key: str
    value: str


class ModelEvent(_Line):
    """The folder holds the run's complete model."""

    event: Literal["model"]
    figure: Annotated[ModelScore, BeforeValidator(partial(_without_other_keys, ModelScore))]


class EndEvent(_Line):
    """How the run ended; `reason` tells why early, `None` if it did not."""

    event: Literal["end"]
    status: Status
    reason: str | None
    details: TrialEnd | None = None


RunEvent = BeginEvent | EpochEvent | TagEvent | ModelEvent | EndEvent
_EVENT: TypeAdapter[RunEvent] = TypeAdapter(
    Annotated[RunEvent, Field(discriminator="event")], config=ConfigDict(defer_build=True)
)


def parse_line(line: bytes) -> RunEvent | None:
    """Parse one line; `None` if it is damaged.

    A line counts as damaged if it is not JSON, or if a key of its event is missing or has a value
    of another type, so that readers can rely on all of them.
    """
    try:
        return _EVENT.validate_json(line, strict=True)
    except ValueError:  # pydantic's error is one
        return None
