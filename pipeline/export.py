"""`python -m pipeline.export`: the command `export`."""

import sys

from pipeline.commands.export import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
