"""`python -m pipeline.report`: the command `report`."""

import sys

from pipeline.commands.report import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
