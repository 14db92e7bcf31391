"""A trial that failed before its run began, on record all the same."""

import logging
import traceback
from contextlib import closing, suppress
from pathlib import Path

from pydantic import ValidationError

from pipeline.config.options import TrackingOptions
from pipeline.config.record import flatten, plain, resolved
from pipeline.errors import EnvironmentFaultError, Interrupted, PipelineError
from pipeline.redaction import redact
from pipeline.running.plan import Occasion
from pipeline.running.recording import LOG, ending, explain, log_to
from pipeline.study.workers.job import Job
from pipeline.tracking.journal import JOURNAL, Header, Journal
from pipeline.tracking.uri import tracking_uri


def put_on_record(job: Job, occasion: Occasion, error: BaseException) -> None:
    """Write the journal of a trial that has none yet: what it was to be, and how it failed."""
    folder = Path(job.folder)
    if (folder / JOURNAL).exists():
        return
    with log_to(folder / LOG, lean=True):
        logging.getLogger("pipeline").error("".join(traceback.format_exception(error)))
    # On a full disk not even this fits; the driver knows it from the message that follows.
    with suppress(EnvironmentFaultError), closing(Journal(folder)) as journal:
        journal.begin(_header(job, occasion))
        journal.end(*ending(explain(error), error))


def _header(job: Job, occasion: Occasion) -> Header:
    tracking = _tracking(job)
    return Header(
        name=job.name,
        experiment="" if tracking is None else tracking.experiment,
        uri="" if tracking is None or tracking.kind == "none" else tracking_uri(tracking),
        params=flatten(plain(job.config)),
        tags={**(occasion.made_with or {}), **occasion.tags},
        parent_folder=occasion.parent_folder,
        key=occasion.key,
    )


def _tracking(job: Job) -> TrackingOptions | None:
    """Return where the trial was to be recorded, as far as its config can say."""
    values, _ = resolved(job.config)
    try:
        return TrackingOptions.model_validate(values["tracking"])
    except (ValidationError, KeyError):
        return None


def one_line(error: BaseException) -> str:
    """Say in one line for people what ended a trial."""
    if isinstance(error, PipelineError):
        words = "; ".join(line for problem in error.problems for line in problem.splitlines())
    elif isinstance(error, Interrupted):
        words = "interrupted"
    else:
        text = " ".join(str(error).split())
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        words = f"{type(error).__name__}: {text or 'no further word'}{where}"
    return redact(words)
