"""Reaches the store of a run while the training process loads its libraries."""

import sys
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Thread

from pipeline.config.options import TrackingOptions
from pipeline.tracking.client import Recorder

REFUSAL_SECONDS = 0.1
"""Long enough for a closed port to show, too short to be felt."""


@contextmanager
def connecting(recorder: Recorder, options: TrackingOptions, uri: str) -> Iterator[None]:
    """Connect the recorder while the body runs; afterwards it is connected.

    A stop does not wait for it: the recorder's process then ends by itself.

    Raises:
        EnvironmentFaultError: The store does not answer, and the run requires it.
    """
    connected: Future[str | None] = Future()
    Thread(target=_connect, args=(connected, recorder, options, uri), daemon=True).start()
    try:
        if wait([connected], timeout=REFUSAL_SECONDS).done:
            connected.result()  # a server that is down is told at once
        yield
        problem = connected.result()
    except BaseException:
        if not connected.done():
            recorder.abandon()
        raise
    if problem is not None:
        print(f"warning: {problem}; the values wait in the run folder", file=sys.stderr)


def _connect(
    connected: Future[str | None], recorder: Recorder, options: TrackingOptions, uri: str
) -> None:
    try:
        connected.set_result(
            recorder.connect(uri, experiment=options.experiment, required=options.required)
        )
    except Exception as error:  # the waiting thread raises it
        connected.set_exception(error)
