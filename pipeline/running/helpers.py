"""The processes that load their libraries while a command loads its own, and then help it.

Nothing here imports torch, so that a command can start them first.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from pipeline.linear_fit import FittingProcess
from pipeline.tracking.client import Recorder


@dataclass(frozen=True, slots=True)
class Helpers:
    """The process that fills MLflow and the one that fits the linear baseline; `None` = unused."""

    recorder: Recorder | None
    fitting: FittingProcess | None


@contextmanager
def started_helpers(*, records: bool, fits: bool) -> Iterator[Helpers]:
    """Start the processes that a command needs; they end with the context."""
    # The fit takes less time than the import that its process does meanwhile.
    has_scikit_learn = "sklearn.linear_model" in sys.modules
    with (
        Recorder() if records else nullcontext() as recorder,
        FittingProcess() if fits and not has_scikit_learn else nullcontext() as fitting,
    ):
        yield Helpers(recorder, fitting)
