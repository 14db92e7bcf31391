"""The processes that load their libraries while a command loads its own, and then help it.

Nothing here imports torch, so that a command can start them first.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from pipeline.base.processes.child import Child, python_module
from pipeline.config.options import RunConfig
from pipeline.scoring.fitting_process import FittingProcess
from pipeline.tracking.client import RecorderClient

#: Environment variable; `0` turns pictures off if the config does not decide.
VARIABLE = "PIPELINE_PICTURES"
#: The process that draws the pictures of a run and writes its report.
REPORTER = "pipeline.reporting.run_page"


@dataclass(frozen=True, slots=True)
class Helpers:
    """The process that fills MLflow and the one that fits baselines; `None` = unused."""

    recorder: RecorderClient | None
    fitting: FittingProcess | None


@contextmanager
def started_helpers(*, records: bool, fits: bool) -> Iterator[Helpers]:
    """Start the processes that a command needs; they end with the context."""
    # The fit takes less time than the import that its process does meanwhile.
    has_scikit_learn = "sklearn.linear_model" in sys.modules
    with (
        RecorderClient() if records else nullcontext() as recorder,
        FittingProcess() if fits and not has_scikit_learn else nullcontext() as fitting,
    ):
        yield Helpers(recorder, fitting)


def wants_pictures(options: RunConfig) -> bool:
    """Return whether a run's pictures are drawn and its report is written; both are by default."""
    return os.environ.get(VARIABLE) != "0" if options.pictures is None else options.pictures


@contextmanager
def started_artist(options: RunConfig) -> Iterator[Child]:
    """Start the process that draws the pictures of a run, if they are wanted, and end it.

    It starts before Lightning is imported, since it would later share a core with the training.
    """
    artist = Child(python_module(REPORTER), environment={"MPLBACKEND": "Agg"})
    if wants_pictures(options):
        with suppress(OSError):  # no process can be started, which the run reports
            artist.start()
    try:
        yield artist
    finally:
        artist.close(0.0)
