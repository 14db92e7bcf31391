"""`python -m pipeline.runs`: the command `runs`."""

import sys

from pipeline.commands.runs import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
