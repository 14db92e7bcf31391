"""A process that draws a run's pictures: `python -m pipeline.pictures.artist`.

Matplotlib takes a third of a second to import and each picture a twentieth, and meanwhile the run
has its model to write. It is told on its standard input where the findings lie, and ends with it.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

FOLDER = "pictures"
"""Folder among a run's artifacts."""


def main() -> None:
    """Draw the pictures of one run."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run says when to stop
    artifacts = Path(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    draw(artifacts)
    os._exit(0)  # the thread may hold the pipe


def draw(artifacts: Path) -> None:
    """Draw all pictures of the findings among a run's artifacts into its folder `pictures`."""
    from pipeline.findings.files import load
    from pipeline.pictures.gallery import gallery
    from pipeline.pictures.picture import write_pictures
    from pipeline.pictures.texts import texts

    findings = load(artifacts)
    write_pictures(gallery(findings), artifacts / FOLDER, texts=texts(findings))


def _end_with_the_pipe() -> None:
    os.read(0, 1)  # nothing more is said to this process: what comes is the end
    os._exit(1)


if __name__ == "__main__":
    main()
