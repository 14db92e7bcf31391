"""A process that draws a run's pictures: `python -m pipeline.pictures.artist`.

Importing Matplotlib takes a third of a second and each picture a twentieth, while the run writes
its model. The process reads the folder of the artifacts from its standard input, and ends when
that is closed.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Draw the pictures of one run."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    artifacts = Path(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    from pipeline.pictures.gallery import draw_all

    draw_all(artifacts)
    os._exit(0)  # the thread may still wait for the pipe


def _end_with_the_pipe() -> None:
    os.read(0, 1)  # nothing more is sent: this returns when the pipe is closed
    os._exit(1)


if __name__ == "__main__":
    main()
