"""`python -m pipeline.sweep`: the command `sweep`."""

import sys

from pipeline.commands.sweep import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
