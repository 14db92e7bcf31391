"""`python -m pipeline.evaluate`: the command `evaluate`."""

import sys

from pipeline.commands.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
