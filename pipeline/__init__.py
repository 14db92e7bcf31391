"""One command trains a network; everything about that run can be seen, trusted and repeated."""

import sys

__version__ = "0.1.0"

# As `python -m pipeline.train` or `pipeline-train`, the process has imported nothing else yet.
if sys.argv[:1] == ["-m"] or "/pipeline-" in "".join(sys.argv[:1]):
    from pipeline.errors import explain_failed_start
    from pipeline.signals import end_silently

    end_silently()
    sys.excepthook = explain_failed_start
