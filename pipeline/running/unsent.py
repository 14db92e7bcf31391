"""What a person is told of that which MLflow lacks."""

import shlex
import sys
from pathlib import Path


def warn_of_unsent(unsent: int, problem: str | None, *, place: Path, output: Path) -> None:
    """Tell a person that MLflow lacks values, why, and how it gets them.

    Args:
        unsent: How many; 0 needs no word.
        problem: What was in the way of them, or of the run's model, in one line.
        place: Where the values wait.
        output: The folder that holds a folder for each run.
    """
    if problem and not unsent:
        print(f"warning: {problem}", file=sys.stderr)
    if unsent:
        why = f"{problem}; " if problem else ""
        where = shlex.quote(f"output={output}")
        print(
            f"warning: {why}{unsent} values wait in {str(place)!r}; send them with: "
            f"python -m pipeline.runs action=sync {where}",
            file=sys.stderr,
        )
