"""What a person is told of that which MLflow lacks."""

import shlex
import sys
from pathlib import Path

from pipeline.tracking.uri import uri_words


def warn_of_unsent(
    unsent: int, problem: str | None, *, place: Path, output: Path, uri: str | None
) -> None:
    """Tell a person that MLflow lacks values, why, and how it gets them.

    Args:
        unsent: How many; 0 needs no word.
        problem: What was in the way, in one line.
        place: Where the values wait.
        output: The folder that holds a folder for each run.
        uri: The store that they are for; `None` = nothing is tracked.
    """
    if unsent:
        why = f"{problem}; " if problem else ""
        where = shlex.join([f"output={output}", *uri_words(uri or "")])
        print(
            f"warning: {why}{unsent} values wait in {str(place)!r}; send them with: "
            f"python -m pipeline.runs action=sync {where}",
            file=sys.stderr,
        )


def warn_of_model(unsent: int, problem: str | None) -> None:
    """Tell a person why MLflow has all of a run but its model, which stays in the run's folder.

    Args:
        unsent: How many values MLflow lacks; those are told by themselves.
        problem: What was in the way, in one line.
    """
    if problem and not unsent:
        print(f"warning: {problem}", file=sys.stderr)
