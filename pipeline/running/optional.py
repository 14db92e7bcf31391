"""What is done for a finished run as well: no fault in it may cost the run its result."""

import logging
import sys
from collections.abc import Callable
from typing import TypeVar

_Item = TypeVar("_Item")


def unless_it_fails(call: Callable[[], _Item], otherwise: _Item, *, what: str) -> _Item:
    """Return what a call gives; where it fails, warn in one line and return something else.

    Args:
        call: Reads a trained network or its figures.
        otherwise: What takes its place.
        what: What is missing then, such as `no feature maps`.
    """
    try:
        return call()
    except Exception as error:  # a network of one's own may do anything
        logging.getLogger("pipeline").exception("%s", what)
        reason = " ".join(str(error).split())[:200]
        print(f"warning: {what}: {type(error).__name__}: {reason}", file=sys.stderr)
        return otherwise
