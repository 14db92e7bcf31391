"""`python -m pipeline.evaluate`: the command `evaluate`."""

import sys

from pipeline.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
