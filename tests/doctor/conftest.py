"""The cases stand beside the benchmark that tells all of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
