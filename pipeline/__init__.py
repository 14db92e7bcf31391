"""One command trains a network; everything about that run can be seen, trusted and repeated."""

import os
import signal
import sys

__version__ = "0.1.0"

# As `python -m pipeline.train` or `pipeline-train`, the process has imported nothing else yet.
# Until a command takes over, a stop ends it in silence; Python would print a traceback of whichever
# library it is importing.
if sys.argv[:1] == ["-m"] or "/pipeline-" in "".join(sys.argv[:1]):
    for _stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_stop) is not signal.SIG_IGN:
            signal.signal(_stop, lambda number, _: os._exit(128 + number))

    from pipeline.errors import explain_failed_start

    sys.excepthook = explain_failed_start
