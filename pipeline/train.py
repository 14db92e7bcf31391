"""`python -m pipeline.train`: the command `train`."""

import sys

from pipeline.commands.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
