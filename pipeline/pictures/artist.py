"""A process that draws a run's pictures: `python -m pipeline.pictures.artist`.

Importing Matplotlib takes a third of a second and each picture a twentieth, while the run writes
its model. The process is told the folder of the artifacts, and ends with the run's process.
"""

import os
import signal
from pathlib import Path

from pipeline.processes.parent import Parent


def main() -> None:
    """Draw the pictures of one run."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the run decides when to stop
    parent = Parent.claim()
    artifacts = Path(parent.first_message()["artifacts"])
    parent.listen()
    from pipeline.pictures.gallery import draw_all

    draw_all(artifacts)
    os._exit(0)  # without waiting for Matplotlib's way out


if __name__ == "__main__":
    main()
