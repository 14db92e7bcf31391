"""`python -m pipeline.predict`: the command `predict`."""

import sys

from pipeline.commands.predict import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
