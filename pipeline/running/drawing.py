"""The pictures of a run, drawn by a process of its own while the run writes its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from pipeline.config.options import RunConfig
from pipeline.paths import python_path
from pipeline.pictures.artist import FOLDER
from pipeline.pictures.picture import Written, read_list

VARIABLE = "PIPELINE_PICTURES"
"""`0` in the environment draws no pictures where the config leaves it open."""
SECONDS = 300.0
"""A run waits no longer for its pictures."""


def wants_pictures(options: RunConfig) -> bool:
    """Tell whether a run's pictures are drawn: where it is on record, if nothing else is said."""
    if options.pictures is not None:
        return options.pictures
    return options.tracking.kind != "none" and os.environ.get(VARIABLE) != "0"


class Artist:
    """Draws the pictures of a run whose findings are written; ends with the body of its `with`.

    Args:
        artifacts: Folder of the run's artifacts.
    """

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Artist:
        with suppress(OSError):  # no room for another process, which `finish` finds
            self._process = self._started()
        return self

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.pictures.artist"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": python_path(), "MPLBACKEND": "Agg"},
            start_new_session=True,
        )
        assert process.stdin is not None  # it was asked for
        with suppress(BrokenPipeError):  # it has died at once, which `finish` finds
            process.stdin.write(json.dumps(str(self._artifacts.absolute())).encode() + b"\n")
            process.stdin.flush()
        return process

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def finish(self) -> tuple[list[Written], str | None]:
        """Wait for the pictures; return them, and what has gone wrong where there are none."""
        process = self._process
        if process is None:
            return [], "the pictures could not be drawn: no process for it could be started"
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return [], f"the pictures were not drawn within {SECONDS:.0f} s"
        if code != 0:
            command = "python -m pipeline.report"
            return [], f"the pictures could not be drawn (exit code {code}); {command} may say more"
        return read_list(self._artifacts / FOLDER), None
