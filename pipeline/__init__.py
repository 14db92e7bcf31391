"""One command trains a network; everything about that run can be seen, trusted and repeated."""

import os
import sys

__version__ = "0.1.0"

COMMANDS = ("train", "sweep", "evaluate", "predict", "export", "report", "runs")
#: The exit code of the command that is all that this process does, once the command has ended.
exit_codes: list[int] = []


def _is_ours() -> bool:
    """Return whether the process has begun as one of the program's commands."""
    if sys.argv[:1] == ["-m"]:
        return sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] == "pipeline"
    program = "".join(sys.argv[:1]).rpartition("/")[2]
    return program == "pipeline" or program in [f"pipeline-{command}" for command in COMMANDS]


def _explain_unless_interrupted(kind: type[BaseException], error: BaseException, _: object) -> None:
    if issubclass(kind, KeyboardInterrupt):
        os._exit(130)
    sys.__excepthook__(kind, error, error.__traceback__)


# Until a command takes over, a stop ends such a process in silence; Python would print a traceback
# of whichever module it is importing. What comes before the hook imports nothing that Python has
# not loaded already, so that a stop hardly meets it.
if _is_ours():
    sys.excepthook = _explain_unless_interrupted

    import atexit
    import signal

    for _stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_stop) is not signal.SIG_IGN:
            signal.signal(_stop, lambda number, _: os._exit(128 + number))
    # Taking the libraries' modules apart takes a tenth of a second. What is registered first is
    # called last, when all threads and all other functions that are called at exit have ended.
    atexit.register(lambda: os._exit(exit_codes[0]) if exit_codes else None)

    from pipeline.base.errors import explain_failed_start

    sys.excepthook = explain_failed_start
