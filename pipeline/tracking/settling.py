"""What MLflow is told of the model that a finished run has left. No run fails by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.tracking.faults import StoreError
from pipeline.tracking.figure import Figure
from pipeline.tracking.journal import Event

if TYPE_CHECKING:
    from pipeline.tracking.store import Store

REGISTERED_TAG = "registered"
PROBLEM_TAG = "model.problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A run whose folder holds a model.

    Args:
        folder: The run's folder.
        run_id: MLflow's id of the run.
        experiment_id: MLflow's id of its experiment.
        trust: Packages whose classes the model may name.
    """

    folder: Path
    run_id: str
    experiment_id: str
    trust: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a run's model.

    Args:
        registered: What its registration came to, in one line; `None` = it was not asked for.
        problem: Why MLflow will never have it, in one line.
    """

    registered: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What became of a run that was closed.

    Args:
        unsent: Values that the store lacks.
        problem: What is in the way of them, or of the run's model, in one line.
        registered: What the registration of its model came to, in one line.
    """

    unsent: int
    problem: str | None
    registered: str | None


def settle(store: "Store", left: Left, *, model: Event, register: str | None) -> Settled:
    """Log a run's model and register it, each unless it has been; note on the run how that ended.

    Args:
        store: Where the run is.
        left: The run.
        model: What its journal says of the model.
        register: The name to register it by; `None` = it is not.

    Raises:
        StoreError: The store does not answer; a later try may help.
    """
    try:
        settled = Settled(registered=_registered(store, left, model, register))
    except StoreError as error:
        if error.transient:
            raise
        settled = Settled(problem=error.line)
    tags = {REGISTERED_TAG: settled.registered, PROBLEM_TAG: settled.problem}
    store.log(left.run_id, tags={key: line for key, line in tags.items() if line is not None})
    return settled


def _registered(store: "Store", left: Left, model: Event, name: str | None) -> str | None:
    # They take a second to import, and only a run that leaves a model needs them.
    from pipeline.tracking.models import logged_model
    from pipeline.tracking.registry import register

    logged = logged_model(store, left)
    if name is None:
        return None
    return register(store, name, logged, Figure(**model["figure"]))
